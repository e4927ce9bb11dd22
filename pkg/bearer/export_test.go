package bearer

import (
	"cmp"
	"context"
	"hash/maphash"
	"time"
)

// Tuning holds the times that tests change. Zero fields keep the values of New; Silence
// also replaces the timeout for a connection's first event.
type Tuning struct {
	Clock                                 func() time.Time
	Wait, Fetch, Silence, Refused, Issuer time.Duration
}

// NewWait is how long New waits.
const NewWait = newWait

// NewTuned is New with other times.
func NewTuned(ctx context.Context, cfg Config, t Tuning) (*Verifier, error) {
	tune := defaultTuning
	if t.Clock != nil {
		tune.clock = t.Clock
	}
	tune.newWait = cmp.Or(t.Wait, tune.newWait)
	tune.fetchTimeout = cmp.Or(t.Fetch, tune.fetchTimeout)
	tune.firstEventTimeout = cmp.Or(t.Silence, tune.firstEventTimeout)
	tune.eventTimeout = cmp.Or(t.Silence, tune.eventTimeout)
	tune.refusedPause = cmp.Or(t.Refused, tune.refusedPause)
	tune.issuerPause = cmp.Or(t.Issuer, tune.issuerPause)
	return newVerifier(ctx, cfg, tune)
}

// Cutoffs returns the number of cutoffs that a verifier holds.
func Cutoffs(v *Verifier) int { return v.cutoffs.Len() }

// Remembered returns the number of tokens in a verifier's cache.
func Remembered(v *Verifier) int {
	n := 0
	for i := range v.cache.slots {
		if v.cache.slots[i].Load() != nil {
			n++
		}
	}
	return n
}

// Access to unexported parts for the tests.
var (
	ParseKeySet = func(data []byte, allowed ...string) (algs map[string]string, skipped []error, err error) {
		if len(allowed) == 0 {
			allowed = algorithms
		}
		keys, skipped, err := parseKeySet(data, allowed)
		algs = map[string]string{}
		for kid, k := range keys {
			algs[kid] = k.alg
		}
		return algs, skipped, err
	}
	MaxAge  = maxAge
	Backoff = backoff
	Members = func(data []byte) (names []string, ok bool) {
		ok = members(data, func(name string, _ []byte) bool {
			names = append(names, name)
			return true
		})
		return names, ok
	}
	TextOf = textOf
)

// Mistakes reports whether a cache confuses a and b when their hashes collide.
func Mistakes(a, b string) bool {
	c := newCache(0)
	e := &entry{}
	c.put(a, e, time.Time{})
	e.hash = maphash.String(c.seed, b)
	return c.get(b) == e
}
