package httpd

import (
	"context"
	"io"
	"net"
	"net/http"
)

// connKey is the context key of a request's connection.
type connKey struct{}

// track makes the server set the phases of a pool's connections.
func track(s *http.Server) {
	s.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, nc)
	}
	s.ConnState = func(nc net.Conn, state http.ConnState) {
		// StateActive comes when the server has read a header. The handler runs by then.
		if c, ok := nc.(*conn); ok && state == http.StateIdle {
			c.enter(idle)
		}
	}
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		c.enter(busy)
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		sent := &trackedBody{ReadCloser: r.Body, conn: c}
		r.Body = sent
		next.ServeHTTP(w, r)
		if !sent.ended {
			c.enter(body, busy) // the server reads the rest
		}
	})
}

// trackedBody is the body of a request. Its reads set the phase of the connection, because
// the client may be slow to send it.
type trackedBody struct {
	io.ReadCloser
	conn  *conn
	ended bool
}

// Read implements [io.Reader].
func (b *trackedBody) Read(p []byte) (int, error) {
	b.conn.enter(body, busy)
	n, err := b.ReadCloser.Read(p)
	b.conn.enter(busy, body)
	b.ended = b.ended || err != nil
	return n, err
}
