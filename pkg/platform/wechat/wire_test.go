package wechat_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/pkg/platform/wechat"
)

// wire is a TCP server that records the bytes of every request.
type wire struct {
	addr string

	mu       sync.Mutex
	requests []string
	conns    []net.Conn
	stray    []string
}

// wireServer answers the nth request (from 1) if reply(n) is true, and otherwise closes
// its connection.
func wireServer(t *testing.T, reply func(n int) (answer, keep bool)) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("Listen() error = %v", err)
	}
	w := &wire{addr: listener.Addr().String()}
	var served sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for _, conn := range w.conns {
			_ = conn.Close()
		}
		w.mu.Unlock()
		served.Wait()
	})
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, conn)
			w.mu.Unlock()
			served.Go(func() { w.serve(conn, reply) })
		}
	})
	return w
}

func (w *wire) serve(conn net.Conn, reply func(n int) (answer, keep bool)) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	for {
		header, err := readHeader(reader)
		if err != nil {
			if header != "" {
				w.mu.Lock()
				w.stray = append(w.stray, header)
				w.mu.Unlock()
			}
			return
		}
		w.mu.Lock()
		w.requests = append(w.requests, header)
		n := len(w.requests)
		w.mu.Unlock()
		answer, keep := reply(n)
		if answer {
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(success), success)
		}
		if !keep {
			return
		}
	}
}

func (w *wire) seen() (requests, stray []string, conns int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.requests...), append([]string(nil), w.stray...), len(w.conns)
}

func TestOnTheWire(t *testing.T) {
	t.Parallel()

	t.Run("a call is a plain GET without a body on a kept connection", func(t *testing.T) {
		t.Parallel()
		server := wireServer(t, func(int) (bool, bool) { return true, true })
		client := newClient(t, wechat.Config{BaseURL: "http://" + server.addr})
		for range 3 {
			if _, err := client.ExchangeCode(t.Context(), credentials, code); err != nil {
				t.Fatalf("ExchangeCode() error = %v", err)
			}
		}
		requests, stray, conns := server.seen()
		if len(requests) != 3 || len(stray) != 0 || conns != 1 {
			t.Fatalf("%d requests on %d connections, stray bytes %q", len(requests), conns, stray)
		}
		for _, request := range requests {
			lines := strings.Split(strings.TrimSuffix(request, "\r\n\r\n"), "\r\n")
			if !strings.HasPrefix(lines[0], "GET /sns/jscode2session?") || !strings.HasSuffix(lines[0], " HTTP/1.1") {
				t.Errorf("request line = %q", lines[0])
			}
			if len(lines) != 3 || lines[1] != "Host: "+server.addr || lines[2] != "User-Agent: yufu" {
				t.Errorf("header = %q", lines[1:])
			}
		}
	})

	t.Run("a request whose kept connection breaks is not sent twice", func(t *testing.T) {
		t.Parallel()
		server := wireServer(t, func(n int) (bool, bool) { return n == 1, n == 1 })
		client := newClient(t, wechat.Config{BaseURL: "http://" + server.addr})
		if _, err := client.ExchangeCode(t.Context(), credentials, code); err != nil {
			t.Fatalf("first ExchangeCode() error = %v", err)
		}
		_, err := client.ExchangeCode(t.Context(), credentials, code)
		var lost *wechat.TransportError
		if !errors.As(err, &lost) || !lost.Sent {
			t.Errorf("error = %v, want a TransportError with Sent", err)
		}
		if requests, _, _ := server.seen(); len(requests) != 2 {
			t.Errorf("%d requests, want 2", len(requests))
		}
	})

	t.Run("a kept connection that the peer closed fails no log-in", func(t *testing.T) {
		t.Parallel()
		server := wireServer(t, func(int) (bool, bool) { return true, false })
		transport := wechat.NewTransport()
		noticed := make(chan struct{}, 8)
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return &closeSignal{Conn: conn, closed: noticed}, err
		}
		client := newClient(t, wechat.Config{BaseURL: "http://" + server.addr, Transport: transport})
		for range 3 {
			if _, err := client.ExchangeCode(t.Context(), credentials, code); err != nil {
				t.Fatalf("ExchangeCode() error = %v", err)
			}
			<-noticed
		}
		if requests, _, conns := server.seen(); len(requests) != 3 || conns != 3 {
			t.Errorf("%d requests on %d connections", len(requests), conns)
		}
	})
}

// closeSignal reports when the client closes its connection.
type closeSignal struct {
	net.Conn
	closed chan<- struct{}
}

func (c *closeSignal) Close() error {
	defer func() { c.closed <- struct{}{} }()
	return c.Conn.Close()
}

// TestRepetition simulates the transport's trace, because a test cannot hit the moment
// between the choice of a connection and the first write.
func TestRepetition(t *testing.T) {
	t.Parallel()
	play := func(steps func(trace *httptrace.ClientTrace, n int) (done bool)) (int, error) {
		calls := 0
		client, err := wechat.New(wechat.Config{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			calls++
			if !steps(httptrace.ContextClientTrace(r.Context()), calls) {
				return nil, errors.New("http: server closed idle connection")
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(success))}, nil
		})})
		if err != nil {
			return 0, err
		}
		_, err = client.ExchangeCode(t.Context(), credentials, code)
		return calls, err
	}
	kept := httptrace.GotConnInfo{Reused: true}

	t.Run("a kept connection that broke before the first byte is replaced", func(t *testing.T) {
		calls, err := play(func(trace *httptrace.ClientTrace, n int) bool {
			trace.GotConn(kept)
			return n == 3
		})
		if err != nil || calls != 3 {
			t.Errorf("%d calls, error %v; want 3 and no error", calls, err)
		}
	})
	t.Run("the number of replacements is limited", func(t *testing.T) {
		calls, err := play(func(trace *httptrace.ClientTrace, _ int) bool {
			trace.GotConn(kept)
			return false
		})
		if err == nil || calls != 4 {
			t.Errorf("%d calls, error %v; want 4 and an error", calls, err)
		}
	})
	for name, steps := range map[string]func(trace *httptrace.ClientTrace){
		"a header field was written": func(trace *httptrace.ClientTrace) {
			trace.GotConn(kept)
			trace.WroteHeaderField("Host", nil)
		},
		"a write failed": func(trace *httptrace.ClientTrace) {
			trace.GotConn(kept)
			trace.WroteRequest(httptrace.WroteRequestInfo{Err: io.ErrClosedPipe})
		},
		"the connection was new":  func(trace *httptrace.ClientTrace) { trace.GotConn(httptrace.GotConnInfo{}) },
		"the trace is empty":      func(*httptrace.ClientTrace) {},
		"there was no connection": func(trace *httptrace.ClientTrace) { trace.ConnectStart("tcp", "") },
	} {
		t.Run("the request is not repeated when "+name, func(t *testing.T) {
			calls, err := play(func(trace *httptrace.ClientTrace, _ int) bool {
				steps(trace)
				return false
			})
			if err == nil || calls != 1 {
				t.Errorf("%d calls, error %v; want 1 and an error", calls, err)
			}
		})
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
