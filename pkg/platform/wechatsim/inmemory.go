package wechatsim

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Dial connects to a simulator in memory. Use it as DialContext of a
// [net/http.Transport].
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// ServeInMemory serves HTTP on in-memory connections. A caller that waits for one waits
// inside the process, so in a bubble of testing/synctest an answer that takes minutes
// takes no real time. The dialed address does not matter. stop ends the server and waits
// for it.
func (s *Simulator) ServeInMemory() (dial Dial, stop func()) {
	l := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) }) // it returns ErrServerClosed
	return l.dial, func() {
		_ = srv.Close()
		served.Wait()
	}
}

// memoryListener accepts one end of each dialed pipe.
type memoryListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

var errListenerClosed = errors.New("wechatsim: the simulator has stopped")

func (l *memoryListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errListenerClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
