package httpd

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/yufu-auth/yufu/api/web"
)

// shareListener closes connections of a client network that has its share of
// them open already, so that no single one can take them all. Proxies that are
// trusted speak for many and have no share.
type shareListener struct {
	net.Listener
	share   int
	proxies []netip.Prefix

	mu   sync.Mutex
	open map[netip.Prefix]int // as many entries as connections, at most
}

func newShareListener(l net.Listener, share int, proxies []netip.Prefix) *shareListener {
	return &shareListener{Listener: l, share: share, proxies: proxies, open: make(map[netip.Prefix]int)}
}

// Accept implements [net.Listener].
func (l *shareListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var peer netip.Addr
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			peer = a.AddrPort().Addr().Unmap()
		}
		if slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(peer) }) {
			return c, nil
		}
		network := web.Network(peer)
		if !l.take(network) {
			_ = c.Close() // it has nothing to be told
			continue
		}
		return &sharedConn{Conn: c, release: sync.OnceFunc(func() { l.release(network) })}, nil
	}
}

func (l *shareListener) take(n netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[n] >= l.share {
		return false
	}
	l.open[n]++
	return true
}

func (l *shareListener) release(n netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[n]--; l.open[n] == 0 {
		delete(l.open, n)
	}
}

// sharedConn gives its place back when it is closed.
type sharedConn struct {
	net.Conn
	release func()
}

// Close implements [net.Conn].
func (c *sharedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
