package web_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/web"
)

// streamer serves a stream, and reports when its handler has returned.
type streamer struct {
	*harness
	srv *httptest.Server
	// returned is closed when the handler has returned.
	returned chan struct{}
	ended    chan struct{}
}

// newStreamer serves a stream at /x. TLS means HTTP/2.
func newStreamer(t *testing.T, timeout time.Duration, overTLS bool, run func(ctx context.Context, send func([]byte) error)) *streamer {
	t.Helper()
	s := &streamer{harness: newHarness(), returned: make(chan struct{}), ended: make(chan struct{})}
	s.Get("/x", func(w http.ResponseWriter, r *http.Request) {
		defer close(s.returned)
		web.Stream(w, r, timeout, func(ctx context.Context, send func([]byte) error) {
			defer close(s.ended)
			run(ctx, send)
		})
	})
	s.srv = httptest.NewUnstartedServer(s.handler)
	if s.srv.EnableHTTP2 = overTLS; overTLS {
		s.srv.StartTLS()
	} else {
		s.srv.Start()
	}
	t.Cleanup(s.srv.Close)
	return s
}

// dial sends a request and returns its connection.
func (s *streamer) dial(t *testing.T, request string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

const getX = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"

func TestStream(t *testing.T) {
	t.Parallel()
	texts := func(texts ...string) func(context.Context, func([]byte) error) {
		return func(_ context.Context, send func([]byte) error) {
			for _, text := range texts {
				_ = send([]byte(text))
			}
		}
	}
	for name, tc := range map[string]struct {
		request, body string
		chunks        []string
	}{
		"HTTP/1.1 has chunks and a last one":                 {getX, "2\r\nab\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", []string{"chunked"}},
		"HTTP/1.0 ends with the connection":                  {"GET /x HTTP/1.0\r\n\r\n", "ab0123456789abcdef", nil},
		"data after the request is not taken for the client": {getX + getX, "2\r\nab\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", []string{"chunked"}},
		"a request with a body":                              {"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxy", "2\r\nab\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", []string{"chunked"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreamer(t, time.Minute, false, texts("ab", "", "0123456789abcdef"))
			all, err := io.ReadAll(s.dial(t, tc.request))
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(string(all), "\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(all))), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 200 || !resp.Close || resp.Header.Get("X-Request-Id") == "" || !slices.Equal(resp.TransferEncoding, tc.chunks) {
				t.Errorf("the header is %+v, want 200, the end of the connection, a request id and %v", resp, tc.chunks)
			}
			if body != tc.body {
				t.Errorf("the body is %q, want %q", body, tc.body)
			}
		})
	}
	t.Run("the handler returns before the stream ends, which is when the request is logged", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		s := newStreamer(t, time.Minute, false, func(ctx context.Context, _ func([]byte) error) {
			<-release
			if err := ctx.Err(); err != nil {
				t.Errorf("the context ended with %v before the client closed", err)
			}
		})
		c := s.dial(t, getX)
		<-s.returned
		if got := s.log.String(); got != "" {
			t.Errorf("logged before the end: %s", got)
		}
		s.clock.Advance(time.Hour)
		close(release)
		_, _ = io.Copy(io.Discard, c)
		if line := s.log.one(t); line["status"] != 200.0 || line["route"] != "/x" || line["duration_ms"] != 3600000.0 {
			t.Errorf("the log line is %v, want status 200 of /x after an hour", line)
		}
		if o := s.observations(); len(o) != 1 || o[0].Route != "/x" || o[0].Duration != time.Hour {
			t.Errorf("observed %v, want /x for an hour", o)
		}
	})
	t.Run("the context ends when the client closes its connection", func(t *testing.T) {
		t.Parallel()
		s := newStreamer(t, time.Minute, false, func(ctx context.Context, _ func([]byte) error) { <-ctx.Done() })
		c := s.dial(t, getX)
		<-s.returned
		_ = c.CloseWrite()
		<-s.ended
	})
	t.Run("a client that does not read is dropped", func(t *testing.T) {
		t.Parallel()
		s := newStreamer(t, 10*time.Millisecond, false, func(_ context.Context, send func([]byte) error) {
			for send(make([]byte, 1<<20)) == nil {
			}
		})
		s.dial(t, getX)
		// Even the header can take longer than the timeout, and then nothing is sent.
		poll := time.NewTicker(time.Millisecond)
		defer poll.Stop()
		for len(s.observations()) == 0 {
			<-poll.C
		}
	})
	t.Run("a client that sends and sends is dropped", func(t *testing.T) {
		t.Parallel()
		s := newStreamer(t, time.Minute, false, func(ctx context.Context, _ func([]byte) error) { <-ctx.Done() })
		s.dial(t, getX+strings.Repeat("x", 16<<10))
		<-s.ended
	})
	t.Run("a panic is logged and cuts the answer", func(t *testing.T) {
		t.Parallel()
		s := newStreamer(t, time.Minute, false, func(_ context.Context, send func([]byte) error) {
			_ = send([]byte("ab"))
			panic("broken")
		})
		all, err := io.ReadAll(s.dial(t, getX))
		if err != nil || !strings.HasSuffix(string(all), "\r\n\r\n2\r\nab\r\n") {
			t.Errorf("the answer is %q, error %v; want one without its end", all, err)
		}
		if line := s.log.one(t); line["error_code"] != "internal" || !strings.Contains(line["cause"].(string), "broken") {
			t.Errorf("the log line is %v, want internal with the cause", line)
		}
	})
	t.Run("a stream of HTTP/2 has its connection in common with other requests", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		s := newStreamer(t, time.Minute, true, func(_ context.Context, send func([]byte) error) {
			_ = send([]byte("ab"))
			<-release
		})
		s.Get("/y", func(http.ResponseWriter, *http.Request) {})
		dials := 0
		client := s.srv.Client()
		transport := client.Transport.(*http.Transport)
		transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return (&tls.Dialer{Config: transport.TLSClientConfig}).DialContext(ctx, network, addr)
		}
		get := func(path string) *http.Response {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.srv.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = resp.Body.Close() })
			return resp
		}
		resp := get("/x")
		if other := get("/y"); resp.ProtoMajor != 2 || other.ProtoMajor != 2 || dials != 1 {
			t.Errorf("%s and %s on %d connections, want HTTP/2.0 on one", resp.Proto, other.Proto, dials)
		}
		close(release)
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ab" {
			t.Errorf("the body is %q, error %v; want %q", body, err, "ab")
		}
	})
}
