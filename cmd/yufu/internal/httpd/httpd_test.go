package httpd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), "YUFU_LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestServe(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	t.Run("a request in flight is answered during the drain, and new connections are refused", func(t *testing.T) {
		l := listen(t)
		entered, release := make(chan struct{}), make(chan struct{})
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-release
			_, _ = io.WriteString(w, "answered")
		})
		ctx, stop := context.WithCancel(t.Context())
		served, drained := make(chan error), make(chan struct{})
		go func() {
			served <- Serve(ctx, log, Stop{Grace: time.Minute, Draining: func() { close(drained) }}, Endpoint{Name: "public", Listener: l, Handler: h})
		}()
		body := make(chan string)
		go func() {
			resp, err := http.Get("http://" + l.Addr().String())
			if err != nil {
				body <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			body <- string(b)
		}()
		<-entered
		stop()
		<-drained
		for { // the listener closes a moment after draining began
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				break
			}
			_ = c.Close()
		}
		close(release)
		if got := <-body; got != "answered" {
			t.Errorf("the request in flight got %q, want %q", got, "answered")
		}
		if err := <-served; err != nil {
			t.Errorf("Serve() error = %v, want nil", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Run("a request longer than the grace period is cut off with an error", func(t *testing.T) {
		l := listen(t)
		entered, asked := make(chan struct{}), make(chan struct{})
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() {
			served <- Serve(ctx, log, Stop{Grace: 10 * time.Millisecond}, Endpoint{Name: "public", Listener: l, Handler: h})
		}()
		go func() {
			defer close(asked)
			resp, err := http.Get("http://" + l.Addr().String())
			if err == nil {
				_ = resp.Body.Close()
			}
		}()
		<-entered
		stop()
		if err := <-served; err == nil || !strings.Contains(err.Error(), "requests cut off") {
			t.Errorf("Serve() error = %v, want one that requests were cut off", err)
		}
		<-asked
		http.DefaultClient.CloseIdleConnections()
	})
}

func TestTakenOverConnections(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	// serve serves a handler that takes the connection over, until the drain has begun.
	serve := func(t *testing.T, grace time.Duration) (taken, client net.Conn, served chan error) {
		t.Helper()
		l := listen(t)
		conns := make(chan net.Conn)
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			conns <- c
		})
		ctx, stop := context.WithCancel(t.Context())
		served, drained := make(chan error), make(chan struct{})
		go func() {
			served <- Serve(ctx, log, Stop{Grace: grace, Draining: func() { close(drained) }},
				Endpoint{Name: "public", Listener: l, Handler: h, MaxConnections: 2})
		}()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if _, err := io.WriteString(client, getSlash); err != nil {
			t.Fatal(err)
		}
		taken = <-conns
		stop()
		<-drained
		return taken, client, served
	}
	t.Run("the drain waits for one", func(t *testing.T) {
		taken, client, served := serve(t, time.Minute)
		if _, err := io.WriteString(taken, "answered"); err != nil {
			t.Error(err)
		}
		_ = taken.Close()
		if got, err := io.ReadAll(client); err != nil || string(got) != "answered" {
			t.Errorf("the client got %q, error %v; want %q", got, err, "answered")
		}
		if err := <-served; err != nil {
			t.Errorf("Serve() error = %v, want nil", err)
		}
	})
	t.Run("one that is open longer than the grace period is closed with an error", func(t *testing.T) {
		taken, client, served := serve(t, time.Millisecond)
		if err := <-served; err == nil || !strings.Contains(err.Error(), "requests cut off") {
			t.Errorf("Serve() error = %v, want one that requests were cut off", err)
		}
		if got, err := io.ReadAll(client); err != nil || len(got) > 0 {
			t.Errorf("the client got %q, error %v; want the end", got, err)
		}
		if _, err := taken.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is open")
		}
	})
}

func TestDelay(t *testing.T) {
	l := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	served, left, drained, skip := make(chan error), make(chan struct{}), make(chan struct{}), make(chan os.Signal)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answered") })
	go func() {
		served <- Serve(ctx, slog.New(slog.DiscardHandler), Stop{
			Delay: time.Hour, Skip: skip, Grace: time.Minute,
			Leaving: func() { close(left) }, Draining: func() { close(drained) },
		}, Endpoint{Name: "public", Listener: l, Handler: h})
	}()
	get := func() (closes bool) {
		t.Helper()
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "answered" {
			t.Errorf("the answer is %q, error %v; want %q", b, err, "answered")
		}
		return resp.Close
	}
	if get() {
		t.Error("a connection is closed before the delay")
	}
	stop()
	<-left
	for !get() { // answers close connections soon after the call of Leaving
	}
	if !get() {
		t.Error("a connection is kept open in the delay")
	}
	select {
	case <-drained:
		t.Error("the drain began before the end of the delay")
	default:
	}
	skip <- os.Interrupt
	<-drained
	if err := <-served; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConnections(t *testing.T) {
	l := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, r.RequestURI)
	})
	go func() {
		served <- Serve(ctx, slog.New(slog.DiscardHandler), Stop{Grace: time.Minute}, Endpoint{Name: "public", Listener: l, Handler: h})
	}()
	// A proxy may have taken the second request of each connection for the body of the first.
	const second = "GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for name, tc := range map[string]struct {
		first string
		both  bool
	}{
		"go on after a request with a length":               {"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", true},
		"go on after OPTIONS for all":                       {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", true},
		"end after a request in chunks":                     {"POST /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		"end after a request with a length and chunks":      {"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 70\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		"end after a request of HTTP/1.0, whatever it says": {"GET /first HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, tc.first+second); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			first := strings.Contains(string(got), "/first") || strings.Contains(string(got), "\r\n\r\n*")
			if !first || strings.Contains(string(got), "/second") != tc.both {
				t.Errorf("the answers are %q, want the first and the second: %t", got, tc.both)
			}
		})
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	l := listen(t)
	defer l.Close()
	_, err := Listen(t.Context(), "YUFU_LISTEN", l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "YUFU_LISTEN") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Listen() on a port in use: error = %v, want one that says so", err)
	}
	_, err = Listen(t.Context(), "YUFU_LISTEN", "nonsense")
	if err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("Listen() without a port: error = %v, want one with host:port", err)
	}
	// A documentation address (RFC 5737): well formed, but not an address of any machine.
	_, err = Listen(t.Context(), "YUFU_LISTEN", "192.0.2.1:0")
	if err == nil || !strings.Contains(err.Error(), "YUFU_LISTEN names an address that cannot be listened on: listen tcp 192.0.2.1:0: ") || strings.Contains(err.Error(), "host:port") {
		t.Errorf("Listen() on another machine's address: error = %v, want one that it cannot be listened on", err)
	}
}
