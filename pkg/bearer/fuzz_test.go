package bearer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer"
)

// bare verifies with golang-jwt only, by the same rules: with its options as far as there
// are any, and with checks of our own for the rest.
func bare(token string) error {
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"ES256", "EdDSA", "RS256"}),
		jwt.WithIssuer(issuer), jwt.WithAudience(issuer), jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(), jwt.WithTimeFunc(func() time.Time { return now }),
	)
	t, err := parser.Parse(token, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		k, ok := keys[kid]
		if typ, _ := t.Header["typ"].(string); !ok || k.alg != t.Method.Alg() || !slices.Contains([]string{"at+jwt", "application/at+jwt"}, strings.ToLower(typ)) {
			return nil, errors.New("header")
		}
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("crit")
		}
		return k.private.Public(), nil
	})
	if err != nil {
		return err
	}
	claims := t.Claims.(jwt.MapClaims)
	for _, name := range []string{"sub", "client_id", "jti", "sid"} {
		if s, ok := claims[name].(string); !ok || s == "" {
			return errors.New(name)
		}
	}
	_, hasPerson := claims["person"].(string)
	if bound, ok := claims["bound"].(bool); !ok || bound != hasPerson {
		return errors.New("bound")
	}
	if iat, err := claims.GetIssuedAt(); err != nil || iat == nil {
		return errors.New("iat")
	}
	return nil
}

// agree checks that golang-jwt accepts each token that Verify accepts, with the same
// claims, and that Verify returns no other errors than invalid or expired.
func agree(t *testing.T, v *bearer.Verifier, token string) {
	t.Helper()
	c, err := v.Verify(context.Background(), token)
	if err != nil {
		if c != nil || (!errors.Is(err, bearer.ErrInvalid) && !errors.Is(err, bearer.ErrExpired)) {
			t.Fatalf("Verify(%q) = %+v, %v", token, c, err)
		}
		return
	}
	if err := bare(token); err != nil {
		t.Fatalf("Verify accepts %q, which golang-jwt refuses: %v", token, err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	person, _ := claims["person"].(string)
	externalID, _ := claims["external_id"].(string)
	if claims["sub"] != c.Subject || claims["sid"] != c.Session || claims["client_id"] != c.App || claims["jti"] != c.ID || person != c.Person || externalID != c.ExternalID ||
		claims["bound"] != c.Bound || claims["exp"] != float64(c.ExpiresAt.Unix()) || claims["iat"] != float64(c.IssuedAt.Unix()) || !slices.Contains(c.Audience, issuer) || c.Issuer != issuer {
		t.Fatalf("Verify() of payload %s = %+v", payload, c)
	}
	if again, err := v.Verify(context.Background(), token); err != nil || again.ID != c.ID {
		t.Fatalf("second Verify() = %+v, %v", again, err)
	}
}

// FuzzVerify checks that arbitrary bytes are accepted only if golang-jwt accepts them and
// only if their signed part was signed by the test.
func FuzzVerify(f *testing.F) {
	v, err := bearer.NewLocal(bearer.Local{Issuer: issuer, Keys: keys.find, Clock: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	good := forgery{}.make(f)
	signed := good[:strings.LastIndex(good, ".")]
	f.Add(good)
	f.Add(good + "\n")
	f.Add(forgery{claims: map[string]any{"iat": now.Unix() - 600, "exp": now.Unix()}}.make(f))
	f.Add(forgery{header: map[string]any{"alg": "none"}, sign: func(string) []byte { return nil }}.make(f))
	f.Add(`eyJhbGciOiJub25lIn0.e30.`)
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		agree(t, v, token)
		if _, err := v.Verify(context.Background(), token); err == nil && token[:strings.LastIndex(token, ".")] != signed {
			t.Fatalf("Verify accepts %q, which was not signed", token)
		}
	})
}

// FuzzVerifySigned does the same with correctly signed headers and claims, to reach the
// code behind the signature check.
func FuzzVerifySigned(f *testing.F) {
	v, err := bearer.NewLocal(bearer.Local{Issuer: issuer, Keys: keys.find, Clock: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	const header = `{"typ":"at+jwt","alg":"EdDSA","kid":"ed"}`
	good := payloadOf(f, nil)
	for _, change := range []map[string]any{nil, {"bound": true, "person": person}, {"bound": true, "person": person, "external_id": "\u2028<1001>"}, {"cnf": 1}, {"nbf": now.Unix()}, {"x": []any{nil, map[string]any{}}}, {"aud": issuer}} {
		f.Add(header, payloadOf(f, change))
	}
	f.Add(` {"typ": "application/AT+jwt", "alg":"EdDSA","kid":"\u0065d","jwk":{"a":"\\\"}"}} `, good)
	f.Add(header, good[:len(good)-1]+`,"exp":9999999999,"EXP":1}`)
	f.Add(header, strings.Replace(good, `"ver":3`, `"ver":3e0`, 1))
	f.Add(header, strings.Replace(good, `"iat":`, `"iat":-0`, 1))
	f.Add(header, good[:len(good)-1]+`,"x":1e400}`)
	f.Add(header, good[:len(good)-1]+`,"x":{"y":[-1e400]}}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		agree(t, v, raw(t, header, payload, signWith(t, jwt.SigningMethodEdDSA, keys["ed"].private)))
	})
}

// FuzzMembers checks that the scanner finds the same members as encoding/json in
// well-formed JSON, and survives other input.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{}`, ` { "a" : [1, {"b":"]}"}] , "c":"\\\"" } `, `{"a":1,"a":2}`, `{"\u0061":1}`, `[]`, `null`, `{"a"`, `{"a":}`, `{"a":1,}`, `"`, `{"":""}`, "{\"\xff\":1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		names, ok := bearer.Members(data)
		if !ok || !json.Valid(data) {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil || len(want) != len(names) {
			t.Fatalf("members(%q) = %q, but encoding/json: error = %v", data, names, err)
		}
		for _, name := range names {
			value, ok := want[name]
			if !ok {
				t.Fatalf("members(%q) found %q, which encoding/json did not", data, name)
			}
			var s string
			if got, ok := bearer.TextOf(value); ok && (json.Unmarshal(value, &s) != nil || s != got) {
				t.Fatalf("textOf(%q) = %q", value, got)
			}
		}
	})
}

// FuzzKeySet checks that a set yields only keys that fit their algorithm.
func FuzzKeySet(f *testing.F) {
	f.Add(keySet(f, jwkOf("ec", keys["ec"]), jwkOf("ed", keys["ed"]), jwkOf("rs", keys["rs"])))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[null,{},[],{"kty":"EC","crv":"P-256","x":"","y":"","kid":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := bearer.ParseKeySet(data)
		if err == nil && len(got) == 0 {
			t.Fatal("parseKeySet() returned no key and no error")
		}
		for kid, alg := range got {
			if kid == "" || !slices.Contains([]string{"ES256", "EdDSA", "RS256"}, alg) {
				t.Fatalf("parseKeySet() returned key %q for algorithm %q", kid, alg)
			}
		}
	})
}
