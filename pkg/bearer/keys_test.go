package bearer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwkOf returns the JWK of a key, as a service publishes it.
func jwkOf(kid string, k key) map[string]any {
	m := map[string]any{"kid": kid, "use": "sig", "alg": k.alg}
	switch pub := k.private.Public().(type) {
	case *ecdsa.PublicKey:
		m["kty"], m["crv"] = "EC", pub.Curve.Params().Name
		size := (pub.Curve.Params().BitSize + 7) / 8
		m["x"], m["y"] = b64(pub.X.FillBytes(make([]byte, size))), b64(pub.Y.FillBytes(make([]byte, size)))
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(pub)
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes())
	}
	return m
}

func keySet(t testing.TB, keys ...any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeySet(t *testing.T) {
	t.Parallel()
	with := func(kid string, change map[string]any) map[string]any {
		m := jwkOf(kid, keys[kid])
		for name, value := range change {
			m[name] = value
			if value == nil {
				delete(m, name)
			}
		}
		return m
	}
	t.Run("keeps public keys for signatures", func(t *testing.T) {
		t.Parallel()
		got, skipped, err := bearer.ParseKeySet(keySet(t,
			with("ec", map[string]any{"alg": nil, "use": nil}),
			with("ed", map[string]any{"alg": "Ed25519", "key_ops": []string{"verify"}}),
			with("rs", map[string]any{"x5c": []string{"AAAA"}, "new": 1}),
		))
		if want := (map[string]string{"ec": "ES256", "ed": "EdDSA", "rs": "RS256"}); err != nil || len(skipped) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("parseKeySet() = %v, skipped %v, error %v", got, skipped, err)
		}
	})
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	for name, bad := range map[string]any{
		"without a kid":               with("ec", map[string]any{"kid": nil}),
		"with a kid too long":         with("ec", map[string]any{"kid": strings.Repeat("k", 129)}),
		"for encryption":              with("ec", map[string]any{"use": "enc"}),
		"for signing":                 with("ec", map[string]any{"key_ops": []string{"sign"}}),
		"for another algorithm":       with("ec", map[string]any{"alg": "ES384"}),
		"for a MAC":                   with("ec", map[string]any{"alg": "HS256"}),
		"for PS256":                   with("rs", map[string]any{"alg": "PS256"}),
		"that is private":             with("ec", map[string]any{"d": "AAAA"}),
		"that is private, empty":      with("ec", map[string]any{"d": ""}),
		"that is a secret":            map[string]any{"kid": "ec", "kty": "oct", "k": "AAAA"},
		"of another curve":            jwkOf("p384", key{"ES384", p384}),
		"of an unknown kind":          map[string]any{"kid": "ec", "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
		"off the curve":               with("ec", map[string]any{"y": b64(make([]byte, 32))}),
		"with a short coordinate":     with("ec", map[string]any{"x": b64(make([]byte, 31))}),
		"with a padded coordinate":    with("ec", map[string]any{"x": b64(make([]byte, 33))}),
		"with a coordinate not b64":   with("ec", map[string]any{"x": "????"}),
		"with a coordinate no string": with("ec", map[string]any{"x": 7}),
		"with a short Ed25519 point":  with("ed", map[string]any{"x": b64(make([]byte, 31))}),
		"of RSA with 1024 bits":       jwkOf("weak", key{"RS256", weak}),
		"of RSA with 10000 bits":      with("rs", map[string]any{"n": b64([]byte(strings.Repeat("\xff", 1250)))}),
		"of RSA with an even modulus": with("rs", map[string]any{"n": b64([]byte(strings.Repeat("\xfe", 256)))}),
		"of RSA with the exponent 1":  with("rs", map[string]any{"e": "AQ"}),
		"of RSA with an even one":     with("rs", map[string]any{"e": "BA"}),
		"of RSA with a huge one":      with("rs", map[string]any{"e": b64([]byte{1, 0, 0, 0, 1})}),
		"that is null":                nil,
		"that is no object":           "key",
	} {
		t.Run("skips a key "+name, func(t *testing.T) {
			t.Parallel()
			good := jwkOf("good", key{"ES256", keys["ec"].private})
			got, skipped, err := bearer.ParseKeySet(keySet(t, bad, good))
			if err != nil || len(skipped) != 1 || !reflect.DeepEqual(got, map[string]string{"good": "ES256"}) {
				t.Errorf("parseKeySet() = %v, skipped %v, error %v", got, skipped, err)
			}
			if got, _, err := bearer.ParseKeySet(keySet(t, bad)); err == nil {
				t.Errorf("parseKeySet() of a set without a usable key = %v, want an error", got)
			}
		})
	}
	t.Run("keeps only keys of the allowed algorithms", func(t *testing.T) {
		t.Parallel()
		got, skipped, err := bearer.ParseKeySet(keySet(t, with("ec", nil), with("ed", nil), with("rs", nil)), "EdDSA")
		if err != nil || len(skipped) != 2 || !reflect.DeepEqual(got, map[string]string{"ed": "EdDSA"}) {
			t.Errorf("parseKeySet() = %v, skipped %v, error %v", got, skipped, err)
		}
	})
	for name, set := range map[string][]byte{
		"nothing":                  nil,
		"text that is not JSON":    []byte("<html>"),
		"null":                     []byte("null"),
		"a list":                   []byte("[]"),
		"no keys":                  []byte("{}"),
		"an empty list":            keySet(t),
		"one kid twice":            keySet(t, with("ec", nil), with("ed", map[string]any{"kid": "ec"})),
		"more than a hundred":      keySet(t, make([]any, 101)...),
		"keys that are not a list": []byte(`{"keys":{}}`),
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			if got, _, err := bearer.ParseKeySet(set); err == nil {
				t.Errorf("parseKeySet() = %v, want an error", got)
			}
		})
	}
}

func TestMaxAge(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"":                          5 * time.Minute,
		"no-cache":                  5 * time.Minute,
		"public, max-age=300":       300 * time.Second,
		"Max-Age=\"600\"":           600 * time.Second,
		"max-age=0":                 30 * time.Second,
		"max-age=-5":                30 * time.Second,
		"max-age=86400":             time.Hour,
		"max-age=99999999999999999": 5 * time.Minute,
		"max-age=x, max-age=60":     time.Minute,
		"s-maxage=60":               5 * time.Minute,
	} {
		if got := bearer.MaxAge(header); got != want {
			t.Errorf("maxAge(%q) = %v, want %v", header, got, want)
		}
	}
}

// TestBackoff checks that many back ends whose service was down do not all reconnect at
// once, and that no pause is too long.
func TestBackoff(t *testing.T) {
	t.Parallel()
	const least, most = 100 * time.Millisecond, 5 * time.Second
	for failures, limit := range map[int]time.Duration{0: least, 1: 2 * least, 5: 32 * least, 6: most, 29: most, 30: most, 1 << 40: most} {
		seen := map[time.Duration]bool{}
		var longest time.Duration
		for range 200 {
			pause := bearer.Backoff(failures, least, most)
			if pause <= 0 || pause > limit {
				t.Fatalf("pause after %d failures = %v, want at most %v", failures, pause, limit)
			}
			seen[pause], longest = true, max(longest, pause)
		}
		if len(seen) < 100 || longest < limit/2 {
			t.Errorf("after %d failures: %d different pauses, the longest %v of %v", failures, len(seen), longest, limit)
		}
	}
}

// keyServer publishes a set that tests change, and counts its requests.
type keyServer struct {
	url   string
	asked atomic.Int64
	mu    sync.Mutex
	serve http.HandlerFunc
}

func newKeyServer(t *testing.T, serve http.HandlerFunc) *keyServer {
	t.Helper()
	s := &keyServer{serve: serve}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/oauth-authorization-server" {
			http.NotFound(w, r)
			return
		}
		if r.URL.Path != "/.well-known/jwks.json" || r.Header.Get("Authorization") != "" {
			t.Errorf("request for %s with Authorization %q", r.URL, r.Header.Get("Authorization"))
		}
		s.asked.Add(1)
		s.mu.Lock()
		serve := s.serve
		s.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *keyServer) set(serve http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve = serve
}

func serves(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
}

func fails(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }

// offline returns a verifier of the issuer that fetches keys from s.
func offline(t *testing.T, s *keyServer, c *clock, tune bearer.Tuning) *bearer.Verifier {
	t.Helper()
	tune.Clock = c.now
	return start(t, bearer.Config{Issuer: issuer, URL: s.url, Apps: []string{app}}, tune)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	all := keySet(t, jwkOf("ec", keys["ec"]), jwkOf("ed", keys["ed"]), jwkOf("rs", keys["rs"]))
	ecOnly := keySet(t, jwkOf("ec", keys["ec"]))
	ec := forgery{}.make(t)
	edHeader := map[string]any{"kid": "ed", "alg": "EdDSA"}
	byEd := signWith(t, jwt.SigningMethodEdDSA, keys["ed"].private)
	ed := forgery{header: edHeader, sign: byEd}.make(t)
	unknown := func(kid string) string { return forgery{header: map[string]any{"kid": kid}}.make(t) }

	t.Run("one fetch returns the keys of each algorithm", func(t *testing.T) {
		t.Parallel()
		s := newKeyServer(t, serves(all))
		v := offline(t, s, clockAt(now), bearer.Tuning{})
		for kid, k := range keys {
			wantGood(t, v, forgery{header: map[string]any{"kid": kid, "alg": k.alg}, sign: signWith(t, jwt.GetSigningMethod(k.alg), k.private)}.make(t))
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("%d requests for the key set, want 1", n)
		}
	})
	t.Run("before the first fetch tokens are stale and junk is invalid", func(t *testing.T) {
		t.Parallel()
		s := newKeyServer(t, fails)
		v := offline(t, s, clockAt(now), bearer.Tuning{Wait: soon})
		wantError(t, v, ec, bearer.ErrStale)
		wantError(t, v, "junk", bearer.ErrInvalid)
		wantError(t, v, forgery{claims: map[string]any{"iss": "https://evil.example"}}.make(t), bearer.ErrInvalid)
		if v.Ready() == nil {
			t.Error("Ready() = nil, want an error")
		}
		s.set(serves(all))
		eventually(t, v, ec, nil)
		if err := v.Ready(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a new key is fetched when a token names it", func(t *testing.T) {
		t.Parallel()
		s, c := newKeyServer(t, serves(ecOnly)), clockAt(now)
		v := offline(t, s, c, bearer.Tuning{})
		s.set(serves(all))
		wantError(t, v, ed, bearer.ErrInvalid) // the set was fetched a moment ago
		c.advance(10 * time.Second)
		wantGood(t, v, ed)
	})
	t.Run("unknown keys cause one fetch in 10 s, however many tokens name them", func(t *testing.T) {
		t.Parallel()
		s, c := newKeyServer(t, serves(ecOnly)), clockAt(now)
		v := offline(t, s, c, bearer.Tuning{})
		for round := range 3 {
			var storm sync.WaitGroup
			for i := range 50 {
				storm.Add(1)
				token := unknown(strings.Repeat("k", i+1))
				go func() { defer storm.Done(); wantError(t, v, token, bearer.ErrInvalid) }()
			}
			storm.Wait()
			if n := s.asked.Load(); n != int64(round+1) {
				t.Errorf("%d requests for the key set, want %d", n, round+1)
			}
			c.advance(10 * time.Second)
		}
	})
	t.Run("unknown keys cause no fetch for tokens that are invalid anyway", func(t *testing.T) {
		t.Parallel()
		s, c := newKeyServer(t, serves(ecOnly)), clockAt(now)
		v := offline(t, s, c, bearer.Tuning{})
		c.advance(time.Minute)
		for _, f := range []forgery{
			{header: map[string]any{"kid": "x", "typ": "JWT"}},
			{header: map[string]any{"kid": strings.Repeat("x", 129)}},
			{header: map[string]any{"kid": "x", "alg": "HS256"}},
			{header: map[string]any{"kid": "x"}, claims: map[string]any{"iss": "https://evil.example"}},
			{header: map[string]any{"kid": "x"}, claims: map[string]any{"aud": "shop"}},
			{header: map[string]any{"kid": "x"}, claims: map[string]any{"iat": now.Unix() - 600, "exp": now.Unix()}},
		} {
			wantError(t, v, f.make(t), bearer.ErrInvalid)
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("%d requests for the key set, want 1", n)
		}
	})
	t.Run("known keys stay in use when a fetch fails, and unknown ones are stale", func(t *testing.T) {
		t.Parallel()
		s, c := newKeyServer(t, serves(ecOnly)), clockAt(now)
		v := offline(t, s, c, bearer.Tuning{})
		s.set(fails)
		c.advance(time.Minute)
		wantError(t, v, ed, bearer.ErrStale)
		// It retries by itself after a random pause, which may end just now.
		const more = 100
		asked := s.asked.Load()
		for range more {
			wantError(t, v, ed, bearer.ErrStale) // without another request
		}
		if n := s.asked.Load() - asked; n > more/2 {
			t.Errorf("%d tokens caused %d more requests at once", more, n)
		}
		wantGood(t, v, ec)
		s.set(serves(all))
		c.advance(10 * time.Second)
		eventually(t, v, ed, nil)
	})
	t.Run("keys that left the set verify no tokens, not even cached ones", func(t *testing.T) {
		t.Parallel()
		s, c := newKeyServer(t, serves(all)), clockAt(now)
		v := offline(t, s, c, bearer.Tuning{})
		wantGood(t, v, ed)
		s.set(serves(ecOnly))
		c.advance(10 * time.Second)
		wantError(t, v, unknown("x"), bearer.ErrInvalid) // triggers a fetch
		wantError(t, v, ed, bearer.ErrInvalid)
		wantGood(t, v, ec)
	})
	t.Run("revoked keys verify no tokens, even while published and cached", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		old := yufu.RotateKey()
		v := start(t, yufu.Config(), bearer.Tuning{})
		token := yufu.Token(bearer.Claims{})
		wantGood(t, v, token)
		yufu.RevokeKey(old)
		eventually(t, v, token, bearer.ErrRevoked)
		wantError(t, v, yufu.Token(bearer.Claims{}), bearer.ErrRevoked)
	})
	t.Run("revoked and withdrawn keys cause no fetch", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		old := yufu.RotateKey()
		token := yufu.Token(bearer.Claims{})
		yufu.RotateKey()
		yufu.WithdrawKey(old)
		yufu.RevokeKey(old)
		c := clockAt(time.Now())
		var asked atomic.Int64
		cfg := yufu.Config()
		cfg.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "jwks.json") {
				asked.Add(1)
			}
			return http.DefaultTransport.RoundTrip(r)
		})}
		v := start(t, cfg, bearer.Tuning{Clock: c.now})
		c.advance(15 * time.Second)
		wantError(t, v, token, bearer.ErrInvalid)
		if n := asked.Load(); n != 1 {
			t.Errorf("%d requests for the key set, want 1", n)
		}
	})
	for name, serve := range map[string]http.HandlerFunc{
		"too large":         serves(append(all, strings.Repeat(" ", 256<<10)...)),
		"malformed":         serves([]byte(`{"keys":`)),
		"empty":             serves([]byte(`{"keys":[]}`)),
		"redirected":        func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/evil", http.StatusFound) },
		"an error":          fails,
		"cut off":           func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"ambiguous":         serves(keySet(t, jwkOf("ec", keys["ec"]), jwkOf("ec", keys["ed"]))),
		"all keys unusable": serves(keySet(t, map[string]any{"kid": "x", "kty": "oct", "k": "AAAA"})),
	} {
		t.Run("keys are not taken from a response that is "+name, func(t *testing.T) {
			t.Parallel()
			s, c := newKeyServer(t, serves(ecOnly)), clockAt(now)
			v := offline(t, s, c, bearer.Tuning{})
			s.set(serve)
			c.advance(time.Minute)
			wantError(t, v, ed, bearer.ErrStale)
			wantGood(t, v, ec)
		})
	}
	t.Run("a fetch without a response times out and is repeated", func(t *testing.T) {
		t.Parallel()
		s, c := newKeyServer(t, serves(ecOnly)), clockAt(now)
		v := offline(t, s, c, bearer.Tuning{Fetch: 500 * time.Millisecond})
		s.set(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		c.advance(time.Minute)
		wantError(t, v, ed, bearer.ErrStale) // the request has no deadline of its own
		wantGood(t, v, ec)
		s.set(serves(all))
		c.advance(10 * time.Second)
		eventually(t, v, ed, nil)
	})
	t.Run("the wait for keys ends with the request", func(t *testing.T) {
		t.Parallel()
		s, c := newKeyServer(t, serves(ecOnly)), clockAt(now)
		v := offline(t, s, c, bearer.Tuning{})
		asked := make(chan struct{})
		s.set(func(_ http.ResponseWriter, r *http.Request) { close(asked); <-r.Context().Done() })
		c.advance(time.Minute)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-asked; cancel() }()
		if _, err := v.Verify(ctx, ed); err == nil || !strings.Contains(err.Error(), bearer.ErrStale.Error()) {
			t.Errorf("Verify() error = %v", err)
		}
	})
}
