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
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

func TestReadCache(t *testing.T) {
	t.Parallel()
	session := func(ver int64) *token.Claims {
		return &token.Claims{Session: uuid.MustParse("01936e2a-7b1d-7a52-9c33-1f2e3d4c5b6a"), Ver: ver}
	}
	answering := func() bool { return true }
	t.Run("a value is forgotten after a minute, and at once for another ver", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reads := 0
			get, closeMemo := oauth.NewReadCache(answering, func(context.Context, *token.Claims) (int, error) { reads++; return reads, nil })
			defer closeMemo()
			want := func(c *token.Claims, n int) {
				t.Helper()
				if got, err := get(t.Context(), c); got != n || err != nil {
					t.Errorf("get() = %d, error %v, want %d", got, err, n)
				}
			}
			want(session(1), 1)
			want(session(1), 1)
			want(session(2), 2)
			time.Sleep(oauth.CacheTTL - time.Second)
			want(session(1), 1)
			time.Sleep(2 * time.Second)
			want(session(1), 3)
		})
	})
	t.Run("concurrent callers share one read, also when the first one leaves", func(t *testing.T) {
		t.Parallel()
		begun, release := make(chan struct{}), make(chan struct{})
		get, closeMemo := oauth.NewReadCache(answering, func(ctx context.Context, _ *token.Claims) (string, error) {
			close(begun) // panics if called twice
			<-release
			return "read", ctx.Err()
		})
		defer closeMemo()
		first, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ask := func(ctx context.Context) {
			if got, err := get(ctx, session(1)); got != "read" || err != nil {
				t.Errorf("got %q, error %v", got, err)
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
	t.Run("failures are not remembered", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("broken")
		failure := broken
		get, closeMemo := oauth.NewReadCache(answering, func(context.Context, *token.Claims) (int, error) { return 1, failure })
		defer closeMemo()
		if _, err := get(t.Context(), session(1)); !errors.Is(err, broken) {
			t.Errorf("get() error = %v, want %v", err, broken)
		}
		failure = nil
		if got, err := get(t.Context(), session(1)); got != 1 || err != nil {
			t.Errorf("got %d, error %v", got, err)
		}
	})
	t.Run("a database that hangs is awaited for a second, one that is known to be unavailable not at all", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			known, hangs := false, false
			get, closeMemo := oauth.NewReadCache(func() bool { return !known }, func(ctx context.Context, _ *token.Claims) (string, error) {
				if hangs {
					<-ctx.Done()
				}
				return "read", ctx.Err()
			})
			defer closeMemo()
			want := func(ver int64, value string, code auth.Code, wait time.Duration) {
				t.Helper()
				began := time.Now()
				if got, err := get(t.Context(), session(ver)); got != value || auth.CodeOf(err) != code {
					t.Errorf("get() = %q, error %v; want %q, %q", got, err, value, code)
				}
				if waited := time.Since(began); waited != wait {
					t.Errorf("get() took %s, want %s", waited, wait)
				}
			}
			want(1, "read", "", 0)
			hangs = true
			want(1, "read", "", 0)
			want(2, "", auth.StorageUnavailable, time.Second)
			known = true
			want(1, "read", "", 0)
			want(2, "", auth.StorageUnavailable, 0)
			known, hangs = false, false
			want(2, "read", "", 0)
		})
	})
}
