// Package netreasontest has calls over the network fail in tests, without luck.
package netreasontest

import (
	"net"
	"testing"
)

// UnusedAddr returns a loopback address, host:port, that refuses connections, and
// on which nobody can listen while the test runs: its port is that of the near end
// of a connection. The port of a listener that was closed may be given to whoever
// asks for any.
func UnusedAddr(tb testing.TB) string {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String()
}
