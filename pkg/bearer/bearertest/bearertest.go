// Package bearertest is a double of a Yufu service, for the tests of back ends that
// accept its tokens. It publishes keys, issues access tokens, revokes them, and serves
// the revocation feed, all in memory. The example shows a test.
//
// [Server.Verifier] shares the double's memory: a revocation takes effect from the next
// call on, so such tests need not wait. [Server.Config] is for tests over HTTP.
//
// It owns no rule: package bearer decides whether a token is valid. It does not keep
// sessions, and issues any token on request. An internal failure ends the test.
package bearertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// App is the appid in tokens whose claims name no app.
const App = "wxdevelopment0001"

// ServiceKey is the service key that the feed accepts.
const ServiceKey = "yfk_bearertest_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

// MaxStaleness is the bound that heartbeats announce.
const MaxStaleness = 30 * time.Second

// Server is the double. It is safe for concurrent use.
type Server struct {
	// URL is its address, and the issuer of its tokens.
	URL string

	tb      testing.TB
	cutoffs *cutoff.Set

	mu       sync.Mutex
	pinned   string       // the app to which the service key is pinned
	apps     []string     // the apps to which it is restricted
	keys     []signingKey // the published keys; the last one signs
	timeline string
	log      []logged // the id of log[i] is "<timeline>.<i+1>"
	age      time.Duration
	changed  chan struct{} // closed when log, timeline or age change
	hangUp   chan struct{} // closed to end the connections to the feed

	closed chan struct{} // closed when the test ends
}

// logged is a published cutoff.
type logged struct {
	cutoff.Cutoff
	// coveredBy is the kind of a later cutoff that includes this one.
	coveredBy cutoff.Kind
}

type signingKey struct {
	kid string
	key *ecdsa.PrivateKey
}

// New starts a double. It stops when the test ends.
func New(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{
		tb:       tb,
		cutoffs:  cutoff.NewSet(),
		timeline: text(4),
		pinned:   App,
		changed:  make(chan struct{}),
		hangUp:   make(chan struct{}),
		closed:   make(chan struct{}),
	}
	s.RotateKey()
	server := httptest.NewServer(s)
	s.URL = server.URL
	tb.Cleanup(func() {
		close(s.closed)
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// Config returns the configuration of a verifier that follows the double over
// HTTP.
func (s *Server) Config() bearer.Config {
	return bearer.Config{Issuer: s.URL, ServiceKey: ServiceKey}
}

// Verifier returns a verifier that reads the double's memory, for the given audience, or
// else for the app to which the service key is pinned.
func (s *Server) Verifier(audience ...string) *bearer.Verifier {
	s.tb.Helper()
	local := bearer.Local{
		Issuer:       s.URL,
		Keys:         s.find,
		Cutoffs:      s.cutoffs,
		Staleness:    s.staleness,
		MaxStaleness: MaxStaleness,
	}
	if len(audience) > 0 {
		local.Audience = audience[0]
	} else {
		s.mu.Lock()
		local.Apps = []string{s.pinned}
		s.mu.Unlock()
	}
	v, err := bearer.NewLocal(local)
	if err != nil {
		s.tb.Fatal(err)
	}
	return v
}

// Token issues an access token with these claims. It fills in missing ones: a new user
// and a new session of the app [App], ver and epoch 1, issued now and valid for 10
// minutes, unbound unless they have a Person. The issuer is always among the audiences.
// KeyID selects the key that signs.
func (s *Server) Token(c bearer.Claims) string {
	s.tb.Helper()
	key, ok := s.signer(c.KeyID)
	if !ok {
		s.tb.Fatalf("bearertest: no key %q is published", c.KeyID)
	}
	issued, expires := c.IssuedAt, c.ExpiresAt
	switch {
	case issued.IsZero() && expires.IsZero():
		issued = time.Now()
		expires = issued.Add(10 * time.Minute)
	case issued.IsZero():
		issued = expires.Add(-10 * time.Minute)
	case expires.IsZero():
		expires = issued.Add(10 * time.Minute)
	}
	claims := jwt.MapClaims{
		"iss":       or(c.Issuer, s.URL),
		"sub":       or(c.Subject, UUID()),
		"aud":       append([]string{s.URL}, c.Audience...),
		"client_id": or(c.App, App),
		"iat":       issued.Unix(),
		"exp":       expires.Unix(),
		"jti":       or(c.ID, text(16)),
		"sid":       or(c.Session, UUID()),
		"ver":       max(c.Ver, 1),
		"epoch":     max(c.Epoch, 1),
		"bound":     c.Bound || c.Person != "",
	}
	if claims["bound"] == true {
		claims["person"] = or(c.Person, UUID())
	}
	if c.ExternalID != "" {
		claims["external_id"] = c.ExternalID
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	t.Header["typ"] = "at+jwt"
	t.Header["kid"] = key.kid
	signed, err := t.SignedString(key.key)
	if err != nil {
		s.tb.Fatal(err)
	}
	return signed
}

// RevokeSession ends a session and revokes its tokens.
func (s *Server) RevokeSession(session string) {
	s.Revoke(cutoff.Cutoff{Kind: cutoff.KindSession, Session: session})
}

// RevokeApp revokes the tokens of an app below an epoch.
func (s *Server) RevokeApp(app string, epoch int64) {
	s.Revoke(cutoff.Cutoff{Kind: cutoff.KindApp, App: app, Epoch: epoch})
}

// RevokeKey revokes the tokens that a key signed. The key stays published.
func (s *Server) RevokeKey(kid string) {
	s.Revoke(cutoff.Cutoff{Kind: cutoff.KindKey, KID: kid})
}

// Revoke publishes any cutoff.
func (s *Server) Revoke(c cutoff.Cutoff) {
	s.tb.Helper()
	if err := c.Check(); err != nil {
		s.tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutoffs.Add(c, time.Now())
	s.log = append(s.log, logged{Cutoff: c})
	s.broadcast()
}

// RevokeAs publishes base cutoffs as a later version of the service does, which has a new
// kind of cutoff as their short form: connections that name the kind get a cutoff of that
// kind, without members, and the others get the base cutoffs.
func (s *Server) RevokeAs(kind cutoff.Kind, base ...cutoff.Cutoff) {
	s.tb.Helper()
	for _, c := range base {
		if err := c.Check(); err != nil {
			s.tb.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range base {
		s.cutoffs.Add(c, time.Now())
		s.log = append(s.log, logged{c, kind})
	}
	s.log = append(s.log, logged{Cutoff: cutoff.Cutoff{Kind: kind}})
	s.broadcast()
}

// RotateKey publishes a new key, which signs from now on, and returns its kid. Older keys
// stay published.
func (s *Server) RotateKey() (kid string) {
	s.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kid = text(8)
	s.keys = append(s.keys, signingKey{kid, key})
	return kid
}

// WithdrawKey removes a key from the published set.
func (s *Server) WithdrawKey(kid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, k := range s.keys {
		if k.kid == kid {
			s.keys = append(s.keys[:i:i], s.keys[i+1:]...)
			return
		}
	}
}

// SetAge sets the age of the double's data: beyond [MaxStaleness] verifiers return
// [bearer.ErrStale].
func (s *Server) SetAge(age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = age
	s.broadcast()
}

// PinApp pins the service key to another app, or with "" removes the pin, and ends the
// connections to the feed, as the service does. It is pinned to [App] at first. A
// verifier of [Server.Verifier] keeps the app of the time when it was made.
func (s *Server) PinApp(app string) {
	s.mu.Lock()
	s.pinned = app
	s.mu.Unlock()
	s.Disconnect()
}

// RestrictKey restricts the service key to apps, or without arguments lifts the
// restriction, and ends the connections to the feed, as the service does. The double
// still publishes every cutoff.
func (s *Server) RestrictKey(apps ...string) {
	s.mu.Lock()
	s.apps = apps
	s.mu.Unlock()
	s.Disconnect()
}

// Disconnect ends the connections to the feed. Verifiers connect again.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.hangUp)
	s.hangUp = make(chan struct{})
}

// Restore simulates a database restored from a dump: the feed begins a new timeline with
// the current cutoffs.
func (s *Server) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timeline = text(4)
	s.broadcast()
}

// broadcast wakes the connections to the feed. The caller holds mu.
func (s *Server) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) staleness() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age
}

// UUID returns a new random UUID.
func UUID() string {
	b := random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func text(n int) string { return hex.EncodeToString(random(n)) }

func random(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic(err) // the system has no randomness
	}
	return b
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// ServeHTTP serves the key set and the feed, for tests that put something between a
// verifier and the double. Set [bearer.Config.URL] to its address.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/jwks.json":
		s.serveKeys(w)
	case "/.well-known/oauth-authorization-server":
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"issuer":%q}`, s.URL)
	case "/v1/revocations":
		s.serveFeed(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) serveKeys(w http.ResponseWriter) {
	type jwk struct {
		KeyType   string `json:"kty"`
		Curve     string `json:"crv"`
		X         string `json:"x"`
		Y         string `json:"y"`
		KID       string `json:"kid"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
	}
	coordinate := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	s.mu.Lock()
	for _, k := range s.keys {
		set.Keys = append(set.Keys, jwk{
			KeyType: "EC", Curve: "P-256", Use: "sig", Algorithm: "ES256", KID: k.kid,
			X: coordinate(k.key.X.FillBytes(make([]byte, 32))),
			Y: coordinate(k.key.Y.FillBytes(make([]byte, 32))),
		})
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	b, err := json.Marshal(set)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(b)
}
