package binding

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// AttemptKind says what an attempt is counted against.
type AttemptKind string

// The kinds there are. Every method counts against the identity that tries. Facts
// and webhooks count against the address too, because who has many identities may
// still have one address; tickets and phones do not, and only facts count
// against the value that was looked up: so no stranger keeps a colleague from
// binding by ticket or phone.
const (
	// ByIdentity keys are uuids.
	ByIdentity AttemptKind = "identity"
	// ByValue keys are the MACs of looked-up facts, in hexadecimal, whether or not
	// anybody has them.
	ByValue AttemptKind = "value"
	// ByAddress keys are an IPv4 address or a /64 network of IPv6, and an app.
	ByAddress AttemptKind = "address"
)

// AttemptKey is what an attempt is counted against.
type AttemptKey struct {
	Kind AttemptKind
	Key  string
}

// IdentityKey returns the key of an identity.
func IdentityKey(id uuid.UUID) AttemptKey { return AttemptKey{ByIdentity, id.String()} }

// ValueKey returns the key of a looked-up fact by its MAC.
func ValueKey(mac []byte) AttemptKey { return AttemptKey{ByValue, hex.EncodeToString(mac)} }

// AddressKey returns the key of a client's network, as web.Network names it, in
// one app.
func AddressKey(network, appID string) AttemptKey {
	return AttemptKey{ByAddress, network + " " + appID}
}

// Address returns the network and the app of a key of [ByAddress].
func (k AttemptKey) Address() (network, appID string) {
	network, appID, _ = strings.Cut(k.Key, " ")
	return network, appID
}

// compareAttemptKeys orders keys as stores lock them: by kind, then by key, byte
// by byte.
func compareAttemptKeys(a, b AttemptKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key))
}

// Limit is how much guessing a kind admits.
type Limit struct {
	// Free is how many failures delay nobody.
	Free int
	// Forgive is how long it takes until one failure is forgotten.
	Forgive time.Duration
	// First is the delay after the last free failure, and Longest the longest:
	// each failure doubles it.
	First, Longest time.Duration
}

const (
	// maxDelay is the longest delay of any kind.
	maxDelay = 15 * time.Minute
	// steps is how many failures beyond the free ones still make a difference.
	steps = 5
)

// limitOf returns the limit of a kind: 5 failures of an identity or for a value,
// one forgiven an hour, and 50 of an address in an app, one forgiven a minute.
// Behind one address there may be a school, so an address that reached its limit
// still has one attempt a second.
func limitOf(kind AttemptKind) Limit {
	if kind == ByAddress {
		return Limit{50, time.Minute, time.Second, time.Second}
	}
	return Limit{5, time.Hour, 30 * time.Second, maxDelay}
}

// delay returns how long the next attempt waits after so many failures.
func (l Limit) delay(failures int) time.Duration {
	if failures < l.Free {
		return 0
	}
	return min(l.First<<min(failures-l.Free, steps), l.Longest)
}

// Counter is the failed attempts against a key. The zero value is none.
type Counter struct {
	// Failures is how many attempts were counted at At, the time of the last.
	Failures int
	At       time.Time
	// BlockedUntil is when the next attempt may be made; zero means at any time.
	BlockedUntil time.Time
}

// Attempt returns the counter with one attempt more at now, or how long the
// caller has to wait before he may try: then nothing is counted. It is counted as
// a failure until it is refunded, so that parallel guesses see each other.
func (c Counter) Attempt(kind AttemptKind, now time.Time) (next Counter, wait time.Duration) {
	if wait := c.BlockedUntil.Sub(now); wait > 0 {
		// No delay is longer; a clock that went back must not make one.
		return c, min(wait, limitOf(kind).Longest)
	}
	l := limitOf(kind)
	failures := c.Failures
	if passed := now.Sub(c.At); passed > 0 {
		failures = max(0, failures-int(min(passed/l.Forgive, time.Duration(failures))))
	}
	next = Counter{Failures: min(failures+1, l.Free+steps), At: now}
	if d := l.delay(next.Failures); d > 0 {
		next.BlockedUntil = now.Add(d)
	}
	return next, 0
}

// Refund returns the counter without one attempt that left it as it was when it
// was reserved. The delay that it began goes with it; another's stays.
func (c Counter) Refund(kind AttemptKind, reserved Counter) Counter {
	c.Failures = max(0, c.Failures-1)
	if c.Failures < limitOf(kind).Free || c.BlockedUntil.Equal(reserved.BlockedUntil) {
		c.BlockedUntil = time.Time{}
	}
	return c
}

// ExpiresAt returns when the counter says nothing any more.
func (c Counter) ExpiresAt(kind AttemptKind) time.Time {
	forgiven := c.At.Add(time.Duration(c.Failures) * limitOf(kind).Forgive)
	if c.BlockedUntil.After(forgiven) {
		return c.BlockedUntil
	}
	return forgiven
}

// Reservation is an attempt that was counted, or may not be made yet.
type Reservation struct {
	// Wait is how long to wait; zero means that the attempt was counted.
	Wait time.Duration
	// Counted are the counters with the attempt, for [Store.Refund].
	Counted []Attempts
}

// SortedKeys returns the keys in the order in which stores lock them, each once.
func SortedKeys(keys []AttemptKey) []AttemptKey {
	sorted := slices.SortedFunc(slices.Values(keys), compareAttemptKeys)
	return slices.Compact(sorted)
}

// Count counts one attempt in all of the counters, or returns how long the caller
// has to wait: then they are as they were. It returns those whose delay began or grew.
func Count(counted []Attempts, now time.Time) (delayed []Attempts, wait time.Duration) {
	next := make([]Counter, len(counted))
	for i, a := range counted {
		var w time.Duration
		next[i], w = a.Attempt(a.Kind, now)
		wait = max(wait, w)
	}
	if wait > 0 {
		return nil, wait
	}
	for i := range counted {
		counted[i].Counter = next[i]
		l := limitOf(counted[i].Kind)
		// A delay that does not grow is told once, when the limit is reached.
		if !next[i].BlockedUntil.IsZero() && (l.First < l.Longest || next[i].Failures == l.Free) {
			delayed = append(delayed, counted[i])
		}
	}
	return delayed, 0
}

// Uncount takes a reservation back from the counters as they are now.
func Uncount(counted []Attempts, r Reservation) {
	for i := range counted {
		for _, reserved := range r.Counted {
			if reserved.AttemptKey == counted[i].AttemptKey {
				counted[i].Counter = counted[i].Refund(reserved.Kind, reserved.Counter)
			}
		}
	}
}
