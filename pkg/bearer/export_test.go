package bearer

import (
	"cmp"
	"context"
	"hash/maphash"
	"time"
)

// Tuning is what tests change about time. Zero fields keep what New uses;
// Silence is the patience with a connection's first event as well.
type Tuning struct {
	Clock                                 func() time.Time
	Wait, Fetch, Silence, Refused, Issuer time.Duration
}

// NewWait is how long New waits.
const NewWait = newWait

// NewTuned is New with another sense of time.
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

// Cutoffs returns how many cutoffs a verifier holds.
func Cutoffs(v *Verifier) int { return v.cutoffs.Len() }

// Remembered returns how many tokens a verifier remembers.
func Remembered(v *Verifier) int {
	n := 0
	for i := range v.cache.slots {
		if v.cache.slots[i].Load() != nil {
			n++
		}
	}
	return n
}

// What the tests of unexported parts need.
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

// Mistakes reports whether a cache takes b for a when their hashes collide.
func Mistakes(a, b string) bool {
	c := newCache(0)
	e := &entry{}
	c.put(a, e, time.Time{})
	e.hash = maphash.String(c.seed, b)
	return c.get(b) == e
}
