package web

import (
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"
)

// maxLimitedKeys bounds the memory of a [Limiter]. Under a flood of more keys, the least
// used ones are forgotten, which fills their allowance.
const maxLimitedKeys = 1 << 17

// keyMemory is how long a key is remembered after its last event: a minute of
// events and a minute of overdraft are full again by then.
const keyMemory = 2 * time.Minute

// trickleInterval is how often a key with a spent allowance may have an event: a reached
// limit still lets one event a second through.
const trickleInterval = time.Second

// Limiter allows each key a number of events a minute. An allowance refills steadily, so
// a key that spent it may go on at the refill's pace, or at one event a second if that
// is faster. A Limiter is safe for concurrent use. It is per process: n replicas allow
// n times as much.
//
// A caller calls [Limiter.Wait] early, [Limiter.Take] right before an expensive event,
// and [Limiter.Charge] after it.
type Limiter[K comparable] struct {
	keys     *otter.Cache[K, allowance]
	perEvent time.Duration
}

// allowance is the state of a key. A key with a full allowance needs no entry.
type allowance struct {
	// full is when the allowance will be full again.
	full time.Time
	// next is when an event may pass although the allowance is spent.
	next time.Time
}

// NewLimiter returns a limiter of perMinute events. For 0 it returns nil, which means no
// limit: the methods of a nil limiter allow everything.
func NewLimiter[K comparable](perMinute int) *Limiter[K] {
	if perMinute <= 0 {
		return nil
	}
	return &Limiter[K]{
		perEvent: time.Minute / time.Duration(perMinute),
		keys: otter.Must(&otter.Options[K, allowance]{
			MaximumSize:      maxLimitedKeys,
			ExpiryCalculator: otter.ExpiryWriting[K, allowance](keyMemory),
		}),
	}
}

// Wait returns how long the key has to wait before its next event is allowed, from zero
// to a second. It does not change the allowance.
func (l *Limiter[K]) Wait(key K, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	a, found := l.keys.GetIfPresent(key)
	if !found {
		return 0
	}
	return l.wait(a, now)
}

func (l *Limiter[K]) wait(a allowance, now time.Time) time.Duration {
	refill := max(a.full.Sub(now)+l.perEvent-time.Minute, 0)
	// A clock that went back must not make a wait longer.
	return min(refill, max(a.next.Sub(now), 0), trickleInterval)
}

// Take returns the same as [Limiter.Wait]. If it returns zero although the allowance is
// spent, it uses up the key's one event of this second.
func (l *Limiter[K]) Take(key K, now time.Time) time.Duration {
	wait := l.Wait(key, now)
	if l == nil || wait > 0 {
		return wait
	}
	l.keys.ComputeIfPresent(key, func(a allowance) (allowance, otter.ComputeOp) {
		if wait = l.wait(a, now); wait > 0 || !l.spent(a, now) {
			return a, otter.CancelOp
		}
		a.next = now.Add(trickleInterval)
		return a, otter.WriteOp
	})
	return wait
}

func (l *Limiter[K]) spent(a allowance, now time.Time) bool {
	return a.full.Sub(now)+l.perEvent > time.Minute
}

// Return gives back the event that [Limiter.Take] took, if it did not happen.
func (l *Limiter[K]) Return(key K) {
	if l == nil {
		return
	}
	l.keys.ComputeIfPresent(key, func(a allowance) (allowance, otter.ComputeOp) {
		a.next = time.Time{}
		return a, otter.WriteOp
	})
}

// Charge takes an event from the key's allowance. Concurrent events may exceed it; the
// excess that is remembered is at most the events of one minute.
func (l *Limiter[K]) Charge(key K, now time.Time) {
	if l == nil {
		return
	}
	l.keys.Compute(key, func(a allowance, _ bool) (allowance, otter.ComputeOp) {
		spent := l.spent(a, now)
		if a.full.Before(now) {
			a.full = now
		}
		a.full = a.full.Add(l.perEvent)
		if latest := now.Add(keyMemory); a.full.After(latest) {
			a.full = latest
		}
		if !spent {
			// Only for the event that spends the allowance: a slow event that was
			// let through must not delay the next one.
			a.next = now.Add(trickleInterval)
		}
		return a, otter.WriteOp
	})
}

// Close stops the goroutines of the limiter.
func (l *Limiter[K]) Close() {
	if l != nil {
		l.keys.StopAllGoroutines()
	}
}

// Network returns the network by which a client is counted: an IPv4 address, or the /64
// of an IPv6 address, since a single host can use any address in it.
func Network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := 32
	if client.Is6() {
		bits = 64
	}
	p, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // all clients without an address count together
	}
	return p
}
