package httpd

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// dial connects and reports whether the server keeps the connection, which it
// says with one byte.
func dial(t *testing.T, addr string) (c net.Conn, kept bool) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	n, _ := c.Read(make([]byte, 1))
	return c, n == 1
}

// greet accepts connections, greets them, and closes each when its client does.
func greet(t *testing.T, l net.Listener) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte{'!'})
			running.Go(func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
				_ = c.Close() // twice is once
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait() // the clients have hung up: they were there later
	})
}

func TestShareListener(t *testing.T) {
	t.Run("a network gets its share of the connections, and others theirs", func(t *testing.T) {
		l := newShareListener(listen(t), 2, nil)
		greet(t, l)
		addr := l.Addr().String()
		first, kept := dial(t, addr)
		if !kept {
			t.Fatal("the first was refused")
		}
		if _, kept := dial(t, addr); !kept {
			t.Fatal("the second was refused")
		}
		if _, kept := dial(t, addr); kept {
			t.Error("the third was kept")
		}
		other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := other.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if n, _ := c.Read(make([]byte, 1)); n != 1 {
			t.Error("another network was refused")
		}
		_ = first.Close()
		for { // the place is free a moment after the close
			if _, kept := dial(t, addr); kept {
				break
			}
		}
	})
	t.Run("a trusted proxy has no share", func(t *testing.T) {
		l := newShareListener(listen(t), 1, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
		greet(t, l)
		for range 5 {
			if _, kept := dial(t, l.Addr().String()); !kept {
				t.Fatal("a proxy's connection was refused")
			}
		}
	})
}
