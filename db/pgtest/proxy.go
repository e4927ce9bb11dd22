package pgtest

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy sits between a program and a server and fails as networks do. It is safe for
// concurrent use.
type Proxy struct {
	listener net.Listener
	done     sync.WaitGroup

	mu     sync.Mutex
	target string
	ended  bool
	deaf   bool
	trap   []byte // see SwallowAt
	conns  map[*proxied]struct{}
}

// proxied is one connection and its other half.
type proxied struct {
	client, server net.Conn
	mu             sync.Mutex
	swallowed      bool
}

// NewProxy starts a proxy for the server at target, a host and port. It is closed when t
// ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: l, conns: map[*proxied]struct{}{}}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Addr returns the proxy's own host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Swallow makes every present connection half-open: what either side sends is accepted
// and discarded, and neither side receives anything again. New connections work.
func (p *Proxy) Swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.mu.Lock()
		c.swallowed = true
		c.mu.Unlock()
	}
}

// SwallowAt makes one connection half-open, as [Proxy.Swallow] does: the first whose
// client sends the text in one write. The server does not receive that write. The
// returned function reports whether it has happened.
func (p *Proxy) SwallowAt(text string) (swallowed func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = []byte(text)
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.trap == nil
	}
}

// spring makes the connection half-open if its client sent the text of [Proxy.SwallowAt].
func (p *Proxy) spring(c *proxied, sent []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trap == nil || !bytes.Contains(sent, p.trap) {
		return
	}
	p.trap = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swallowed = true
}

// Cut closes every present connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.client.Close()
		_ = c.server.Close()
	}
}

// Deafen makes new connections half-open from the start, or, with false, makes them
// work again.
func (p *Proxy) Deafen(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

// Redirect sends new connections to another target.
func (p *Proxy) Redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Connections returns the number of present connections.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &proxied{client: client, server: server}
		if p.add(c) {
			p.done.Go(func() { p.carry(c) })
		}
	}
}

// add registers the connection, unless the proxy is closed.
func (p *Proxy) add(c *proxied) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_ = c.client.Close()
		_ = c.server.Close()
		return false
	}
	c.swallowed = p.deaf
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) carry(c *proxied) {
	var both sync.WaitGroup
	both.Go(func() { c.copy(c.server, c.client, func(sent []byte) { p.spring(c, sent) }) })
	both.Go(func() { c.copy(c.client, c.server, func([]byte) {}) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// copy copies one direction until it ends, and calls look with everything first. In a
// swallowed connection it also hides the end.
func (c *proxied) copy(to io.Writer, from io.Reader, look func([]byte)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		look(buf[:n])
		c.mu.Lock()
		swallowed := c.swallowed
		c.mu.Unlock()
		if err != nil {
			if !swallowed {
				_ = c.client.Close()
				_ = c.server.Close()
			}
			return
		}
		if swallowed {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			_ = c.client.Close()
			_ = c.server.Close()
			return
		}
	}
}
