package binding

import (
	"cmp"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// compareAttemptKeys orders keys as stores lock them: by kind, then by key, byte
// by byte.
func compareAttemptKeys(a, b auth.AttemptKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key))
}

// Limit is the limit of failed attempts against a key.
type Limit struct {
	// Free is the number of failures that starts the delays.
	Free int
	// Forgive is the time after which one failure is forgotten.
	Forgive time.Duration
	// First is the delay after Free failures. Each further failure doubles it, up to
	// Longest.
	First, Longest time.Duration
}

const (
	// maxDelay is the longest delay of any kind.
	maxDelay = 15 * time.Minute
	// steps is the number of failures beyond the free ones that still raise the delay.
	steps = 5
)

// limitOf returns the limit of a kind: 5 failures of an identity or for a value, of
// which one is forgiven each hour, and 50 of an address in an app, of which one is
// forgiven each minute. A whole school may share an address, so an address at its limit
// still gets one attempt a second.
func limitOf(kind auth.AttemptKind) Limit {
	if kind == auth.AttemptAddress {
		return Limit{50, time.Minute, time.Second, time.Second}
	}
	return Limit{5, time.Hour, 30 * time.Second, maxDelay}
}

// delay returns how long the next attempt waits after this number of failures.
func (l Limit) delay(failures int) time.Duration {
	if failures < l.Free {
		return 0
	}
	return min(l.First<<min(failures-l.Free, steps), l.Longest)
}

// attempted returns the counter with one more attempt at now. If a delay is not over
// yet, it returns the unchanged counter and the time to wait. The attempt counts as a
// failure until it is refunded, so that parallel guesses see each other.
func attempted(a auth.Attempts, now time.Time) (next auth.Attempts, wait time.Duration) {
	l := limitOf(a.Kind)
	if wait := a.BlockedUntil.Sub(now); wait > 0 {
		// No delay is longer than Longest, even if the clock went back.
		return a, min(wait, l.Longest)
	}
	failures := a.Failures
	if passed := now.Sub(a.At); passed > 0 {
		failures = max(0, failures-int(min(passed/l.Forgive, time.Duration(failures))))
	}
	a.Failures, a.At, a.BlockedUntil = min(failures+1, l.Free+steps), now, time.Time{}
	if d := l.delay(a.Failures); d > 0 {
		a.BlockedUntil = now.Add(d)
	}
	return a, 0
}

// refunded returns the counter without one attempt; reserved is the counter right after
// that attempt. The delay that the attempt began is removed; a delay of another attempt
// stays.
func refunded(a, reserved auth.Attempts) auth.Attempts {
	a.Failures = max(0, a.Failures-1)
	if a.Failures < limitOf(a.Kind).Free || a.BlockedUntil.Equal(reserved.BlockedUntil) {
		a.BlockedUntil = time.Time{}
	}
	return a
}

// ForgottenAt returns the time from which a counter no longer has an effect.
func ForgottenAt(a *auth.Attempts) time.Time {
	forgiven := a.At.Add(time.Duration(a.Failures) * limitOf(a.Kind).Forgive)
	if a.BlockedUntil.After(forgiven) {
		return a.BlockedUntil
	}
	return forgiven
}

// Reservation is an attempt that was counted, or that must wait.
type Reservation struct {
	// Wait is the time to wait; zero means that the attempt was counted.
	Wait time.Duration
	// Counted are the counters with the attempt, for [Store.Refund].
	Counted []auth.Attempts
}

// SortedKeys returns the keys in the order in which stores lock them, each once.
func SortedKeys(keys []auth.AttemptKey) []auth.AttemptKey {
	sorted := slices.SortedFunc(slices.Values(keys), compareAttemptKeys)
	return slices.Compact(sorted)
}

// Count counts one attempt in all counters and returns those whose delay began or grew.
// If the caller has to wait, it returns the time to wait and changes no counter.
func Count(counted []auth.Attempts, now time.Time) (delayed []auth.Attempts, wait time.Duration) {
	next := make([]auth.Attempts, len(counted))
	for i, a := range counted {
		var w time.Duration
		next[i], w = attempted(a, now)
		wait = max(wait, w)
	}
	if wait > 0 {
		return nil, wait
	}
	copy(counted, next)
	for _, a := range counted {
		l := limitOf(a.Kind)
		// A delay that does not grow is audited once, when the limit is reached.
		if !a.BlockedUntil.IsZero() && (l.First < l.Longest || a.Failures == l.Free) {
			delayed = append(delayed, a)
		}
	}
	return delayed, 0
}

// Uncount removes a reservation from the present counters.
func Uncount(counted []auth.Attempts, r Reservation) {
	for i := range counted {
		for _, reserved := range r.Counted {
			if reserved.AttemptKey == counted[i].AttemptKey {
				counted[i] = refunded(counted[i], reserved)
			}
		}
	}
}
