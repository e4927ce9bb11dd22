package web

import (
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"
)

// maxLimitedClients bounds the memory of a [Limiter]. Under a flood from more
// networks than this the least busy ones are forgotten, which gives them their
// allowance anew.
const maxLimitedClients = 1 << 17

// Limiter allows each client so many events a minute. An allowance refills
// steadily, so a client that spent it may go on at the refill's pace. It is
// safe for concurrent use, and per process: n replicas allow n times as much.
type Limiter struct {
	// clients holds for each client network the time at which its allowance
	// will be full again; one that is full needs no entry.
	clients *otter.Cache[netip.Prefix, time.Time]
	perUnit time.Duration
}

// NewLimiter returns a limiter of perMinute events, or nil for 0, which is no
// limit: the methods of a nil limiter allow everything.
func NewLimiter(perMinute int) *Limiter {
	if perMinute <= 0 {
		return nil
	}
	return &Limiter{
		perUnit: time.Minute / time.Duration(perMinute),
		clients: otter.Must(&otter.Options[netip.Prefix, time.Time]{
			MaximumSize:      maxLimitedClients,
			ExpiryCalculator: otter.ExpiryWriting[netip.Prefix, time.Time](2 * time.Minute),
		}),
	}
}

// Take takes one event from the client's allowance. When there is none left it
// returns how long to wait for the next.
func (l *Limiter) Take(client netip.Addr, now time.Time) (wait time.Duration) {
	if l == nil {
		return 0
	}
	l.clients.Compute(Network(client), func(full time.Time, found bool) (time.Time, otter.ComputeOp) {
		if !found || full.Before(now) {
			full = now
		}
		full = full.Add(l.perUnit)
		if over := full.Sub(now) - time.Minute; over > 0 {
			wait = over
			return full, otter.CancelOp
		}
		return full, otter.WriteOp
	})
	return wait
}

// Refund gives one event back.
func (l *Limiter) Refund(client netip.Addr) {
	if l == nil {
		return
	}
	l.clients.Compute(Network(client), func(full time.Time, found bool) (time.Time, otter.ComputeOp) {
		if !found {
			return full, otter.CancelOp
		}
		return full.Add(-l.perUnit), otter.WriteOp
	})
}

// Close ends what the limiter has running.
func (l *Limiter) Close() {
	if l != nil {
		l.clients.StopAllGoroutines()
	}
}

// Network returns what a client is counted by: an IPv4 address, or the /64 of
// an IPv6 one, since a single host has all of that to choose from.
func Network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := 32
	if client.Is6() {
		bits = 64
	}
	p, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of them together
	}
	return p
}
