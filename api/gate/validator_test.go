package gate_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bound is YUFU_MAX_STALENESS.
const bound = 30 * time.Second

// service is a replica with validators of pkg/bearer. All of it is real but the
// database and the network. It runs in a synctest bubble, where minutes take no time.
// The feed goes over a line that fails in every way a network does; the keys do not,
// as they have their own tests.
type service struct {
	t        *testing.T
	db       *cutoffstest.Store
	follower *cutoffs.Follower
	minter   *token.Minter
	line     *line
	direct   func(context.Context, string, string) (net.Conn, error)
	// refusal is the answer to every request for the feed; nil lets requests in.
	refusal atomic.Pointer[auth.Error]
	// key is the service key of the accepted requests.
	key     atomic.Pointer[servicekey.Key]
	streams atomic.Int64 // opened streams
	// dbAhead is how far the database's clock is ahead, in nanoseconds.
	dbAhead atomic.Int64
}

// person is a kind of cutoff that the service knows and the validators do not: a later
// version may add one.
const person auth.CutoffKind = "person"

// issuer is on loopback, so that pkg/bearer accepts it without TLS.
const issuer = "http://127.0.0.1:8080"

func inBubble(t *testing.T, name string, test func(t *testing.T, s *service)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { test(t, newService(t)) })
	})
}

// theKey is the signing key.
type theKey struct{ *ecdsa.PrivateKey }

func (k theKey) CurrentSigningKey(string, time.Time) (token.SigningKey, error) {
	return token.SigningKey{KID: "k", Alg: "ES256", Key: k.PrivateKey}, nil
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, db: cutoffstest.New()}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	s.minter, err = token.NewMinter(theKey{key}, issuer, auth.MaxAccessTokenTTL)
	check(err)
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	check(err)
	s.follower, err = cutoffs.Open(t.Context(), cutoffs.Config{
		Store: s.db, MaxStaleness: bound, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Kinds: []auth.CutoffKind{person},
	})
	check(err)

	r := chi.NewRouter()
	r.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, time.Now))
	r.Get("/.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwks) })
	s.key.Store(&servicekey.Key{PinnedApp: "wxdevelopment0001"})
	gate.New(clocked{s.follower, s}, func(r *http.Request, _ servicekey.Scope) (servicekey.Key, error) {
		if refusal := s.refusal.Load(); refusal != nil {
			return servicekey.Key{}, refusal
		}
		return *s.key.Load(), r.Context().Err()
	}).Mount(r)
	l := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.direct = l.dial
	s.line = &line{to: l.dial}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	ctx, stop := context.WithCancel(t.Context())
	var owned sync.WaitGroup
	owned.Go(func() { s.follower.Run(ctx) })
	owned.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		stop()
		_ = srv.Close()
		s.line.end()
		owned.Wait()
	})
	return s
}

// clocked is the feed with a database whose clock is ahead.
type clocked struct {
	*cutoffs.Follower
	s *service
}

func (c clocked) Now() time.Time { return c.Follower.Now().Add(time.Duration(c.s.dbAhead.Load())) }

// RoundTrip sends requests for the feed over the line, and others directly.
func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	dial := s.direct
	if strings.HasSuffix(r.URL.Path, "/v1/revocations") {
		dial = s.line.dial
		s.streams.Add(1)
	}
	return (&http.Transport{DialContext: dial, DisableKeepAlives: true}).RoundTrip(r)
}

// validator returns the verifier of a back end.
func (s *service) validator(maxStaleness time.Duration) *bearer.Verifier {
	s.t.Helper()
	v, err := bearer.New(s.t.Context(), bearer.Config{
		Issuer: issuer, ServiceKey: "yfk_a_b", MaxStaleness: maxStaleness, HTTPClient: &http.Client{Transport: s},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = v.Close() })
	return v
}

// token mints a token of a session, valid for most of an hour.
func (s *service) token(session uuid.UUID) string {
	s.t.Helper()
	raw, _, err := s.minter.Mint(&auth.Session{
		ID: session, Identity: newID(), AppID: "wxdevelopment0001", Ver: 1, Epoch: 1, ExpiresAt: time.Now().Add(24 * time.Hour),
	}, nil, "", time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return raw.Reveal()
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// revoke revokes a session now.
func (s *service) revoke(session uuid.UUID) { s.db.Commit(auth.SessionEnded("", session, time.Now())) }

// verdict verifies a token after all pending work is done.
func (s *service) verdict(v *bearer.Verifier, token string) error {
	synctest.Wait()
	_, err := v.Verify(s.t.Context(), token)
	return err
}

func (s *service) want(v *bearer.Verifier, token string, want error) {
	s.t.Helper()
	if err := s.verdict(v, token); !errors.Is(err, want) {
		s.t.Errorf("Verify() error = %v, want %v", err, want)
	}
}

// seconds calls f in the middle of every second of d.
func seconds(d time.Duration, f func(passed time.Duration)) {
	began := time.Now()
	time.Sleep(500 * time.Millisecond)
	for passed := time.Since(began); passed < d; passed = time.Since(began) {
		f(passed)
		time.Sleep(time.Second)
	}
}

func TestValidator(t *testing.T) {
	t.Parallel()
	inBubble(t, "a revoked token is refused at the moment of the commit", func(_ *testing.T, s *service) {
		v, session := s.validator(0), newID()
		good, revoked := s.token(newID()), s.token(session)
		s.want(v, revoked, nil)
		s.revoke(session)
		s.want(v, revoked, bearer.ErrRevoked) // without any time passing
		s.want(v, good, nil)
	})

	inBubble(t, "a validator waits 5 s for a service that does not answer, and works when it does", func(t *testing.T, s *service) {
		s.line.swallow(true)
		began := time.Now()
		v := s.validator(0)
		if waited := time.Since(began); waited != 5*time.Second {
			t.Errorf("New() took %v, want 5s", waited)
		}
		good := s.token(newID())
		s.want(v, good, bearer.ErrStale)
		s.line.swallow(false)
		time.Sleep(bound + 5*time.Second)
		s.want(v, good, nil)
	})

	inBubble(t, "a validator behind a proxy that delays the feed by 25 s measures the delay", func(t *testing.T, s *service) {
		s.line.delay(25 * time.Second)
		v, strict, session := s.validator(0), s.validator(20*time.Second), newID()
		good, revoked := s.token(newID()), s.token(session)
		s.want(v, good, bearer.ErrStale)
		time.Sleep(25 * time.Second)
		seconds(2*time.Minute, func(passed time.Duration) {
			if err := s.verdict(v, good); err != nil {
				t.Errorf("Verify() after %v: error = %v", passed, err)
			}
			// Its data is 25 s old, and its bound is 20 s.
			if err := s.verdict(strict, good); !errors.Is(err, bearer.ErrStale) {
				t.Errorf("the strict validator's Verify() after %v: error = %v", passed, err)
			}
		})
		s.revoke(session)
		seconds(time.Minute, func(passed time.Duration) {
			if err := s.verdict(v, revoked); passed > 25*time.Second != errors.Is(err, bearer.ErrRevoked) {
				t.Errorf("Verify() %v after the revocation: error = %v", passed, err)
			}
		})
		if n := s.streams.Load(); n > 20 { // the strict one drops replicas that are behind
			t.Errorf("the validators opened %d connections, want at most 20", n)
		}
	})

	inBubble(t, "a validator behind a proxy that begins to delay the feed accepts no revoked token after the bound, and recovers", func(t *testing.T, s *service) {
		v, session := s.validator(0), newID()
		good, revoked := s.token(newID()), s.token(session)
		s.want(v, revoked, nil)
		s.line.delay(25 * time.Second)
		s.revoke(session)
		seconds(time.Minute, func(passed time.Duration) {
			if err := s.verdict(v, revoked); err == nil && passed > bound {
				t.Errorf("the token is accepted %v after its revocation", passed)
			}
		})
		s.want(v, good, nil)
		s.want(v, revoked, bearer.ErrRevoked)
	})

	inBubble(t, "a validator becomes stale with its replica when the database is cut off", func(t *testing.T, s *service) {
		v, session := s.validator(0), newID()
		good, revoked := s.token(newID()), s.token(session)
		time.Sleep(10 * time.Second)
		s.want(v, good, nil)
		s.db.Fail(auth.StorageUnavailable)
		s.db.Disconnect()
		s.revoke(session) // by another replica with the same database
		accepted, refused := 0, 0
		seconds(2*time.Minute, func(passed time.Duration) {
			for _, token := range []string{good, revoked} {
				err := s.verdict(v, token)
				switch age := s.follower.Age(); {
				case err == nil && age <= bound:
					accepted++
				case errors.Is(err, bearer.ErrStale) && age > bound:
					refused++
				default:
					t.Errorf("Verify() after %v, with data %v old: error = %v", passed, age, err)
				}
			}
		})
		if accepted == 0 || refused == 0 {
			t.Errorf("%d tokens accepted, %d refused, want both", accepted, refused)
		}
		s.db.Fail(nil)
		time.Sleep(10 * time.Second)
		s.want(v, good, nil)
		s.want(v, revoked, bearer.ErrRevoked)
	})

	inBubble(t, "a validator whose snapshots are cut off is not fresh before it has a whole one", func(t *testing.T, s *service) {
		var sessions []uuid.UUID
		for range 3000 {
			sessions = append(sessions, newID())
		}
		for _, id := range sessions {
			s.revoke(id)
		}
		synctest.Wait()
		good, first, last := s.token(newID()), s.token(sessions[0]), s.token(sessions[len(sessions)-1])
		s.line.cutAfter(100 << 10) // a quarter of it, in the middle of an event
		v := s.validator(0)
		seconds(time.Minute, func(passed time.Duration) {
			for token, want := range map[string]error{good: bearer.ErrStale, first: bearer.ErrRevoked, last: bearer.ErrStale} {
				if err := s.verdict(v, token); !errors.Is(err, want) {
					t.Errorf("Verify() after %v: error = %v, want %v", passed, err, want)
				}
			}
		})
		if n := s.streams.Load(); n < 5 {
			t.Errorf("only %d connections: the test does not cover cut snapshots", n)
		}
		s.line.cutAfter(0)
		time.Sleep(10 * time.Second)
		for token, want := range map[string]error{good: nil, first: bearer.ErrRevoked, last: bearer.ErrRevoked} {
			s.want(v, token, want)
		}
	})

	inBubble(t, "a validator with a half-open connection accepts nothing after the bound, and reconnects by itself", func(t *testing.T, s *service) {
		v, session := s.validator(0), newID()
		good, revoked := s.token(newID()), s.token(session)
		s.want(v, revoked, nil)
		s.line.swallow(true)
		s.revoke(session)
		seconds(2*time.Minute, func(passed time.Duration) {
			if err := s.verdict(v, revoked); passed > bound != errors.Is(err, bearer.ErrStale) {
				t.Errorf("Verify() %v after the revocation: error = %v", passed, err)
			}
		})
		s.line.swallow(false)
		time.Sleep(bound + 5*time.Second)
		s.want(v, good, nil)
		s.want(v, revoked, bearer.ErrRevoked)
	})

	inBubble(t, "a validator gets every cutoff that was committed while it was disconnected", func(t *testing.T, s *service) {
		v := s.validator(0)
		var revoked []string
		for range 50 {
			id := newID()
			revoked = append(revoked, s.token(id))
			s.line.cut()
			s.revoke(id)
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		for _, token := range revoked {
			s.want(v, token, bearer.ErrRevoked)
		}
		s.want(v, s.token(newID()), nil)
	})

	inBubble(t, "a validator loses its stream when its service key is revoked, and then refuses all tokens", func(t *testing.T, s *service) {
		v := s.validator(0)
		good := s.token(newID())
		s.want(v, good, nil)
		s.refusal.Store(&auth.Error{Code: auth.ServiceKeyInvalid})
		time.Sleep(31 * time.Second) // the replica checks again every 30 s
		if n := s.streams.Load(); n != 2 {
			t.Errorf("the validators opened %d connections, want 2", n)
		}
		time.Sleep(bound)
		s.want(v, good, bearer.ErrStale)
		s.refusal.Store(nil)
		time.Sleep(31 * time.Second) // it does not reconnect at once after a refusal
		s.want(v, good, nil)
	})

	inBubble(t, "a validator gets cutoffs of a newer kind as kinds that it knows", func(t *testing.T, s *service) {
		v, a, b := s.validator(0), newID(), newID()
		s.db.Commit(
			auth.Cutoff{Kind: auth.CutoffSession, Session: a, CoveredBy: person, ExpiresAt: time.Now().Add(auth.CutoffRetention)},
			auth.Cutoff{Kind: auth.CutoffSession, Session: b, CoveredBy: person, ExpiresAt: time.Now().Add(auth.CutoffRetention)},
			auth.Cutoff{Kind: person, ExpiresAt: time.Now().Add(auth.CutoffRetention)},
		)
		for _, v := range []*bearer.Verifier{v, s.validator(0)} {
			for _, session := range []uuid.UUID{a, b} {
				s.want(v, s.token(session), bearer.ErrRevoked)
			}
			seconds(time.Minute, func(time.Duration) { s.want(v, s.token(newID()), nil) })
		}
		if n := s.streams.Load(); n != 2 {
			t.Errorf("%d connections, want one for each validator", n)
		}
	})

	inBubble(t, "a validator loses its stream at the moment when its service key expires", func(t *testing.T, s *service) {
		const left = 7 * time.Second
		s.dbAhead.Store(int64(time.Hour)) // the key expires by this clock
		expires := time.Now().Add(time.Hour + left)
		s.key.Store(&servicekey.Key{PinnedApp: "wxdevelopment0001", ExpiresAt: expires})
		v := s.validator(0)
		time.Sleep(left - time.Millisecond)
		s.want(v, s.token(newID()), nil)
		if n := s.streams.Load(); n != 1 {
			t.Errorf("%d connections before the key expires, want 1", n)
		}
		s.refusal.Store(&auth.Error{Code: auth.ServiceKeyInvalid})
		time.Sleep(time.Second)
		synctest.Wait()
		if n := s.streams.Load(); n != 2 {
			t.Errorf("%d connections after the key expired, want 2: the first has ended", n)
		}
	})

	inBubble(t, "a validator learns within 30 s that its key is pinned to another app, and misses no cutoff", func(t *testing.T, s *service) {
		v, session := s.validator(0), newID()
		good := s.token(newID())
		s.want(v, good, nil)
		s.key.Store(&servicekey.Key{PinnedApp: "wxother"})
		s.revoke(session)
		time.Sleep(31 * time.Second)
		s.want(v, good, bearer.ErrOtherApp)
		s.key.Store(&servicekey.Key{Apps: []string{"wxdevelopment0001"}})
		time.Sleep(31 * time.Second)
		s.want(v, good, nil)
		s.want(v, s.token(session), bearer.ErrRevoked)
		s.key.Store(&servicekey.Key{Apps: []string{"wxdevelopment0001", "wxother"}})
		time.Sleep(31 * time.Second)
		s.want(v, good, bearer.ErrMisconfigured)
	})

	inBubble(t, "a validator keeps its stream when the database cannot check its key", func(t *testing.T, s *service) {
		v := s.validator(0)
		s.refusal.Store(&auth.Error{Code: auth.StorageUnavailable})
		time.Sleep(5 * time.Minute)
		s.want(v, s.token(newID()), nil)
		if n := s.streams.Load(); n != 1 {
			t.Errorf("the validators opened %d connections, want 1", n)
		}
	})
}

func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	inBubble(t, "a subscriber that reads nothing for 10 s is dropped", func(t *testing.T, s *service) {
		c, err := s.direct(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /v1/revocations HTTP/1.1\r\nHost: yufu\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		// A pipe has no buffer, so the first event waits for a reader.
		time.Sleep(11 * time.Second)
		_ = c.SetReadDeadline(time.Now().Add(time.Second)) // fails when the other end is closed, which is expected
		if rest, err := io.ReadAll(c); err != nil {
			t.Errorf("the stream goes on after 10 s: read %q, error %v", rest, err)
		}
	})
}

// memoryListener accepts one end of each pipe whose other end was dialed.
type memoryListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *memoryListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
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

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

// line is a network between a validator and the service. Settings apply to all that
// is sent afterwards, and a connection that has swallowed data carries nothing more.
type line struct {
	to func(context.Context, string, string) (net.Conn, error)

	mu      sync.Mutex
	late    time.Duration
	limit   int
	deaf    bool
	open    []net.Conn
	carries sync.WaitGroup
}

// delay delays by d all that the service sends, in order and without a bound.
func (l *line) delay(d time.Duration) { l.set(func() { l.late = d }) }

// cutAfter cuts connections after n bytes from the service; 0 cuts no connection.
func (l *line) cutAfter(n int) { l.set(func() { l.limit = n }) }

// swallow accepts all data and delivers none.
func (l *line) swallow(on bool) { l.set(func() { l.deaf = on }) }

// cut ends all connections.
func (l *line) cut() {
	l.set(func() {
		for _, c := range l.open {
			_ = c.Close()
		}
		l.open = nil
	})
}

// end cuts all connections and waits until they are closed.
func (l *line) end() {
	l.cut()
	l.carries.Wait()
}

func (l *line) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *line) state() (late time.Duration, limit int, deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.late, l.limit, l.deaf
}

func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	far, err := l.to(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	client, near := net.Pipe()
	l.set(func() { l.open = append(l.open, near, far) })
	both := func() { _ = near.Close(); _ = far.Close() }
	var swallowed atomic.Bool
	// read forwards the data of a connection until it ends.
	read := func(from net.Conn, give func([]byte)) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if _, _, deaf := l.state(); deaf {
				swallowed.Store(true)
			}
			if !swallowed.Load() {
				give(bytes.Clone(buf[:n]))
			}
		}
	}
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 1<<12)
	l.carries.Go(func() {
		defer both()
		read(near, func(b []byte) { _, _ = far.Write(b) })
	})
	l.carries.Go(func() {
		defer close(pieces)
		read(far, func(b []byte) {
			late, _, _ := l.state()
			pieces <- piece{time.Now().Add(late), b}
		})
	})
	l.carries.Go(func() {
		defer both()
		carried := 0
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			_, limit, _ := l.state()
			if limit > 0 {
				p.data = p.data[:min(len(p.data), limit-carried)]
			}
			carried += len(p.data)
			if _, err := near.Write(p.data); err != nil || limit > 0 && carried >= limit {
				both()
				for range pieces { // the rest is lost
				}
				return
			}
		}
	})
	return client, nil
}
