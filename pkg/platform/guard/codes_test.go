package guard

import (
	"fmt"
	"testing"
	"time"
)

func TestCodeSet(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	claim := func(t *testing.T, s *codeSet, code string, at time.Duration, want bool) {
		t.Helper()
		if s.claim(hashCode(lane{kindLogIn, "wx1"}, nil, code), "caller", start.Add(at)) != want {
			t.Errorf("after %s: claim(%s) = %v, want %v", at, code, !want, want)
		}
	}
	t.Run("a code is remembered for longer than it is valid", func(t *testing.T) {
		t.Parallel()
		const step = codeMemory / 97
		for came := time.Duration(0); came < 3*codeMemory; came += step {
			s := newCodeSet(1 << 10)
			for at := time.Duration(0); at < came+codeMemory; at += step {
				claim(t, s, fmt.Sprint("every now and then ", at), at, true)
				if at >= came {
					claim(t, s, "the one", at, at == came)
				}
			}
		}
	})
	t.Run("old codes are dropped", func(t *testing.T) {
		t.Parallel()
		s := newCodeSet(1 << 20)
		for second := range 3600 {
			for i := range 10 {
				claim(t, s, fmt.Sprint(second, i), time.Duration(second)*time.Second, true)
			}
		}
		if n, want := len(s.current)+len(s.previous), 10*int(2*codeMemory/time.Second); n > want {
			t.Errorf("%d codes are remembered, want at most %d", n, want)
		}
		claim(t, s, "much later", 100*time.Hour, true)
		if n := len(s.current) + len(s.previous); n != 1 {
			t.Errorf("%d codes are remembered after a long time, want 1", n)
		}
	})
	t.Run("a flood drops the oldest codes and does not fill the memory", func(t *testing.T) {
		t.Parallel()
		const limit = 1 << 10
		s := newCodeSet(limit)
		for i := range 100 * limit {
			claim(t, s, fmt.Sprint(i), 0, true)
			if n := len(s.current) + len(s.previous); n > limit {
				t.Fatalf("%d codes are remembered, want at most %d", n, limit)
			}
			claim(t, s, fmt.Sprint(max(0, i-limit/2+1)), 0, false)
		}
	})
	t.Run("a released code can be claimed again", func(t *testing.T) {
		t.Parallel()
		s := newCodeSet(1 << 10)
		claim(t, s, "x", 0, true)
		s.release(hashCode(lane{kindLogIn, "wx1"}, nil, "x"))
		claim(t, s, "x", 0, true)
	})
}
