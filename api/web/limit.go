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

// remembered is how long after its last event a client is known: a minute of
// events and a minute of overdraft are full again by then.
const remembered = 2 * time.Minute

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
			ExpiryCalculator: otter.ExpiryWriting[netip.Prefix, time.Time](remembered),
		}),
	}
}

// Wait returns how long the client has to wait before its next event is
// allowed; zero is now.
func (l *Limiter) Wait(client netip.Addr, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	full, found := l.clients.GetIfPresent(Network(client))
	if !found {
		return 0
	}
	return max(full.Sub(now)+l.perUnit-time.Minute, 0)
}

// Charge takes an event from the client's allowance. Events that were allowed
// at the same time may overdraw it; the client then waits the longer, by a
// minute at most.
func (l *Limiter) Charge(client netip.Addr, now time.Time) {
	if l == nil {
		return
	}
	l.clients.Compute(Network(client), func(full time.Time, _ bool) (time.Time, otter.ComputeOp) {
		if full.Before(now) {
			full = now
		}
		full = full.Add(l.perUnit)
		if latest := now.Add(remembered); full.After(latest) {
			full = latest
		}
		return full, otter.WriteOp
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
