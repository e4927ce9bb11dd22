package web

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// Stream answers a request with a body that has no planned end. It calls run with a
// context, which is done when the client has gone, and a function that sends a part of the
// body at once. That function fails when the client takes longer than the timeout. The
// answer ends when run returns.
//
// net/http keeps 24 kB of buffers and stack for as long as a handler runs. There are
// thousands of streams, so Stream takes over the connection of an HTTP/1 request: it
// returns, and [Events] calls run after the handler. The handler must do nothing after
// Stream. If the connection cannot be taken over, as with HTTP/2, Stream calls run itself.
func Stream(w http.ResponseWriter, r *http.Request, timeout time.Duration, run func(ctx context.Context, send func([]byte) error)) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	out := http.NewResponseController(w)
	event := EventOf(r.Context())
	if event.detachable && r.ProtoMajor == 1 && r.Method == http.MethodGet && r.Body == http.NoBody {
		if conn, _, err := out.Hijack(); err == nil {
			s := &stream{conn: conn, timeout: timeout, chunked: r.ProtoAtLeast(1, 1), run: run}
			s.head = s.header(w.Header())
			// The request's context is done when the handler has returned, and chi gives the
			// context of its route to another request.
			s.ctx, s.gone = context.WithCancel(context.WithValue(context.WithoutCancel(r.Context()), chi.RouteCtxKey, nil))
			event.stream = s
			return
		}
	}
	_ = out.SetReadDeadline(time.Time{}) // nothing more comes from the client
	send := func(p []byte) error {
		if err := out.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		return out.Flush()
	}
	if send(nil) == nil {
		run(r.Context(), send)
	}
}

// stream is an answer on a connection that was taken over.
type stream struct {
	conn    net.Conn
	timeout time.Duration
	head    []byte
	// chunked says that the body has chunks. In HTTP/1.0 it ends with the connection.
	chunked bool
	run     func(ctx context.Context, send func([]byte) error)
	ctx     context.Context
	// gone ends ctx.
	gone context.CancelFunc
	// failed says that a write failed.
	failed bool
}

// header returns the status line and the header.
func (s *stream) header(h http.Header) []byte {
	var head bytes.Buffer
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if s.chunked {
		h.Set("Transfer-Encoding", "chunked")
		head.WriteString("HTTP/1.1 200 OK\r\n")
	} else {
		head.WriteString("HTTP/1.0 200 OK\r\n")
	}
	_ = h.Write(&head) // to memory
	head.WriteString("\r\n")
	return head.Bytes()
}

// serve sends the answer. It calls finish before it closes the connection.
func (s *stream) serve(event *Event, finish func()) {
	go s.awaitEnd()
	defer func() {
		_ = s.conn.Close()
		<-s.ctx.Done() // of awaitEnd
	}()
	defer finish()
	defer func() {
		if v := recover(); v != nil {
			event.recovered(v)
		}
	}()
	if s.write(s.head) != nil {
		return
	}
	s.head = nil
	s.run(s.ctx, s.send)
	if s.chunked && !s.failed {
		_ = s.write([]byte("0\r\n\r\n"))
	}
}

// maxDiscarded bounds what a client sends after its request, in bytes. It has nothing to
// send.
const maxDiscarded = 4 << 10

// awaitEnd ends the context when the client closes the connection or sends too much. It
// discards what the client sends: with unread data, closing the connection could cut off
// the answer.
func (s *stream) awaitEnd() {
	defer s.gone()
	buf := make([]byte, 64)
	for discarded := 0; discarded < maxDiscarded; {
		n, err := s.conn.Read(buf)
		if err != nil {
			return
		}
		discarded += n
	}
}

// send sends a part of the body.
func (s *stream) send(p []byte) error {
	if !s.chunked || len(p) == 0 {
		return s.write(p)
	}
	chunk := newBuffer()
	defer freeBuffer(chunk)
	_, _ = fmt.Fprintf(chunk, "%x\r\n", len(p))
	chunk.Write(p)
	chunk.WriteString("\r\n")
	return s.write(chunk.Bytes())
}

func (s *stream) write(p []byte) error {
	err := s.conn.SetWriteDeadline(time.Now().Add(s.timeout))
	if err == nil {
		_, err = s.conn.Write(p)
	}
	s.failed = s.failed || err != nil
	return err
}
