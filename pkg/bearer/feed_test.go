package bearer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// start returns a verifier that is closed when the test ends. It has time to become
// ready, unless the test sets another NewWait.
func start(t *testing.T, cfg bearer.Config, tune bearer.Tuning) *bearer.Verifier {
	t.Helper()
	tune.Wait = cmp.Or(tune.Wait, time.Minute)
	tune.Fetch = cmp.Or(tune.Fetch, time.Minute)
	v, err := bearer.NewTuned(context.Background(), cfg, tune)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// soon is the NewWait of verifiers that are not expected to become ready.
const soon = time.Millisecond

// stage is a service whose feed the test controls: one scene for each connection. The
// keys are those of a double.
type stage struct {
	yufu *bearertest.Server
	cfg  bearer.Config
	mu   sync.Mutex
	seen []string // the Last-Event-ID of each connection
}

// scene serves one connection to the feed. Its return ends the connection.
type scene func(c *conn)

type conn struct {
	w   http.ResponseWriter
	r   *http.Request
	end chan struct{} // closed when the test ends
}

func (c *conn) begin() {
	c.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	c.flush()
}

func (c *conn) send(events ...cutoff.Event) {
	var b []byte
	for _, e := range events {
		b = cutoff.AppendEvent(b, e)
	}
	c.write(string(b))
}

func (c *conn) write(s string) {
	_, _ = c.w.Write([]byte(s))
	c.flush()
}

func (c *conn) flush() { _ = http.NewResponseController(c.w).Flush() }

// hold keeps the connection open.
func (c *conn) hold() {
	select {
	case <-c.r.Context().Done():
	case <-c.end:
	}
}

// waitFor keeps the connection open until the channel is closed.
func (c *conn) waitFor(ch chan struct{}) {
	select {
	case <-ch:
	case <-c.r.Context().Done():
	case <-c.end:
	}
}

// newStage serves the scenes in order, and then repeats the last one.
func newStage(t *testing.T, scenes ...scene) *stage {
	t.Helper()
	s := &stage{yufu: bearertest.New(t)}
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/revocations" {
			s.yufu.ServeHTTP(w, r)
			return
		}
		s.mu.Lock()
		n := len(s.seen)
		s.seen = append(s.seen, r.Header.Get("Last-Event-ID"))
		s.mu.Unlock()
		scenes[min(n, len(scenes)-1)](&conn{w, r, end})
	}))
	t.Cleanup(func() {
		close(end)
		server.CloseClientConnections()
		server.Close()
	})
	s.cfg = s.yufu.Config()
	s.cfg.URL = server.URL
	return s
}

func (s *stage) connections() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// beat is a heartbeat of a service with a correct clock.
func beat(age time.Duration) cutoff.Heartbeat {
	return cutoff.NewHeartbeat(age, time.Now(), 30*time.Second)
}

// healthy serves a feed without cutoffs.
func healthy(c *conn) {
	c.begin()
	c.send(beat(0).Ready("t.1", app))
	c.hold()
}

func TestFeed(t *testing.T) {
	t.Parallel()
	t.Run("earlier revocations apply as soon as New returns", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		kid := yufu.RotateKey()
		yufu.RotateKey()
		yufu.RevokeSession(session)
		yufu.RevokeApp("wxrevoked", 5)
		yufu.RevokeKey(kid)
		cfg := yufu.Config()
		cfg.Apps = []string{app, "wxrevoked"}
		v := start(t, cfg, bearer.Tuning{})
		wantError(t, v, yufu.Token(bearer.Claims{Session: session}), bearer.ErrRevoked)
		wantError(t, v, yufu.Token(bearer.Claims{App: "wxrevoked", Epoch: 4}), bearer.ErrRevoked)
		wantError(t, v, yufu.Token(bearer.Claims{KeyID: kid}), bearer.ErrRevoked)
		wantGood(t, v, yufu.Token(bearer.Claims{App: "wxrevoked", Epoch: 5}))
		wantGood(t, v, yufu.Token(bearer.Claims{}))
	})
	t.Run("a new revocation applies at once, to cached tokens too", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		cfg := yufu.Config()
		cfg.Apps = []string{app, "wxa"}
		v := start(t, cfg, bearer.Tuning{})
		for name, revoke := range map[string]func(){
			"session": func() { yufu.RevokeSession(session) },
			"ver":     func() { yufu.Revoke(cutoff.Cutoff{Kind: cutoff.KindSession, Session: user, Ver: 3}) },
			"app":     func() { yufu.RevokeApp("wxa", 3) },
		} {
			old := map[string]bearer.Claims{"session": {Session: session}, "ver": {Session: user, Ver: 2}, "app": {App: "wxa", Epoch: 2}}[name]
			next := map[string]bearer.Claims{"session": {}, "ver": {Session: user, Ver: 3}, "app": {App: "wxa", Epoch: 3}}[name]
			seen, unseen, other := yufu.Token(old), yufu.Token(old), yufu.Token(next)
			wantGood(t, v, seen)
			revoke()
			eventually(t, v, seen, bearer.ErrRevoked)
			wantError(t, v, unseen, bearer.ErrRevoked)
			wantGood(t, v, other)
		}
	})
	t.Run("a snapshot that was cut off is not complete", func(t *testing.T) {
		t.Parallel()
		second := make(chan struct{})
		s := newStage(t,
			func(c *conn) {
				c.begin()
				// The id and the heartbeat must not be there. They must not make half a
				// snapshot count as complete.
				c.send(sessionCutoff(0).Event("t.7"), beat(0).Event())
			},
			func(c *conn) {
				c.begin()
				c.send(sessionCutoff(0).Event(""))
				c.waitFor(second)
				c.send(beat(0).Ready("t.9", app))
				c.hold()
			},
		)
		v := start(t, s.cfg, bearer.Tuning{Wait: soon})
		revoked, good := s.yufu.Token(bearer.Claims{Session: session}), s.yufu.Token(bearer.Claims{})
		until(t, func() string { return map[bool]string{true: "no second connection"}[len(s.connections()) < 2] })
		eventually(t, v, revoked, bearer.ErrRevoked)
		wantError(t, v, good, bearer.ErrStale)
		if err := v.Ready(); !errors.Is(err, bearer.ErrStale) {
			t.Errorf("Ready() error = %v", err)
		}
		close(second)
		eventually(t, v, good, nil)
		if err := v.Ready(); err != nil {
			t.Errorf("Ready() error = %v", err)
		}
		if got := s.connections(); got[1] != "" {
			t.Errorf("the second connection resumed after %q", got[1])
		}
	})
	t.Run("a new connection resumes from the last id", func(t *testing.T) {
		t.Parallel()
		s := newStage(t,
			func(c *conn) { c.begin(); c.send(beat(0).Ready("t.1", app), sessionCutoff(2).Event("t.2")) },
			func(c *conn) { c.begin(); c.send(sessionCutoff(4).Event("t.3")) }, // cut while catching up
			func(c *conn) { c.begin(); c.send(beat(0).Ready("t.3", app)) },
			healthy,
		)
		start(t, s.cfg, bearer.Tuning{})
		until(t, func() string {
			got := s.connections()
			if len(got) < 4 {
				return fmt.Sprintf("%d connections", len(got))
			}
			if strings.Join(got[:4], " ") != " t.2 t.3 t.3" {
				t.Fatalf("Last-Event-ID were %q", got)
			}
			return ""
		})
	})
	t.Run("the data is not fresh during the catch-up", func(t *testing.T) {
		t.Parallel()
		c := clockAt(time.Now())
		at := func() cutoff.Heartbeat { return cutoff.NewHeartbeat(0, c.now(), 30*time.Second) }
		missed, ready := make(chan struct{}), make(chan struct{})
		s := newStage(t,
			func(c *conn) { c.begin(); c.send(at().Ready("t.1", app)); c.waitFor(missed) },
			func(c *conn) {
				c.begin()
				c.send(at().Event(), sessionCutoff(0).Event("t.2"), at().Event())
				c.waitFor(ready)
				c.send(at().Ready("t.2", app))
				c.hold()
			},
		)
		v := start(t, s.cfg, bearer.Tuning{Clock: c.now})
		good, revoked := s.yufu.Token(bearer.Claims{}), s.yufu.Token(bearer.Claims{Session: session})
		wantGood(t, v, good)
		c.advance(31 * time.Second)
		wantError(t, v, good, bearer.ErrStale)
		close(missed)
		eventually(t, v, revoked, bearer.ErrRevoked)
		wantError(t, v, good, bearer.ErrStale)
		close(ready)
		eventually(t, v, good, nil)
	})
	t.Run("a reset keeps the cutoffs of earlier snapshots", func(t *testing.T) {
		t.Parallel()
		other := cutoff.Cutoff{Kind: cutoff.KindSession, Session: user}
		s := newStage(t,
			func(c *conn) { c.begin(); c.send(sessionCutoff(0).Event(""), beat(0).Ready("t.5", app)) },
			func(c *conn) { c.begin(); c.send(cutoff.Reset(), other.Event("")) }, // cut inside
			func(c *conn) { c.begin(); c.send(other.Event(""), beat(0).Ready("u.1", app)); c.hold() },
		)
		v := start(t, s.cfg, bearer.Tuning{})
		eventually(t, v, s.yufu.Token(bearer.Claims{Session: user}), bearer.ErrRevoked)
		wantError(t, v, s.yufu.Token(bearer.Claims{Session: session}), bearer.ErrRevoked)
		until(t, func() string {
			got := s.connections()
			if len(got) < 3 {
				return fmt.Sprintf("%d connections", len(got))
			}
			if got[1] != "t.5" || got[2] != "" {
				t.Fatalf("Last-Event-ID were %q", got)
			}
			return ""
		})
		wantGood(t, v, s.yufu.Token(bearer.Claims{}))
	})
	t.Run("after a later reset the data is not fresh until the snapshot is complete", func(t *testing.T) {
		t.Parallel()
		c := clockAt(time.Now())
		at := func() cutoff.Heartbeat { return cutoff.NewHeartbeat(0, c.now(), 30*time.Second) }
		reset, ready := make(chan struct{}), make(chan struct{})
		s := newStage(t, func(c *conn) {
			c.begin()
			c.send(at().Ready("t.1", app))
			c.waitFor(reset)
			c.send(cutoff.Reset(), at().Event(), sessionCutoff(0).Event(""), at().Event())
			c.waitFor(ready)
			c.send(at().Ready("u.1", app))
			c.hold()
		})
		v := start(t, s.cfg, bearer.Tuning{Clock: c.now})
		good, revoked := s.yufu.Token(bearer.Claims{}), s.yufu.Token(bearer.Claims{Session: session})
		wantGood(t, v, good)
		c.advance(31 * time.Second)
		close(reset)
		eventually(t, v, revoked, bearer.ErrRevoked)
		wantError(t, v, good, bearer.ErrStale)
		close(ready)
		eventually(t, v, good, nil)
	})
	t.Run("a connection with events is kept", func(t *testing.T) {
		t.Parallel()
		const silence = 5 * time.Second
		// A stalled machine proves nothing: then the scene is repeated.
		for played := false; !played; {
			done := make(chan bool, 1)
			s := newStage(t, func(c *conn) {
				c.begin()
				c.send(beat(0).Ready("t.1", app))
				var longest time.Duration
				for range 30 {
					began := time.Now()
					time.Sleep(silence / 20) // between two heartbeats
					c.send(beat(0).Event())
					longest = max(longest, time.Since(began))
				}
				select {
				case done <- longest < silence/2:
				default: // the first connection is enough
				}
				c.hold()
			})
			start(t, s.cfg, bearer.Tuning{Silence: silence})
			played = <-done
			if n := len(s.connections()); played && n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		}
	})
	t.Run("it resumes after the id of a heartbeat", func(t *testing.T) {
		t.Parallel()
		behind := func(id string) cutoff.Event {
			e := beat(0).Event()
			e.ID = id
			return e
		}
		s := newStage(t,
			// Inside a snapshot it counts as little as an id does.
			func(c *conn) { c.begin(); c.send(behind("t.8")) },
			func(c *conn) { c.begin(); c.send(beat(0).Ready("t.1", app), behind("t.7"), beat(0).Event()) },
			func(c *conn) { c.begin(); c.send(beat(0).Ready("t.7", app)); c.hold() },
		)
		start(t, s.cfg, bearer.Tuning{})
		until(t, func() string { return map[bool]string{true: "no third connection"}[len(s.connections()) < 3] })
		if got, want := s.connections()[:3], []string{"", "", "t.7"}; !slices.Equal(got, want) {
			t.Errorf("it resumed after %q, want %q", got, want)
		}
	})
	t.Run("another timeline resets the feed", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		yufu.RevokeSession(session)
		v := start(t, yufu.Config(), bearer.Tuning{})
		yufu.Restore()
		yufu.RevokeSession(user)
		eventually(t, v, yufu.Token(bearer.Claims{Session: user}), bearer.ErrRevoked)
		wantError(t, v, yufu.Token(bearer.Claims{Session: session}), bearer.ErrRevoked)
		yufu.Disconnect()
		yufu.RevokeApp(app, 2)
		eventually(t, v, yufu.Token(bearer.Claims{Epoch: 1}), bearer.ErrRevoked)
	})
	t.Run("a newer service sends base kinds instead of a new kind", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		old := cutoff.Cutoff{Kind: cutoff.KindSession, Session: session}
		yufu.RevokeAs("person", old)
		log := &logBuffer{}
		cfg := yufu.Config()
		cfg.Logger = log.logger()
		v := start(t, cfg, bearer.Tuning{})
		good := yufu.Token(bearer.Claims{})
		wantGood(t, v, good)
		wantError(t, v, yufu.Token(bearer.Claims{Session: session}), bearer.ErrRevoked)
		yufu.RevokeAs("person", cutoff.Cutoff{Kind: cutoff.KindSession, Session: user}, cutoff.Cutoff{Kind: cutoff.KindApp, App: "wxa", Epoch: 2})
		eventually(t, v, yufu.Token(bearer.Claims{Session: user}), bearer.ErrRevoked)
		wantGood(t, v, good)
		if got := log.String(); strings.Contains(got, "kind of cutoff") {
			t.Errorf("the feed sent a kind that was not named:\n%s", got)
		}
	})
	t.Run("the request names the known kinds", func(t *testing.T) {
		t.Parallel()
		named := make(chan string, 1)
		s := newStage(t, func(c *conn) {
			select {
			case named <- c.r.URL.RawQuery:
			default:
			}
			healthy(c)
		})
		start(t, s.cfg, bearer.Tuning{})
		if got, want := <-named, "kinds=session,app,key"; got != want {
			t.Errorf("the query is %q, want %q", got, want)
		}
	})
	t.Run("a cutoff of an unknown kind is skipped and logged, and refuses no token", func(t *testing.T) {
		t.Parallel()
		log := &logBuffer{}
		s := newStage(t, func(c *conn) {
			c.begin()
			c.write("event: cutoff\ndata: {\"kind\":\"person\",\"person\":\"p\"}\n\n")
			c.send(sessionCutoff(0).Event(""), beat(0).Ready("t.1", app))
			c.write("event: cutoff\nid: t.2\ndata: {\"kind\":\"person\",\"person\":\"q\"}\n\n")
			c.send(cutoff.Cutoff{Kind: cutoff.KindSession, Session: user}.Event("t.3"))
			c.hold()
		})
		s.cfg.Logger = log.logger()
		v := start(t, s.cfg, bearer.Tuning{})
		eventually(t, v, s.yufu.Token(bearer.Claims{Session: user}), bearer.ErrRevoked)
		wantError(t, v, s.yufu.Token(bearer.Claims{Session: session}), bearer.ErrRevoked)
		wantGood(t, v, s.yufu.Token(bearer.Claims{}))
		if n := strings.Count(log.String(), "unknown kind of cutoff skipped"); n != 1 || len(s.connections()) != 1 {
			t.Errorf("%d log lines and %d connections, want one of each:\n%s", n, len(s.connections()), log)
		}
	})
	t.Run("events of a newer service are skipped", func(t *testing.T) {
		t.Parallel()
		newer := newStage(t, func(c *conn) {
			c.begin()
			c.write("event: weather\ndata: {}\n\n: hello\n\nretry: 5\n\n")
			c.send(beat(0).Ready("t.1", app))
			c.hold()
		})
		wantGood(t, start(t, newer.cfg, bearer.Tuning{}), newer.yufu.Token(bearer.Claims{}))
	})
}

// TestFeedFailsClosed checks that a broken feed never makes a verifier ready, that the
// verifier tries again, and that it recovers.
func TestFeedFailsClosed(t *testing.T) {
	t.Parallel()
	stream := func(s string) scene { return func(c *conn) { c.begin(); c.write(s); c.hold() } }
	answer := func(status int, contentType, body string) scene {
		return func(c *conn) {
			c.w.Header().Set("Content-Type", contentType)
			c.w.Header().Set("Location", "/.well-known/jwks.json")
			c.w.WriteHeader(status)
			c.write(body)
		}
	}
	ready := string(cutoff.AppendEvent(nil, beat(0).Ready("t.1", app)))
	// The timeout of a connection that does not end by itself. Other connections have
	// longer, so that they end by themselves on a slow machine too.
	const brief = 100 * time.Millisecond
	for name, c := range map[string]struct {
		scene scene
		// log is a text that the log must contain at level error.
		log     string
		silence time.Duration
	}{
		"a cutoff that is not JSON":       {stream("event: cutoff\ndata: kind=session\n\n" + ready), "malformed event in the revocation feed", 0},
		"a ready without a heartbeat":     {stream("event: ready\nid: t.1\ndata: {}\n\n"), "malformed event in the revocation feed", 0},
		"a heartbeat with a negative age": {stream("event: ready\nid: t.1\ndata: {\"age_ms\":-1,\"now\":\"2026-11-22T10:00:00Z\"}\n\n"), "malformed event in the revocation feed", 0},
		"an event too long":               {stream("data: " + strings.Repeat("x", cutoff.MaxEvent) + "\n\n" + ready), "", 0},
		"heartbeats without ready":        {stream(string(cutoff.AppendEvent(nil, beat(0).Event()))), "", brief},
		"silence":                         {func(c *conn) { c.begin(); c.hold() }, "", brief},
		"a connection without a response": {func(c *conn) { c.hold() }, "", brief},
		"comments without end": {func(c *conn) {
			c.begin()
			for c.r.Context().Err() == nil {
				c.write(": keep-alive\n\n")
				time.Sleep(5 * time.Millisecond) // between two comments
			}
		}, "", brief},
		"an event that never ends": {func(c *conn) {
			c.begin()
			for c.r.Context().Err() == nil {
				c.write("data: x\n")
				time.Sleep(20 * time.Millisecond) // between two lines
			}
		}, "", brief},
		"a replica far behind": {func(c *conn) {
			c.begin()
			c.send(beat(31*time.Second).Ready("t.1", app))
			for c.r.Context().Err() == nil {
				c.send(beat(31 * time.Second).Event())
				time.Sleep(5 * time.Millisecond) // between two heartbeats
			}
		}, "", 0},
		"an age that overflows a duration": {stream("event: ready\nid: t.1\ndata: {\"age_ms\":9223372036854775807,\"now\":\"" + time.Now().UTC().Format(time.RFC3339) + "\",\"max_staleness_ms\":30000}\n\n"), "", 0},
		"a web page":                       {answer(200, "text/html", ready), "", 0},
		"no content":                       {answer(204, "text/event-stream", ""), "", 0},
		"a redirect":                       {answer(307, "text/event-stream", ready), "", 0},
		"a server error":                   {answer(503, "text/event-stream", ready), "", 0},
		"an unknown service key":           {answer(401, "application/problem+json", "{}"), "service key rejected by the revocation feed", 0},
		"a key without the scope":          {answer(403, "application/problem+json", "{}"), "service key rejected by the revocation feed", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, c.scene, c.scene, c.scene, healthy)
			var log syncBuffer
			s.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			// The comparison with the service's clock must not be the reason for the
			// refusal.
			v := start(t, s.cfg, bearer.Tuning{Wait: soon, Silence: c.silence, Refused: 10 * time.Millisecond})
			token := s.yufu.Token(bearer.Claims{})
			until(t, func() string {
				_, err := v.Verify(context.Background(), token)
				// Counted after Verify: the good connection may have come meanwhile.
				switch n := len(s.connections()); {
				case n < 4 && err == nil:
					t.Fatal("the token was accepted")
				case n < 4:
					return fmt.Sprintf("%d connections", n)
				}
				return ""
			})
			eventually(t, v, token, nil)
			if said := log.String(); !strings.Contains(said, c.log) || (c.log != "" && !strings.Contains(said, "level=ERROR")) {
				t.Errorf("the log is %s", said)
			}
			if strings.Contains(log.String(), bearertest.ServiceKey) {
				t.Error("the log contains the service key")
			}
		})
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestStaleness(t *testing.T) {
	t.Parallel()
	// beats returns a stage whose feed sends the heartbeats of the channel, the first one
	// as ready.
	beats := func(t *testing.T) (*stage, chan cutoff.Heartbeat) {
		ch := make(chan cutoff.Heartbeat, 1)
		return newStage(t, func(c *conn) {
			c.begin()
			first := true
			for {
				select {
				case <-c.end:
					return
				case <-c.r.Context().Done():
					return
				case h := <-ch:
					if first {
						c.send(h.Ready("t.1", app))
					} else {
						c.send(h.Event())
					}
					first = false
				}
			}
		}), ch
	}
	// moment is the start of a clock, as precise as heartbeats are. Each test gets a new
	// one: a test may have to wait for its turn, while tokens are issued by the real
	// clock.
	moment := func() time.Time { return time.Now().Truncate(time.Millisecond) }
	t.Run("staleness grows from the replica's age by our clock", func(t *testing.T) {
		t.Parallel()
		begin := moment()
		c := clockAt(begin)
		s, ch := beats(t)
		ch <- cutoff.NewHeartbeat(12*time.Second, begin, 30*time.Second)
		v := start(t, s.cfg, bearer.Tuning{Clock: c.now})
		token := s.yufu.Token(bearer.Claims{})
		wantGood(t, v, token)
		c.advance(18 * time.Second)
		wantGood(t, v, token)
		c.advance(time.Millisecond)
		wantError(t, v, token, bearer.ErrStale)
		ch <- cutoff.NewHeartbeat(0, c.now(), 30*time.Second)
		eventually(t, v, token, nil)
	})
	t.Run("a delay of 25 s in a proxy counts", func(t *testing.T) {
		t.Parallel()
		begin := moment()
		c := clockAt(begin)
		s, ch := beats(t)
		ch <- cutoff.NewHeartbeat(0, begin.Add(-25*time.Second), 30*time.Second)
		v := start(t, s.cfg, bearer.Tuning{Clock: c.now})
		token := s.yufu.Token(bearer.Claims{})
		wantGood(t, v, token)
		c.advance(5 * time.Second)
		wantGood(t, v, token)
		c.advance(time.Second)
		wantError(t, v, token, bearer.ErrStale)
		// The next one has the same delay.
		ch <- cutoff.NewHeartbeat(0, c.now().Add(-25*time.Second), 30*time.Second)
		eventually(t, v, token, nil)

		s, ch = beats(t)
		s.cfg.MaxStaleness = 20 * time.Second
		ch <- cutoff.NewHeartbeat(0, c.now().Add(-25*time.Second), 30*time.Second)
		strict := start(t, s.cfg, bearer.Tuning{Clock: c.now})
		token = s.yufu.Token(bearer.Claims{})
		wantError(t, strict, token, bearer.ErrStale)
		c.advance(-5 * time.Second) // as if it had a delay of 20 s
		wantGood(t, strict, token)
	})
	t.Run("the bound is the lower of ours and the service's", func(t *testing.T) {
		t.Parallel()
		for name, b := range map[string]struct{ ours, theirs, want time.Duration }{
			"the service's default":    {0, 30 * time.Second, 30 * time.Second},
			"a service that is strict": {0, 10 * time.Second, 10 * time.Second},
			"we are stricter":          {5 * time.Second, 10 * time.Second, 5 * time.Second},
			"it is stricter than us":   {20 * time.Second, 10 * time.Second, 10 * time.Second},
			"we cannot raise it":       {time.Hour, 30 * time.Second, 30 * time.Second},
			"it cannot raise ours":     {0, time.Hour, 30 * time.Second},
			"it says nothing":          {0, 0, 30 * time.Second},
		} {
			begin := moment()
			c := clockAt(begin)
			s, ch := beats(t)
			s.cfg.MaxStaleness = b.ours
			ch <- cutoff.NewHeartbeat(0, begin, b.theirs)
			v := start(t, s.cfg, bearer.Tuning{Clock: c.now})
			token := s.yufu.Token(bearer.Claims{})
			c.advance(b.want)
			if _, err := v.Verify(context.Background(), token); err != nil {
				t.Errorf("%s: Verify() error at %v = %v", name, b.want, err)
			}
			c.advance(time.Nanosecond)
			if _, err := v.Verify(context.Background(), token); !errors.Is(err, bearer.ErrStale) {
				t.Errorf("%s: Verify() error past %v = %v", name, b.want, err)
			}
		}
	})
	t.Run("tokens expire by the later clock", func(t *testing.T) {
		t.Parallel()
		begin := moment()
		slow := clockAt(begin.Add(-20 * time.Minute))
		s, ch := beats(t)
		ch <- cutoff.NewHeartbeat(0, begin, 30*time.Second)
		v := start(t, s.cfg, bearer.Tuning{Clock: slow.now})
		wantError(t, v, s.yufu.Token(bearer.Claims{IssuedAt: begin.Add(-30 * time.Minute), ExpiresAt: begin.Add(-20 * time.Minute).Add(time.Minute)}), bearer.ErrExpired)
		token := s.yufu.Token(bearer.Claims{IssuedAt: begin.Add(-20 * time.Minute), ExpiresAt: begin.Add(10 * time.Second)})
		wantGood(t, v, token)
		slow.advance(10 * time.Second)
		wantError(t, v, token, bearer.ErrExpired)
	})
	t.Run("after the feed broke off, tokens are refused past the bound and not before", func(t *testing.T) {
		t.Parallel()
		begin := moment()
		c := clockAt(begin)
		cut := make(chan struct{})
		s := newStage(t,
			func(c *conn) {
				c.begin()
				c.send(cutoff.NewHeartbeat(0, begin, 30*time.Second).Ready("t.1", app))
				c.waitFor(cut)
			},
			func(c *conn) { c.w.WriteHeader(http.StatusBadGateway) },
		)
		v := start(t, s.cfg, bearer.Tuning{Clock: c.now})
		s.cfg.UnsafeAcceptStale, s.cfg.Apps = true, []string{app}
		unsafe := start(t, s.cfg, bearer.Tuning{Clock: c.now, Wait: soon})
		seen, unseen := s.yufu.Token(bearer.Claims{}), s.yufu.Token(bearer.Claims{})
		wantGood(t, v, seen)
		close(cut)
		until(t, func() string { return map[bool]string{true: "no second connection"}[len(s.connections()) < 3] })
		c.advance(29 * time.Second)
		wantGood(t, v, seen)
		c.advance(2 * time.Second)
		wantError(t, v, seen, bearer.ErrStale)
		wantError(t, v, unseen, bearer.ErrStale)
		eventually(t, unsafe, unseen, nil)
	})
}

// TestFeedUnderLoad revokes sessions while everything else runs concurrently, and checks
// that in the end these sessions are refused and no other.
func TestFeedUnderLoad(t *testing.T) {
	t.Parallel()
	yufu := bearertest.New(t)
	v := start(t, yufu.Config(), bearer.Tuning{})
	const n = 60
	var revoked, good [n]string
	var sessions [n]string
	for i := range n {
		sessions[i] = bearertest.UUID()
		revoked[i], good[i] = yufu.Token(bearer.Claims{Session: sessions[i]}), yufu.Token(bearer.Claims{})
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 3 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := v.Verify(context.Background(), good[i%n]); err != nil {
					t.Errorf("Verify() of a good token: error = %v", err)
					return
				}
				_, _ = v.Verify(context.Background(), revoked[i%n])
			}
		}()
	}
	for g := range 2 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for i := g; i < n; i += 2 {
				yufu.RevokeSession(sessions[i])
				switch i % 10 {
				case 3:
					yufu.Disconnect()
				case 5:
					yufu.RotateKey()
				case 7:
					yufu.Restore()
				}
			}
		}()
	}
	writers.Wait()
	for _, token := range revoked {
		eventually(t, v, token, bearer.ErrRevoked)
	}
	close(stop)
	readers.Wait()
	for _, token := range good {
		wantGood(t, v, token)
	}
}
