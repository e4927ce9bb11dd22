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

// wire is a server below HTTP: it records every request's bytes and answers
// each as told.
type wire struct {
	addr string

	mu       sync.Mutex
	requests []string
	conns    []net.Conn
	stray    []string
}

// wireServer answers the nth request (from 1) when reply(n) is true and else
// closes its connection.
func wireServer(t *testing.T, reply func(n int) (answer, keep bool)) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
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

	t.Run("a_call_is_a_plain_GET_without_a_body_on_a_kept_connection", func(t *testing.T) {
		t.Parallel()
		server := wireServer(t, func(int) (bool, bool) { return true, true })
		client := newClient(t, wechat.Config{BaseURL: "http://" + server.addr})
		for range 3 {
			if _, err := client.ExchangeCode(t.Context(), credentials, code); err != nil {
				t.Fatalf("ExchangeCode: %v", err)
			}
		}
		requests, stray, conns := server.seen()
		if len(requests) != 3 || len(stray) != 0 || conns != 1 {
			t.Fatalf("%d requests on %d connections, stray bytes %q", len(requests), conns, stray)
		}
		for _, request := range requests {
			lines := strings.Split(strings.TrimSuffix(request, "\r\n\r\n"), "\r\n")
			if !strings.HasPrefix(lines[0], "GET /sns/jscode2session?") || !strings.HasSuffix(lines[0], " HTTP/1.1") {
				t.Errorf("request line %q", lines[0])
			}
			if len(lines) != 3 || lines[1] != "Host: "+server.addr || lines[2] != "User-Agent: yufu" {
				t.Errorf("header %q", lines[1:])
			}
		}
	})

	t.Run("a_request_whose_kept_connection_is_cut_is_not_sent_twice", func(t *testing.T) {
		t.Parallel()
		server := wireServer(t, func(n int) (bool, bool) { return n == 1, n == 1 })
		client := newClient(t, wechat.Config{BaseURL: "http://" + server.addr})
		if _, err := client.ExchangeCode(t.Context(), credentials, code); err != nil {
			t.Fatalf("the first call: %v", err)
		}
		_, err := client.ExchangeCode(t.Context(), credentials, code)
		var lost *wechat.TransportError
		if !errors.As(err, &lost) || !lost.Sent {
			t.Errorf("err = %v, want one that says the request was sent", err)
		}
		if requests, _, _ := server.seen(); len(requests) != 2 {
			t.Errorf("%d requests, want 2", len(requests))
		}
	})

	t.Run("a_kept_connection_closed_by_the_peer_costs_no_login", func(t *testing.T) {
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
				t.Fatalf("ExchangeCode: %v", err)
			}
			<-noticed
		}
		if requests, _, conns := server.seen(); len(requests) != 3 || conns != 3 {
			t.Errorf("%d requests on %d connections", len(requests), conns)
		}
	})
}

// closeSignal tells when the client closes its connection.
type closeSignal struct {
	net.Conn
	closed chan<- struct{}
}

func (c *closeSignal) Close() error {
	defer func() { c.closed <- struct{}{} }()
	return c.Conn.Close()
}

// TestRepetition plays the transport's trace by hand, because the moment
// between a connection being chosen and being written to cannot be hit at will.
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

	t.Run("a_kept_connection_that_died_before_the_first_byte_is_replaced", func(t *testing.T) {
		calls, err := play(func(trace *httptrace.ClientTrace, n int) bool {
			trace.GotConn(kept)
			return n == 3
		})
		if err != nil || calls != 3 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
	t.Run("it_is_not_replaced_without_end", func(t *testing.T) {
		calls, err := play(func(trace *httptrace.ClientTrace, _ int) bool {
			trace.GotConn(kept)
			return false
		})
		if err == nil || calls != 4 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
	for name, steps := range map[string]func(trace *httptrace.ClientTrace){
		"a_header_field_was_written": func(trace *httptrace.ClientTrace) {
			trace.GotConn(kept)
			trace.WroteHeaderField("Host", nil)
		},
		"writing_was_tried_and_failed": func(trace *httptrace.ClientTrace) {
			trace.GotConn(kept)
			trace.WroteRequest(httptrace.WroteRequestInfo{Err: io.ErrClosedPipe})
		},
		"the_connection_was_new":   func(trace *httptrace.ClientTrace) { trace.GotConn(httptrace.GotConnInfo{}) },
		"the_trace_says_nothing":   func(*httptrace.ClientTrace) {},
		"no_connection_was_gained": func(trace *httptrace.ClientTrace) { trace.ConnectStart("tcp", "") },
	} {
		t.Run("nothing_is_repeated_when_"+name, func(t *testing.T) {
			calls, err := play(func(trace *httptrace.ClientTrace, _ int) bool {
				steps(trace)
				return false
			})
			if err == nil || calls != 1 {
				t.Errorf("%d calls, %v", calls, err)
			}
		})
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
