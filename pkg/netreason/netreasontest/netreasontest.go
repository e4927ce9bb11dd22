// Package netreasontest makes network calls fail reliably in tests.
package netreasontest

import (
	"net"
	"testing"
)

// UnusedAddr returns a loopback address, host:port, that refuses connections, and on
// which no listener can start during the test: its port belongs to the near end of a
// connection. The port of a closed listener could be given to another program.
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
