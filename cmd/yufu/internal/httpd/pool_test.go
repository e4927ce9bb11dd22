package httpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	getSlash    = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	halfHeader  = "GET / HTTP/1.1\r\nHost: x\r\n"
	halfBody    = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
	halfChunk   = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc"
	unreadBody  = "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
	getBlocking = "GET /block HTTP/1.1\r\nHost: x\r\n\r\n"
	getHuge     = "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n"
)

// pooled is a server with a pool.
type pooled struct {
	pool    *pool
	server  *http.Server
	addr    string
	entered chan struct{} // receives when a request for /block arrives
	release chan struct{} // closed to let these requests continue
}

func newPooled(t *testing.T, most int, patience time.Duration, proxies ...netip.Prefix) *pooled {
	t.Helper()
	l := listen(t)
	s := &pooled{pool: newPool(l, most, proxies), addr: l.Addr().String(), entered: make(chan struct{}, most), release: make(chan struct{})}
	s.pool.clientTimeout = patience
	huge := make([]byte, 64<<20)
	s.server = &http.Server{ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/block":
			s.entered <- struct{}{}
			<-s.release
		case "/huge":
			_, _ = w.Write(huge)
			return
		case "/unread":
		default:
			_, _ = io.Copy(io.Discard, r.Body)
		}
		_, _ = io.WriteString(w, "answered")
	})}
	track(s.server)
	served := make(chan error)
	go func() { served <- s.server.Serve(s.pool) }()
	t.Cleanup(func() {
		_ = s.server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve() error = %v, want %v", err, http.ErrServerClosed)
		}
		if s.pool.open != 0 || len(s.pool.networks) != 0 {
			t.Errorf("%d connections of networks %v are left, want none", s.pool.open, s.pool.networks)
		}
	})
	return s
}

// client is a connection from one of the loopback addresses.
type client struct {
	*net.TCPConn
	r *bufio.Reader
}

func (s *pooled) dial(t *testing.T, from string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c *client) send(t *testing.T, text string) *client {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask reports whether a request is answered.
func (c *client) ask() bool {
	_, _ = io.WriteString(c, getSlash)
	return c.answered()
}

func (c *client) answered() bool {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return false
	}
	b, err := io.ReadAll(resp.Body)
	return err == nil && string(b) == "answered"
}

// isClosed waits until the server has closed the connection.
func (c *client) isClosed(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c.r); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection ended with %v, want it closed", err)
	}
}

// settle waits until these numbers of connections are in these phases.
func (s *pooled) settle(want map[phase]int) {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for ; ; <-poll.C {
		s.pool.mu.Lock()
		got := map[phase]int{}
		for i := range s.pool.queues {
			for j := range s.pool.queues[i] {
				q := &s.pool.queues[i][j]
				for c := q.head.next; c != &q.head; c = c.next {
					got[phase(i)]++
				}
			}
		}
		s.pool.mu.Unlock()
		met := true
		for p, n := range want {
			met = met && got[p] == n
		}
		if met {
			return
		}
	}
}

func TestFullPool(t *testing.T) {
	t.Run("the connection that has been idle longest makes room", func(t *testing.T) {
		s := newPooled(t, 4, time.Hour)
		first, second, third, fourth := s.dial(t, "127.0.0.1"), s.dial(t, "127.0.0.2"), s.dial(t, "127.0.0.3"), s.dial(t, "127.0.0.4")
		for _, c := range []*client{first, second, third, fourth, first} {
			if !c.ask() {
				t.Fatal("a connection was closed before the pool was full")
			}
			s.settle(map[phase]int{idle: 4})
		}
		if !s.dial(t, "127.0.0.5").ask() {
			t.Error("the fifth got no answer")
		}
		second.isClosed(t)
		for _, c := range []*client{first, third, fourth} {
			if !c.ask() {
				t.Errorf("%s, which had been idle for less long, was closed", c.LocalAddr())
			}
		}
	})
	t.Run("no request is cut while a connection is idle", func(t *testing.T) {
		s := newPooled(t, 6, 0)
		slow := []*client{
			s.dial(t, "127.0.0.1").send(t, halfHeader), s.dial(t, "127.0.0.2").send(t, halfBody),
			s.dial(t, "127.0.0.3").send(t, getBlocking), s.dial(t, "127.0.0.4").send(t, halfChunk), s.dial(t, "127.0.0.5").send(t, getHuge),
		}
		<-s.entered
		s.settle(map[phase]int{header: 1, body: 2, writing: 1})
		for range 5 {
			if !s.dial(t, "127.0.0.6").ask() {
				t.Fatal("a new connection got no answer")
			}
			s.settle(map[phase]int{idle: 1})
		}
		slow[0].send(t, "\r\n")
		slow[1].send(t, strings.Repeat("x", 97))
		slow[3].send(t, strings.Repeat("x", 97)+"\r\n0\r\n\r\n")
		close(s.release)
		for i, c := range slow[:4] {
			if !c.answered() {
				t.Errorf("request %d was cut", i)
			}
		}
		resp, err := http.ReadResponse(slow[4].r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("the answer was cut: %v", err)
		}
	})
	for name, say := range map[string]string{
		"a header": halfHeader, "a body": halfBody, "a chunk": halfChunk, "a body that no handler reads": unreadBody, "an answer that is not read": getHuge,
	} {
		p := map[string]phase{halfHeader: header, getHuge: writing}[say]
		if p == idle {
			p = body
		}
		t.Run("without an idle connection the one that is kept waiting longest makes room: "+name, func(t *testing.T) {
			s := newPooled(t, 2, 0)
			first := s.dial(t, "127.0.0.1").send(t, say)
			s.settle(map[phase]int{p: 1})
			second := s.dial(t, "127.0.0.2").send(t, say)
			s.settle(map[phase]int{p: 2})
			if !s.dial(t, "127.0.0.3").ask() {
				t.Fatal("the third got no answer")
			}
			first.isClosed(t)
			_ = second
		})
		t.Run("a client may be slow for a while: "+name, func(t *testing.T) {
			s := newPooled(t, 2, time.Hour)
			first, second := s.dial(t, "127.0.0.1").send(t, say), s.dial(t, "127.0.0.2").send(t, say)
			s.settle(map[phase]int{p: 2})
			third := s.dial(t, "127.0.0.3").send(t, getSlash)
			_ = first.Close()
			if !third.answered() {
				t.Error("the third got no answer when there was room")
			}
			_ = second
		})
	}
	t.Run("requests that the service is slow to answer are never cut off, and new connections wait", func(t *testing.T) {
		s := newPooled(t, 2, 0)
		first, second := s.dial(t, "127.0.0.1").send(t, getBlocking), s.dial(t, "127.0.0.2").send(t, getBlocking)
		<-s.entered
		<-s.entered
		third := s.dial(t, "127.0.0.3").send(t, getSlash)
		close(s.release)
		for _, c := range []*client{first, second, third} {
			if !c.answered() {
				t.Error("a request was cut")
			}
		}
	})
	t.Run("closing it ends a connection that waits for room", func(t *testing.T) {
		s := newPooled(t, 1, time.Hour)
		first := s.dial(t, "127.0.0.1").send(t, halfHeader)
		s.settle(map[phase]int{header: 1})
		second := s.dial(t, "127.0.0.2")
		if err := s.server.Close(); err != nil {
			t.Fatal(err)
		}
		second.isClosed(t)
		first.isClosed(t)
	})
}

func TestShares(t *testing.T) {
	t.Run("a network with half of the connections loses one of its own", func(t *testing.T) {
		s := newPooled(t, 8, time.Hour)
		other := s.dial(t, "127.0.0.2")
		var own []*client
		for range 5 {
			own = append(own, s.dial(t, "127.0.0.1"))
			if !own[len(own)-1].ask() {
				t.Fatal("a connection got no answer")
			}
			s.settle(map[phase]int{idle: 1 + min(len(own), 4)})
		}
		own[0].isClosed(t)
		for _, c := range append(own[1:], other) {
			if !c.ask() {
				t.Error("another connection was closed")
			}
		}
	})
	t.Run("a network with half of the connections in use is refused", func(t *testing.T) {
		s := newPooled(t, 2, time.Hour)
		first := s.dial(t, "127.0.0.1").send(t, halfHeader)
		s.settle(map[phase]int{header: 1})
		s.dial(t, "127.0.0.1").isClosed(t)
		if !first.send(t, "\r\n").answered() || !s.dial(t, "127.0.0.2").ask() {
			t.Error("others were refused")
		}
	})
	t.Run("in a full pool a network above the average loses its own connections", func(t *testing.T) {
		s := newPooled(t, 8, time.Hour)
		honest := []*client{s.dial(t, "127.0.0.1"), s.dial(t, "127.0.0.4")}
		for _, c := range honest {
			if !c.ask() {
				t.Fatal("an honest connection got no answer")
			}
		}
		s.settle(map[phase]int{idle: 2})
		// The honest connections have been idle longest.
		for i := range 40 {
			if !s.dial(t, []string{"127.0.0.2", "127.0.0.3"}[i%2]).ask() {
				t.Fatal("a hostile connection got no answer")
			}
			s.settle(map[phase]int{idle: min(i+3, 8)})
		}
		for _, c := range honest {
			if !c.ask() {
				t.Error("an honest connection was closed for a hostile one")
			}
		}
	})
	t.Run("a trusted proxy has no share, and its idle connections are closed last", func(t *testing.T) {
		s := newPooled(t, 4, time.Hour, netip.MustParsePrefix("127.0.0.1/32"))
		var all []*client
		for range 3 {
			all = append(all, s.dial(t, "127.0.0.1"))
			if !all[len(all)-1].ask() {
				t.Fatal("a proxy's connection was refused")
			}
		}
		stranger := s.dial(t, "127.0.0.2")
		if !stranger.ask() {
			t.Fatal("the fourth connection got no answer")
		}
		s.settle(map[phase]int{idle: 4})
		if !s.dial(t, "127.0.0.3").ask() {
			t.Fatal("the fifth connection got no answer")
		}
		stranger.isClosed(t)
		for _, c := range all {
			if !c.ask() {
				t.Error("a proxy's connection was closed")
			}
		}
	})
}

// TestHostileAddresses checks that clients are answered while two addresses keep taking all
// connections.
func TestHostileAddresses(t *testing.T) {
	for name, say := range map[string]string{
		"say nothing": "", "are idle": getSlash, "never finish a header": halfHeader, "never finish a body": halfBody,
		"never finish a chunk": halfChunk, "never read": strings.Repeat(getHuge, 3),
	} {
		t.Run("addresses that "+name, func(t *testing.T) {
			s := newPooled(t, 16, 0)
			ctx, stop := context.WithCancel(t.Context())
			var hostile sync.WaitGroup
			full := make(chan struct{}, 100)
			for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
				hostile.Go(func() {
					d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
					var held []net.Conn
					for n := 0; ctx.Err() == nil; n++ {
						c, err := d.DialContext(ctx, "tcp", s.addr)
						if err != nil {
							continue
						}
						_, _ = io.WriteString(c, say)
						held = append(held, c)
						if n == 40 {
							full <- struct{}{}
						}
						if len(held) > 200 {
							_ = held[0].Close()
							held = slices.Delete(held, 0, 1)
						}
					}
					for _, c := range held {
						_ = c.Close()
					}
				})
			}
			<-full
			<-full
			for i := range 30 {
				if !s.dial(t, []string{"127.0.0.1", "127.0.0.4", "127.0.0.5"}[i%3]).ask() {
					t.Errorf("honest client %d got no answer", i)
				}
			}
			stop()
			hostile.Wait()
		})
	}
}

// deadlines is a connection that records its read deadlines.
type deadlines struct {
	net.Conn
	last time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.last = t
	return nil
}

func TestCrowdedPool(t *testing.T) {
	l := listen(t)
	defer l.Close()
	p := newPool(l, 4, nil)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p.clock = func() time.Time { return now }
	noted := &deadlines{}
	first := &conn{Conn: noted, pool: p}
	add := func(c *conn) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.add(c)
	}
	add(first)
	wantDeadline := func(when string, set, want time.Time) {
		t.Helper()
		if err := first.SetReadDeadline(set); err != nil || !noted.last.Equal(want) {
			t.Errorf("%s: deadline %s, want %s", when, noted.last, want)
		}
	}
	late := now.Add(idleTimeout)
	wantDeadline("with room", late, late)
	for range 2 {
		add(&conn{Conn: &deadlines{}, pool: p})
	}
	wantDeadline("under pressure", late, now.Add(crowdedIdle))
	wantDeadline("without a deadline", time.Time{}, now.Add(crowdedIdle))
	wantDeadline("with an earlier deadline", now.Add(time.Second), now.Add(time.Second))
	first.enter(busy)
	wantDeadline("in a request", late, late)
}

func TestNoSniff(t *testing.T) {
	l := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	h := http.NewServeMux()
	h.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
	go func() {
		served <- Serve(ctx, slog.New(slog.DiscardHandler), Stop{Grace: time.Minute}, Endpoint{Name: "public", Listener: l, Handler: h, MaxConnections: 10})
	}()
	for name, tc := range map[string]struct {
		send string
		want int
	}{
		"a success":                 {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200},
		"an unknown address":        {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404},
		"an unknown method":         {"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405},
		"a request without a host":  {"GET / HTTP/1.1\r\n\r\n", 400},
		"no HTTP":                   {"<script>\r\n\r\n", 400},
		"a header that is too long": {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
		"an unknown encoding":       {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		"an unknown version":        {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505},
		"an unknown expectation":    {"GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\nConnection: close\r\n\r\n", 417},
	} {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, tc.send) // fails if the server answers before it has read all
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: reading the answer: %v", name, err)
		}
		if got := resp.Header.Values("X-Content-Type-Options"); resp.StatusCode != tc.want || !slices.Equal(got, []string{"nosniff"}) {
			t.Errorf("%s: status %d with X-Content-Type-Options %q, want %d with nosniff", name, resp.StatusCode, got, tc.want)
		}
		_ = c.Close()
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestRoomAfterShortWait checks that a connection which soon can be closed for another one is
// found, however short the wait is.
func TestRoomAfterShortWait(t *testing.T) {
	l := listen(t)
	defer l.Close()
	p := newPool(l, 1, nil)
	p.clientTimeout = 1
	var now time.Time
	p.clock = func() time.Time { now = now.Add(1); return now }
	ours, theirs := net.Pipe()
	defer theirs.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20000 {
			c := &conn{Conn: ours, pool: p, proxy: true}
			if !p.admit(c) {
				return
			}
			p.mu.Lock()
			c.unlink()
			c.phase, c.since = header, now.Add(1)
			p.queues[header][c.class()].push(c)
			p.mu.Unlock()
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("a connection still waits for room although another one can be closed for it")
		_ = p.Close()
		<-done
	}
}
