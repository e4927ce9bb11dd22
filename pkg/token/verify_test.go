package token_test

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/token"
)

// forgery describes a token by its differences from a good one. A nil value removes the
// member.
type forgery struct {
	header, claims map[string]any
	// sign makes the signature; nil signs with the good key.
	sign func(signingInput string) []byte
}

func goodHeader() map[string]any {
	return map[string]any{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}
}

func goodClaims() map[string]any {
	return map[string]any{
		"iss": issuer, "aud": []string{issuer, "orders"}, "client_id": "wxdevelopment0001",
		"sub": "01900000-0000-7c00-8000-00000000000b", "sid": "01900000-0000-7c00-8000-00000000000a",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "jti": "J7PYZ3MZJ2UUDQ3E2V4WJ7N5QA",
		"ver": 3, "epoch": 2, "bound": false,
	}
}

func (f forgery) make(t testing.TB) string {
	t.Helper()
	part := func(good, change map[string]any) string {
		maps.Copy(good, change)
		maps.DeleteFunc(good, func(_ string, v any) bool { return v == nil })
		b, err := json.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := part(goodHeader(), f.header) + "." + part(goodClaims(), f.claims)
	sign := f.sign
	if sign == nil {
		sign = signES256(t, ecKey)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

// rawToken signs header and payload unchanged, with the good key.
func rawToken(t testing.TB, header, payload string) string {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return input + "." + base64.RawURLEncoding.EncodeToString(signES256(t, ecKey)(input))
}

func signES256(t testing.TB, key *ecdsa.PrivateKey) func(string) []byte {
	return signWith(t, jwt.SigningMethodES256, key)
}

func signWith(t testing.TB, method jwt.SigningMethod, key any) func(string) []byte {
	return func(input string) []byte {
		t.Helper()
		sig, err := method.Sign(input, key)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

func at(tm time.Time) func() time.Time { return func() time.Time { return tm } }

// verifier returns a verifier of ecOnly's tokens at this time, with settings changed by change.
func verifier(t testing.TB, tm time.Time, change func(*bearer.Local)) *token.Verifier {
	t.Helper()
	l := bearer.Local{Issuer: issuer, Keys: ecOnly().VerificationKey, Clock: at(tm)}
	if change != nil {
		change(&l)
	}
	v, err := token.NewVerifier(l)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The tests of pkg/bearer check the reasons for refusals.
func TestVerify(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*auth.Session{"unbound": unboundSession(), "bound": boundSession()} {
		t.Run("a minted token verifies and has the claims of its session, "+name, func(t *testing.T) {
			t.Parallel()
			raw, expiresIn, err := minter(t, 10*time.Minute).Mint(s, []string{"orders"}, "", now)
			if err != nil {
				t.Fatal(err)
			}
			v := verifier(t, now, nil)
			for range 2 { // the second time from the cache
				got, err := v.Verify(t.Context(), raw.Reveal())
				if err != nil {
					t.Fatal(err)
				}
				issued := now.Truncate(time.Second)
				want := &token.Claims{
					Issuer: issuer, Subject: s.Identity, Audience: jwt.ClaimStrings{issuer, "orders"}, ClientID: s.AppID,
					IssuedAt:  jwt.NewNumericDate(issued),
					ExpiresAt: jwt.NewNumericDate(issued.Add(time.Duration(expiresIn) * time.Second)),
					ID:        got.ID, Session: s.ID, Ver: s.Ver, Epoch: s.Epoch, Bound: s.Bound(),
				}
				if s.Person != nil {
					want.Person, want.ExternalID = &s.Person.ID, s.Person.ExternalID
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
				got.Audience[0] = "changed" // the caller may change it
			}
		})
	}

	revoked := func(l *bearer.Local) {
		l.Cutoffs = cutoff.NewSet()
		l.Cutoffs.Add(cutoff.Cutoff{Kind: cutoff.KindApp, App: "wxdevelopment0001", Epoch: 3}, now)
	}
	stale := func(l *bearer.Local) {
		l.Staleness = func() time.Duration { return time.Minute }
	}
	late := now.Add(10 * time.Minute)
	for name, c := range map[string]struct {
		token    string
		at       time.Time
		change   func(*bearer.Local)
		now      auth.Code // code of Verify; "" accepts
		genuine  bool      // whether VerifyExpired accepts
		sentinel error
	}{
		"a good token":            {forgery{}.make(t), now, nil, "", true, nil},
		"one that has expired":    {forgery{}.make(t), late, nil, auth.TokenExpired, true, bearer.ErrExpired},
		"one that a cutoff hits":  {forgery{}.make(t), now, revoked, auth.SessionRevoked, true, bearer.ErrRevoked},
		"one under stale cutoffs": {forgery{}.make(t), now, stale, auth.StorageUnavailable, true, bearer.ErrStale},
		"one of another issuer":   {forgery{claims: map[string]any{"iss": "https://evil.example"}}.make(t), now, nil, auth.TokenInvalid, false, bearer.ErrInvalid},
		"one for other audiences": {forgery{claims: map[string]any{"aud": []string{"orders"}}}.make(t), now, nil, auth.TokenInvalid, false, bearer.ErrInvalid},
		"one by an unknown key":   {forgery{header: map[string]any{"kid": "gone"}}.make(t), late, nil, auth.TokenInvalid, false, bearer.ErrInvalid},
		"one without a signature": {forgery{sign: func(string) []byte { return nil }}.make(t), late, nil, auth.TokenInvalid, false, bearer.ErrInvalid},
		"nothing":                 {"", now, nil, auth.TokenInvalid, false, bearer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verifier(t, c.at, c.change)
			got, err := v.Verify(t.Context(), c.token)
			if auth.CodeOf(err) != c.now || (got == nil) != (err != nil) {
				t.Errorf("Verify() = %+v, %v, want code %q", got, err, c.now)
			}
			if c.sentinel != nil && !errors.Is(err, c.sentinel) {
				t.Errorf("Verify() error = %v, want it to wrap %v", err, c.sentinel)
			}
			got, err = v.VerifyExpired(t.Context(), c.token)
			if c.genuine && (err != nil || got.Session != uuid.MustParse("01900000-0000-7c00-8000-00000000000a")) {
				t.Errorf("VerifyExpired() = %+v, %v", got, err)
			}
			if !c.genuine && (got != nil || auth.CodeOf(err) != auth.TokenInvalid) {
				t.Errorf("VerifyExpired() = %+v, %v, want %s", got, err, auth.TokenInvalid)
			}
			if err != nil && len(c.token) > 64 && strings.Contains(err.Error(), c.token[len(c.token)-32:]) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
	t.Run("an invalid configuration is refused", func(t *testing.T) {
		t.Parallel()
		if v, err := token.NewVerifier(bearer.Local{Issuer: issuer}); v != nil || err == nil {
			t.Errorf("NewVerifier() without keys = %v, %v, want an error", v, err)
		}
	})
}
