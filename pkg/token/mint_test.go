package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

const issuer = "https://auth.example.com"

var now = time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)

// ecKey is the example key of RFC 7517, appendix A.2. It is fixed, so that fuzzing can
// begin with valid tokens.
var ecKey = func() *ecdsa.PrivateKey {
	d, err := base64.RawURLEncoding.DecodeString("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE")
	if err != nil {
		panic(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		panic(err)
	}
	return key
}()

// keySet is a fixed set of keys by kid, one per algorithm.
type keySet map[string]token.SigningKey

func (s keySet) CurrentSigningKey(alg string, _ time.Time) (token.SigningKey, error) {
	for _, k := range s {
		if k.Alg == alg {
			return k, nil
		}
	}
	return token.SigningKey{}, errNoKey
}

func (s keySet) VerificationKey(kid string) (crypto.PublicKey, string, bool) {
	k, ok := s[kid]
	if !ok {
		return nil, "", false
	}
	return k.Key.Public(), k.Alg, true
}

func ecOnly() keySet { return keySet{"ec": {KID: "ec", Alg: "ES256", Key: ecKey}} }

func unboundSession() *auth.Session {
	return &auth.Session{
		ID:            uuid.MustParse("01900000-0000-7c00-8000-00000000000a"),
		Identity:      uuid.MustParse("01900000-0000-7c00-8000-00000000000b"),
		AppID:         "wxdevelopment0001",
		Device:        "Pixel 9",
		Ver:           3,
		Epoch:         2,
		Generation:    41,
		RotatedAt:     now.Add(-time.Hour),
		StartedAt:     now.Add(-24 * time.Hour),
		IdleExpiresAt: now.Add(30 * 24 * time.Hour),
		ExpiresAt:     now.Add(180 * 24 * time.Hour),
	}
}

func boundSession() *auth.Session {
	s := unboundSession()
	s.Person = &auth.Person{ID: uuid.MustParse("01900000-0000-7c00-8000-00000000000c"), ExternalID: "E-4711", Name: "Zhang San"}
	return s
}

func minter(t testing.TB, ttl time.Duration) *token.Minter {
	t.Helper()
	m, err := token.NewMinter(ecOnly(), issuer, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// mint mints a token of ten minutes and returns its header and claims.
func mint(t *testing.T, s *auth.Session, audiences ...string) (header, claims map[string]any) {
	t.Helper()
	secret, _, err := minter(t, 10*time.Minute).Mint(s, audiences, "", now)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(secret.Reveal(), ".")
	if len(parts) != 3 {
		t.Fatalf("%d segments, want 3", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func TestMint(t *testing.T) {
	t.Parallel()
	t.Run("the header has type, key and algorithm, and nothing else", func(t *testing.T) {
		t.Parallel()
		header, _ := mint(t, unboundSession())
		if d := cmp.Diff(map[string]any{"typ": "at+jwt", "kid": "ec", "alg": "ES256"}, header); d != "" {
			t.Error(d)
		}
	})
	t.Run("the claims of an unbound session are these", func(t *testing.T) {
		t.Parallel()
		_, claims := mint(t, unboundSession())
		want := []string{"aud", "bound", "client_id", "epoch", "exp", "iat", "iss", "jti", "sid", "sub", "ver"}
		if d := cmp.Diff(want, slices.Sorted(maps.Keys(claims))); d != "" {
			t.Error(d)
		}
	})
	t.Run("the claims of a bound session are these, with the values of the row", func(t *testing.T) {
		t.Parallel()
		_, claims := mint(t, boundSession(), "https://api.example.com", "orders")
		jti, _ := claims["jti"].(string)
		if len(jti) < 22 {
			t.Errorf("jti %q can be guessed", jti)
		}
		exp, _ := claims["exp"].(float64)
		delete(claims, "jti")
		delete(claims, "exp")
		if d := cmp.Diff(map[string]any{
			"iss":       issuer,
			"sub":       "01900000-0000-7c00-8000-00000000000b",
			"aud":       []any{issuer, "https://api.example.com", "orders"},
			"client_id": "wxdevelopment0001",
			"iat":       float64(now.Unix()),
			"sid":       "01900000-0000-7c00-8000-00000000000a",
			"ver":       3.0,
			"epoch":     2.0,
			"bound":     true,
			"person":    "01900000-0000-7c00-8000-00000000000c",

			"external_id": "E-4711",
		}, claims); d != "" {
			t.Error(d)
		}
		if exp <= float64(now.Unix()) || exp != float64(int64(exp)) {
			t.Errorf("exp = %v, want a whole second after now", exp)
		}
	})
	t.Run("the audience is a list even if it is only the issuer", func(t *testing.T) {
		t.Parallel()
		_, claims := mint(t, unboundSession())
		if d := cmp.Diff([]any{issuer}, claims["aud"]); d != "" {
			t.Error(d)
		}
	})
	t.Run("minting does not change the caller's audiences", func(t *testing.T) {
		t.Parallel()
		audiences := make([]string, 1, 8)
		audiences[0] = "orders"
		mint(t, unboundSession(), audiences...)
		if d := cmp.Diff([]string{"orders", ""}, audiences[:2]); d != "" {
			t.Error(d)
		}
	})
	t.Run("no two tokens share a jti", func(t *testing.T) {
		t.Parallel()
		_, a := mint(t, unboundSession())
		_, b := mint(t, unboundSession())
		if a["jti"] == b["jti"] {
			t.Errorf("two tokens have the jti %v", a["jti"])
		}
	})
	t.Run("without a key there is no token", func(t *testing.T) {
		t.Parallel()
		m, err := token.NewMinter(keySet{}, issuer, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if s, n, err := m.Mint(unboundSession(), nil, "", now); s != "" || n != 0 || !errors.Is(err, errNoKey) {
			t.Errorf("Mint() = %q, %d, %v, want an error", s.Reveal(), n, err)
		}
	})
}

// TestMintEncoding checks that a token has the bytes of encoding/json, also for values that
// have to be escaped.
func TestMintEncoding(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"E-4711", "", `a"b`, `a\b`, "a\x00\t\n\x1f\x7f", "<a>&'b'/", "鱼符 é 🐟", "\u2028\u2029", "bad \xff\xc0\xaf UTF-8", strings.Repeat("x", 2000),
	} {
		for _, s := range []*auth.Session{unboundSession(), boundSession()} {
			for _, audiences := range [][]string{nil, {"orders", text}} {
				s.AppID = text
				if s.Person != nil {
					s.Person.ExternalID = text
				}
				m, err := token.NewMinter(keySet{text: {KID: text, Alg: "ES256", Key: ecKey}}, issuer+text, time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				raw, _, err := m.Mint(s, audiences, "", now)
				if err != nil {
					t.Fatal(err)
				}
				var (
					header map[string]any
					claims token.Claims
				)
				for i, into := range []any{&header, &claims} {
					got, err := base64.RawURLEncoding.DecodeString(strings.Split(raw.Reveal(), ".")[i])
					if err != nil {
						t.Fatal(err)
					}
					if err := json.Unmarshal(got, into); err != nil {
						t.Fatalf("segment %d is %s: %v", i, got, err)
					}
					want, err := json.Marshal(into)
					if err != nil || string(got) != string(want) && utf8.ValidString(text) {
						t.Errorf("segment %d for %q = %s, want %s", i, text, got, want)
					}
					if !utf8.Valid(got) {
						t.Errorf("segment %d for %q = %q, want UTF-8", i, text, got)
					}
				}
				// encoding/json replaces each byte that is not UTF-8 in the same way.
				encoded := string([]rune(text))
				want := token.Claims{Issuer: issuer + encoded, Audience: []string{issuer + encoded}, ClientID: encoded}
				if audiences != nil {
					want.Audience = append(want.Audience, "orders", encoded)
				}
				if s.Person != nil {
					want.ExternalID = encoded
				}
				got := token.Claims{Issuer: claims.Issuer, Audience: claims.Audience, ClientID: claims.ClientID, ExternalID: claims.ExternalID}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("claims for %q (-want +got):\n%s", text, d)
				}
				if header["kid"] != encoded {
					t.Errorf("kid = %q, want %q", header["kid"], encoded)
				}
			}
		}
	}
}

func TestMintLifetime(t *testing.T) {
	t.Parallel()
	// life mints once and returns exp and expires_in, after checking that they
	// agree with each other and with now.
	life := func(t *testing.T, ttl time.Duration, s *auth.Session, at time.Time) (exp time.Time, expiresIn int) {
		t.Helper()
		raw, expiresIn, err := minter(t, ttl).Mint(s, nil, "", at)
		if err != nil {
			t.Fatal(err)
		}
		var c token.Claims
		if _, _, err := jwt.NewParser().ParseUnverified(raw.Reveal(), &c); err != nil {
			t.Fatal(err)
		}
		if !c.IssuedAt.Equal(at.Truncate(time.Second)) {
			t.Fatalf("iat = %v at %v", c.IssuedAt, at)
		}
		if got := c.ExpiresAt.Sub(c.IssuedAt.Time); got != time.Duration(expiresIn)*time.Second {
			t.Fatalf("exp - iat = %v, but expires_in = %d", got, expiresIn)
		}
		return c.ExpiresAt.Time, expiresIn
	}
	t.Run("the jitter subtracts up to 5 percent", func(t *testing.T) {
		t.Parallel()
		for ttl, least := range map[time.Duration]int{10 * time.Minute: 570, auth.MaxAccessTokenTTL: 3420, 30 * time.Second: 29, 19 * time.Second: 19, time.Second: 1} {
			seen := map[int]bool{}
			for range 200 {
				_, n := life(t, ttl, unboundSession(), now)
				if n < least || n > int(ttl/time.Second) {
					t.Fatalf("ttl %s: lifetime = %d s", ttl, n)
				}
				seen[n] = true
			}
			if least < int(ttl/time.Second) && len(seen) < 2 {
				t.Errorf("ttl %s: 200 tokens have the same lifetime", ttl)
			}
		}
	})
	t.Run("a token does not outlive its session", func(t *testing.T) {
		t.Parallel()
		for _, left := range []time.Duration{time.Second, 2500 * time.Millisecond, 5 * time.Minute, 9 * time.Minute} {
			s := unboundSession()
			s.ExpiresAt = now.Add(left)
			if exp, _ := life(t, 10*time.Minute, s, now); exp.After(s.ExpiresAt) {
				t.Errorf("%s left: the token expires at %v, the session at %v", left, exp, s.ExpiresAt)
			}
		}
	})
	t.Run("in the session's last second a token lives that second", func(t *testing.T) {
		t.Parallel()
		s := unboundSession()
		s.ExpiresAt = now.Add(time.Millisecond)
		if _, n := life(t, 10*time.Minute, s, now); n != 1 {
			t.Errorf("lifetime = %d s, want 1", n)
		}
	})
	t.Run("the times come from the argument now", func(t *testing.T) {
		t.Parallel()
		for _, at := range []time.Time{time.Unix(1, 999_999_999), time.Date(2040, 1, 2, 3, 4, 5, 6, time.FixedZone("CST", 8*3600))} {
			s := unboundSession()
			s.ExpiresAt = at.Add(24 * time.Hour)
			life(t, 10*time.Minute, s, at)
		}
	})
	t.Run("a lifetime out of bounds is refused", func(t *testing.T) {
		t.Parallel()
		for _, ttl := range []time.Duration{-time.Minute, 0, 999 * time.Millisecond, auth.MaxAccessTokenTTL + time.Second, 24 * time.Hour} {
			if _, err := token.NewMinter(ecOnly(), issuer, ttl); err == nil {
				t.Errorf("NewMinter(%s) error = nil, want an error", ttl)
			}
		}
	})
}
