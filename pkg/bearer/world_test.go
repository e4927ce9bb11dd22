package bearer_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

const (
	issuer  = "https://auth.example.com"
	app     = "wxdevelopment0001"
	session = "01900000-0000-7c00-8000-00000000000a"
	user    = "01900000-0000-7c00-8000-00000000000b"
	person  = "01900000-0000-7c00-8000-00000000000c"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// key is a key pair with the algorithm that it is published for.
type key struct {
	alg     string
	private crypto.Signer
}

// keyring holds keys by kid. A local verifier reads it.
type keyring map[string]key

func (k keyring) find(kid string) (crypto.PublicKey, string, bool) {
	found, ok := k[kid]
	if !ok {
		return nil, "", false
	}
	pub := found.private.Public()
	return pub, found.alg, true
}

// keys are the same in every process, so that findings of the fuzzer can be reproduced.
// They are not secret.
var keys = keyring{
	"ec": {"ES256", privateKey("ec")},
	"ed": {"EdDSA", privateKey("ed")},
	"rs": {"RS256", privateKey("rs")},
}

// privateKey reads one of the test's keys, in PKCS #8.
func privateKey(kid string) crypto.Signer {
	b, err := os.ReadFile("testdata/" + kid + ".b64")
	if err != nil {
		panic(err)
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(b)), ""))
	if err != nil {
		panic(err)
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		panic(err)
	}
	return k.(crypto.Signer)
}

// clock is a clock that tests set.
type clock struct{ at atomic.Pointer[time.Time] }

func clockAt(t time.Time) *clock {
	c := &clock{}
	c.at.Store(&t)
	return c
}

func (c *clock) now() time.Time { return *c.at.Load() }

func (c *clock) advance(d time.Duration) {
	t := c.now().Add(d)
	c.at.Store(&t)
}

// local returns a verifier of the keys at now.
func local(t testing.TB, change func(*bearer.Local)) *bearer.Verifier {
	t.Helper()
	l := bearer.Local{Issuer: issuer, Keys: keys.find, Clock: func() time.Time { return now }}
	if change != nil {
		change(&l)
	}
	v, err := bearer.NewLocal(l)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// forgery describes a token by its differences from a valid one. A nil value removes the
// member.
type forgery struct {
	header, claims map[string]any
	// sign makes the signature; nil signs with the key "ec".
	sign func(signingInput string) []byte
}

func goodHeader() map[string]any {
	return map[string]any{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}
}

func goodClaims() map[string]any {
	return map[string]any{
		"iss": issuer, "aud": []string{issuer, "shop"}, "client_id": "wxdevelopment0001",
		"sub": user, "sid": session,
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "jti": "J7PYZ3MZJ2UUDQ3E2V4WJ7N5QA",
		"ver": 3, "epoch": 2, "bound": false,
	}
}

func (f forgery) make(t testing.TB) string {
	t.Helper()
	part := func(good, change map[string]any) string {
		for name, value := range change {
			good[name] = value
			if value == nil {
				delete(good, name)
			}
		}
		b, err := json.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return raw(t, part(goodHeader(), f.header), part(goodClaims(), f.claims), f.sign)
}

// raw signs header and payload as they are.
func raw(t testing.TB, header, payload string, sign func(string) []byte) string {
	t.Helper()
	if sign == nil {
		sign = signWith(t, jwt.SigningMethodES256, keys["ec"].private)
	}
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
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

var sentinels = []error{bearer.ErrInvalid, bearer.ErrMisconfigured, bearer.ErrExpired, bearer.ErrRevoked, bearer.ErrStale}

// wantError checks that a token is refused with exactly one sentinel, and that the error
// does not contain the token.
func wantError(t *testing.T, v *bearer.Verifier, token string, want error) {
	t.Helper()
	c, err := v.Verify(context.Background(), token)
	var is []error
	for _, s := range sentinels {
		if errors.Is(err, s) {
			is = append(is, s)
		}
	}
	if len(is) != 1 || !errors.Is(is[0], want) {
		t.Errorf("Verify(%.160q) error = %v, want %v", token, err, want)
	}
	if c != nil {
		t.Errorf("Verify(%.160q) returned claims and error %v", token, err)
	}
	if err != nil && len(token) > 64 && strings.Contains(err.Error(), token[len(token)-32:]) {
		t.Errorf("the error contains the token: %v", err)
	}
}

// wantGood checks that a token is accepted.
func wantGood(t *testing.T, v *bearer.Verifier, token string) *bearer.Claims {
	t.Helper()
	c, err := v.Verify(context.Background(), token)
	if err != nil {
		t.Errorf("Verify(%.160q) error = %v, want nil", token, err)
	}
	return c
}

// eventually polls until a verifier returns this error, or nil for accepting.
func eventually(t *testing.T, v *bearer.Verifier, token string, want error) {
	t.Helper()
	until(t, func() string {
		if _, err := v.Verify(context.Background(), token); !errors.Is(err, want) {
			return "Verify still answers " + text(err)
		}
		return ""
	})
}

func text(err error) string {
	if err == nil {
		return "nothing"
	}
	return err.Error()
}

// until polls until wrong returns "". Otherwise wrong describes what is still wrong.
func until(t *testing.T, wrong func() string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		said := wrong()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(said)
		}
		time.Sleep(2 * time.Millisecond) // between two polls
	}
}

func sessionCutoff(ver int64) cutoff.Cutoff {
	return cutoff.Cutoff{Kind: cutoff.KindSession, Session: session, Ver: ver}
}
