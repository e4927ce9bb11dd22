package oauth_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/pkg/token"
)

func TestMemo(t *testing.T) {
	t.Parallel()
	session := func(ver int64) *token.Claims {
		return &token.Claims{Session: uuid.MustParse("01936e2a-7b1d-7a52-9c33-1f2e3d4c5b6a"), Ver: ver}
	}
	t.Run("forgets after a minute, and what another ver had at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reads := 0
			get, closeMemo := oauth.NewMemo(func(context.Context, *token.Claims) (int, error) { reads++; return reads, nil })
			defer closeMemo()
			want := func(c *token.Claims, n int) {
				t.Helper()
				if got, err := get(t.Context(), c); got != n || err != nil {
					t.Errorf("%d, %v; want %d", got, err, n)
				}
			}
			want(session(1), 1)
			want(session(1), 1)
			want(session(2), 2)
			time.Sleep(oauth.Remembered - time.Second)
			want(session(1), 1)
			time.Sleep(2 * time.Second)
			want(session(1), 3)
		})
	})
	t.Run("reads once for all who wait, whoever of them goes", func(t *testing.T) {
		t.Parallel()
		begun, release := make(chan struct{}), make(chan struct{})
		get, closeMemo := oauth.NewMemo(func(ctx context.Context, _ *token.Claims) (string, error) {
			close(begun) // a second time it panics
			<-release
			return "read", ctx.Err()
		})
		defer closeMemo()
		first, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ask := func(ctx context.Context) {
			if got, err := get(ctx, session(1)); got != "read" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
		all.Go(func() { ask(first) })
		<-begun
		leave()
		for range 8 {
			all.Go(func() { ask(t.Context()) })
		}
		close(release)
		all.Wait()
	})
	t.Run("remembers no failure", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("broken")
		failure := broken
		get, closeMemo := oauth.NewMemo(func(context.Context, *token.Claims) (int, error) { return 1, failure })
		defer closeMemo()
		if _, err := get(t.Context(), session(1)); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		failure = nil
		if got, err := get(t.Context(), session(1)); got != 1 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
}
