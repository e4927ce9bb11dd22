package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

func TestRefreshPace(t *testing.T) {
	t.Parallel()
	// rotate refreshes until a refresh is refused, and returns the number of successes.
	rotate := func(t *testing.T, w *world, token auth.Secret) (n int, last auth.Secret) {
		t.Helper()
		for ; n < 1000; n++ {
			g, err := w.Refresh(token)
			if auth.CodeOf(err) == auth.RateLimited {
				return n, token
			}
			token = must(g, err)(t).RefreshToken
		}
		t.Fatal("a thousand refreshes without a limit")
		return 0, ""
	}
	t.Run("a session rotates 20 times at once, and then once a second", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		n, token := rotate(t, w, w.Login("alice").RefreshToken)
		if n != 20 {
			t.Errorf("%d rotations at once, want 20", n)
		}
		calls := w.store.calls.Load()
		_, err := w.Refresh(token)
		var e *auth.Error
		if !errors.As(err, &e) || e.Code != auth.RateLimited || e.RetryAfter != time.Second {
			t.Errorf("Refresh() error = %v, want rate_limited for 1s", err)
		}
		if w.store.calls.Load() != calls {
			t.Error("a refused refresh reached the store")
		}
		for range 40 {
			w.Clock.Advance(time.Second)
			if n, token = rotate(t, w, token); n != 1 {
				t.Fatalf("%d rotations in a second, want 1", n)
			}
		}
		w.Clock.Advance(time.Hour)
		if n, _ = rotate(t, w, token); n != 20 {
			t.Errorf("%d rotations after an hour, want 20", n)
		}
	})
	t.Run("a session rotates at most 30 times in any ten seconds", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		token := w.Login("alice").RefreshToken
		const step, steps = 100 * time.Millisecond, 300
		var rotations [steps]int
		for i := range steps {
			rotations[i], token = rotate(t, w, token)
			w.Clock.Advance(step)
		}
		highest := 0
		for i := range steps - 100 {
			sum := 0
			for _, n := range rotations[i : i+100] {
				sum += n
			}
			highest = max(highest, sum)
		}
		if highest > 30 || highest < 29 {
			t.Errorf("at most %d rotations in ten seconds, want 29 or 30", highest)
		}
	})
	t.Run("other sessions of the same user are not limited", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		rotate(t, w, w.Login("alice").RefreshToken)
		must(w.Refresh(w.Login("alice").RefreshToken))(t)
	})
	t.Run("a thief who refreshes in a loop does not hide a reuse", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		stolen := w.Login("alice").RefreshToken
		rotate(t, w, stolen)
		if _, err := w.Refresh(stolen); auth.CodeOf(err) != auth.RefreshReused {
			t.Errorf("Refresh() error = %v, want refresh_reused", err)
		}
	})
	t.Run("only rotations count", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		first := w.Login("alice").RefreshToken
		second := must(w.Refresh(first))(t).RefreshToken
		for range 100 {
			if g := must(w.Refresh(first))(t); g.Verdict != session.Replay {
				t.Fatalf("verdict = %v, want a replay", g.Verdict)
			}
			mangled := []byte(second.Reveal())
			mangled[len(mangled)-5] ^= 1
			if _, err := w.Refresh(auth.Secret(mangled)); auth.CodeOf(err) != auth.RefreshInvalid {
				t.Fatalf("Refresh() error = %v, want %v", err, auth.RefreshInvalid)
			}
		}
		if n, _ := rotate(t, w, second); n != 19 {
			t.Errorf("%d rotations are left, want 19", n)
		}
	})
	t.Run("a replay over the limit is admitted within a second", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		_, token := rotate(t, w, w.Login("alice").RefreshToken)
		w.Clock.Advance(time.Second)
		must(w.Refresh(token))(t) // the answer is lost
		if _, err := w.Refresh(token); auth.CodeOf(err) != auth.RateLimited {
			t.Errorf("Refresh() error = %v, want rate_limited", err)
		}
		w.Clock.Advance(time.Second)
		if g := must(w.Refresh(token))(t); g.Verdict != session.Replay {
			t.Errorf("verdict = %v, want a replay", g.Verdict)
		}
	})
}
