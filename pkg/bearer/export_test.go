package bearer

import (
	"cmp"
	"context"
	"crypto/sha256"
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

// Remembered returns the number of tokens that a verifier remembers, and the bytes of the
// tables that hold them.
func Remembered(v *Verifier) (tokens, size int) {
	g := v.cache.now.Load()
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.RLock()
		for _, s := range sh.slots {
			if s.family != 0 {
				tokens++
			}
		}
		size += len(sh.slots) * slotBytes
		sh.mu.RUnlock()
	}
	return tokens, size
}

// IsRemembered reports whether a verifier remembers the token.
func IsRemembered(v *Verifier, token string) bool { return v.cache.get(token, v.issuer) != nil }

// Families returns the number of families that a verifier remembers.
func Families(v *Verifier) int { return len(*v.cache.now.Load().families.Load()) - 1 }

// FamilyBytes returns the size of the families that a verifier remembers, in bytes.
func FamilyBytes(v *Verifier) int {
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	return v.cache.now.Load().familyBytes
}

// MinGeneration is the time for which families are remembered at least.
const MinGeneration = minGeneration

// BucketBytes is the size of a bucket, and so of the smallest memory.
const BucketBytes = bucketBytes

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

// Collides reports whether the memory of a verifier takes another token for a remembered one
// when the hashes differ only in the byte at i.
func Collides(v *Verifier, token string, i int) bool {
	hash := sha256.Sum256([]byte(token))
	g := v.cache.now.Load()
	if _, ok := g.shardOf(hash).find(hash); !ok {
		return true
	}
	sh := g.shardOf(hash)
	hash[i] ^= 1
	_, ok := sh.find(hash)
	return ok
}
