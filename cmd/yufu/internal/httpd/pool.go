package httpd

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/api/web"
)

const (
	// clientTimeout is the time for which a client may be slow in the middle of a request
	// before its connection can be closed for another one.
	clientTimeout = time.Second
	// crowdedIdle replaces the idle timeout while more than half of the allowed connections
	// are open.
	crowdedIdle = 5 * time.Second
)

// pool is a listener with a bound on the number of open connections. When it is full, the
// next connection closes the one that has been idle longest. Clients that hold connections
// open therefore do not shut out other clients:
//
//   - A connection in the middle of a request is closed only when no connection is idle, only
//     while the service waits for the client (for the rest of a header or a body, or for the
//     client to read the answer), and only if the request, or the write, began longer than
//     [clientTimeout] ago. A request that the service itself is slow to answer, such as a
//     stream of the revocation feed, is never cut off.
//   - A client network has at most half of the connections. A network that has half, or that
//     has more than the average in a full pool, loses one of its own connections for a new
//     one.
//   - A trusted proxy connects for many clients. It has no share, and its idle connections are
//     closed last.
//
// If no connection can be closed, new ones wait.
type pool struct {
	net.Listener
	maxConns, maxPerNetwork int
	proxies                 []netip.Prefix
	clock                   func() time.Time
	clientTimeout           time.Duration

	// crowded is whether more than half of the connections are open.
	crowded atomic.Bool

	mu   sync.Mutex
	open int
	// networks counts the connections of each client network, without those of proxies.
	networks map[netip.Prefix]int
	// queues holds the connections by phase and class. Those that are busy are never closed
	// for another one.
	queues  [phases][2]queue
	changed sync.Cond
	closed  bool
}

// phase is the thing that a connection waits for.
type phase int

const (
	idle    phase = iota // a request
	header               // the rest of a request's header
	body                 // the rest of a request's body
	writing              // the client, to read the answer
	busy                 // nothing on the client's side
	phases
)

func newPool(l net.Listener, maxConns int, proxies []netip.Prefix) *pool {
	p := &pool{
		Listener: l, maxConns: maxConns, maxPerNetwork: max(maxConns/2, 1), proxies: proxies, clock: time.Now, clientTimeout: clientTimeout,
		networks: make(map[netip.Prefix]int),
	}
	p.changed.L = &p.mu
	for i := range p.queues {
		for j := range p.queues[i] {
			p.queues[i][j].init()
		}
	}
	return p
}

// Accept implements [net.Listener].
func (p *pool) Accept() (net.Conn, error) {
	for {
		nc, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: nc, pool: p}
		var peer netip.Addr
		if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
			peer = a.AddrPort().Addr().Unmap()
		}
		c.proxy = slices.ContainsFunc(p.proxies, func(n netip.Prefix) bool { return n.Contains(peer) })
		c.network = web.Network(peer)
		if p.admit(c) {
			return c, nil
		}
		_ = nc.Close() // its network has its full share, or the pool is closed
	}
}

// Close implements [net.Listener].
func (p *pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	return p.Listener.Close()
}

// admit adds a connection. It closes another one or waits if there is no room. It returns
// false if the connection is refused.
func (p *pool) admit(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed {
		full := p.open >= p.maxConns
		ofNetwork := p.networks[c.network]
		atShare := !c.proxy && ofNetwork >= p.maxPerNetwork
		if !full && !atShare {
			p.add(c)
			return true
		}
		var (
			victim *conn
			retry  time.Duration
		)
		if atShare || !c.proxy && ofNetwork*len(p.networks) > p.maxConns {
			victim, retry = p.victim(func(v *conn) bool { return !v.proxy && v.network == c.network })
			if victim == nil && atShare {
				return false
			}
		}
		if victim == nil {
			victim, retry = p.victim(func(*conn) bool { return true })
		}
		if victim != nil {
			p.remove(victim)
			_ = victim.Conn.Close()
			continue
		}
		timer := time.AfterFunc(retry, func() {
			// Under the lock, so that a short time does not end before the wait begins.
			p.mu.Lock()
			defer p.mu.Unlock()
			p.changed.Broadcast()
		})
		p.changed.Wait()
		timer.Stop()
	}
	return false
}

// victim returns the connection to close among those that match, or nil and the time after
// which to look again. A connection that becomes idle or is closed earlier ends that wait.
func (p *pool) victim(match func(*conn) bool) (victim *conn, retry time.Duration) {
	now := p.clock()
	retry = p.clientTimeout
	for i := range p.queues[:busy] {
		for j := range p.queues[i] {
			q := &p.queues[i][j]
			for c := q.head.next; c != &q.head; c = c.next {
				if !match(c) {
					continue
				}
				since := c.since
				if c.phase == writing {
					since = c.written
				}
				left := p.clientTimeout - now.Sub(since)
				if phase(i) == idle || left <= 0 {
					return c, 0
				}
				retry = min(retry, left)
			}
		}
	}
	return nil, retry
}

func (p *pool) add(c *conn) {
	p.open++
	if !c.proxy {
		p.networks[c.network]++
	}
	p.crowded.Store(p.open > p.maxConns/2)
	c.open = true
	p.queues[idle][c.class()].push(c)
}

func (p *pool) remove(c *conn) {
	if !c.open {
		return
	}
	c.open = false
	c.unlink()
	p.open--
	if !c.proxy {
		if p.networks[c.network]--; p.networks[c.network] == 0 {
			delete(p.networks, c.network)
		}
	}
	p.crowded.Store(p.open > p.maxConns/2)
	p.changed.Broadcast()
}

// drain waits until every connection is closed. The server's Shutdown does not wait for
// those that a handler took over. When ctx is done, drain closes the rest and returns the
// context's error.
func (p *pool) drain(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.open > 0 && ctx.Err() == nil {
		p.changed.Wait()
	}
	if p.open == 0 {
		return nil
	}
	for i := range p.queues {
		for j := range p.queues[i] {
			for q := &p.queues[i][j]; q.head.next != &q.head; {
				c := q.head.next
				p.remove(c)
				_ = c.Conn.Close()
			}
		}
	}
	return ctx.Err()
}

// conn is a connection of a pool.
type conn struct {
	net.Conn
	pool    *pool
	network netip.Prefix
	proxy   bool

	// The pool's lock guards the fields below.
	open       bool
	phase      phase
	since      time.Time // when the request began
	written    time.Time // when the last write began
	prev, next *conn     // in the queue of the phase
}

// class returns 0 for a client's connection and 1 for a proxy's, which is closed last.
func (c *conn) class() int {
	if c.proxy {
		return 1
	}
	return 0
}

// enter begins a phase, if the connection is in one of the given phases or no phase is given.
// It returns the phase before.
func (c *conn) enter(to phase, from ...phase) (before phase) {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	before = c.phase
	if !c.open || before == to || len(from) > 0 && !slices.Contains(from, before) {
		return before
	}
	switch {
	case before == idle:
		c.since = p.clock()
	case to == writing:
		c.written = p.clock()
	}
	c.unlink()
	c.phase = to
	p.queues[to][c.class()].push(c)
	if to == idle && p.open >= p.maxConns {
		p.changed.Broadcast()
	}
	return before
}

// Read implements [net.Conn]. Data that arrives while the connection is idle begins a
// header.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.enter(header, idle)
	}
	return n, err
}

// Write implements [net.Conn].
func (c *conn) Write(b []byte) (int, error) {
	before := c.enter(writing, busy, body)
	if line, rest, ok := bytes.Cut(b, []byte("\r\n")); ok && (before == idle || before == header) {
		// The server refuses a request that no handler has seen, so noSniff did not run.
		const noSniff = "\r\nX-Content-Type-Options: nosniff\r\n"
		if _, err := c.Conn.Write(slices.Concat(line, []byte(noSniff), rest)); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	n, err := c.Conn.Write(b)
	if before == busy || before == body {
		c.enter(before, writing)
	}
	return n, err
}

// SetReadDeadline implements [net.Conn]. In a crowded pool, an idle connection ends earlier.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.pool.crowded.Load() && c.isIdle() {
		if soon := c.pool.clock().Add(crowdedIdle); t.IsZero() || t.After(soon) {
			t = soon
		}
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) isIdle() bool {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.phase == idle
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.pool.mu.Lock()
	c.pool.remove(c)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}

// queue is a list of connections. The first is the one that entered its phase first.
type queue struct{ head conn }

func (q *queue) init() { q.head.prev, q.head.next = &q.head, &q.head }

func (q *queue) push(c *conn) {
	c.prev, c.next = q.head.prev, &q.head
	c.prev.next, c.next.prev = c, c
}

func (c *conn) unlink() {
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next = nil, nil
}
