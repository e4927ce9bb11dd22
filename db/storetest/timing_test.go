package storetest

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestApart(t *testing.T) {
	t.Parallel()
	const samples = 300
	// noisy takes about the given time, as on a busy machine.
	noisy := func(d time.Duration) time.Duration {
		return d + time.Duration(rand.ExpFloat64()*float64(time.Millisecond))
	}
	longer := func(first bool, by time.Duration) time.Duration {
		if first {
			return by
		}
		return 0
	}
	for name, tc := range map[string]struct {
		take func(i int, first bool) time.Duration
		want bool
	}{
		"an equal time":          {func(int, bool) time.Duration { return noisy(0) }, false},
		"exactly the same time":  {func(int, bool) time.Duration { return 1 }, false},
		"a longer time":          {func(_ int, first bool) time.Duration { return noisy(longer(first, time.Millisecond)) }, true},
		"a shorter time":         {func(_ int, first bool) time.Duration { return noisy(longer(!first, time.Millisecond)) }, true},
		"a slightly longer time": {func(_ int, first bool) time.Duration { return noisy(longer(first, 20*time.Microsecond)) }, false},
		"a time that was longer for a while": {func(i int, first bool) time.Duration {
			if i >= 2*samples {
				first = false
			}
			return noisy(longer(first, time.Millisecond))
		}, false},
		"a time that was longer and then shorter": {func(i int, first bool) time.Duration {
			return noisy(longer(first == (i < 2*samples), time.Millisecond))
		}, false},
	} {
		if got, found := Apart(samples, tc.take); got != tc.want {
			t.Errorf("%s: Apart() = %t, want %t (%s)", name, got, tc.want, found)
		}
	}
}
