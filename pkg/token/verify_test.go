package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// forgery is a token to be made: what differs from a good one. A nil value
// takes the member away.
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

// rawToken signs header and payload as they are, with the good key.
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

func hs256(secret []byte) func(string) []byte {
	return func(input string) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(input))
		return m.Sum(nil)
	}
}

func at(tm time.Time) func() time.Time { return func() time.Time { return tm } }

func TestVerify(t *testing.T) {
	t.Parallel()
	v := token.NewVerifier(ecOnly(), issuer, at(now))
	t.Run("what was minted verifies and says what the session said", func(t *testing.T) {
		t.Parallel()
		for name, s := range map[string]*auth.Session{"unbound": unboundSession(), "bound": boundSession()} {
			raw, expiresIn, err := minter(t, 10*time.Minute).Mint(s, []string{"orders"}, "", now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := v.Verify(raw.Reveal())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			issued := now.Truncate(time.Second)
			want := &token.Claims{
				Issuer: issuer, Subject: s.Identity, Audience: jwt.ClaimStrings{issuer, "orders"}, ClientID: s.AppID,
				IssuedAt:  jwt.NewNumericDate(issued),
				ExpiresAt: jwt.NewNumericDate(issued.Add(time.Duration(expiresIn) * time.Second)),
				ID:        got.ID, Session: s.ID, Ver: s.Ver, Epoch: s.Epoch, Bound: s.Bound(),
			}
			if s.Person != nil {
				want.Person = &s.Person.ID
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	})
	t.Run("it is good until the second it expires", func(t *testing.T) {
		t.Parallel()
		s := forgery{}.make(t)
		exp := now.Add(10 * time.Minute).Truncate(time.Second)
		if _, err := token.NewVerifier(ecOnly(), issuer, at(exp.Add(-time.Nanosecond))).Verify(s); err != nil {
			t.Errorf("a moment before: %v", err)
		}
		for _, d := range []time.Duration{0, time.Second, 100 * 365 * 24 * time.Hour} {
			if _, err := token.NewVerifier(ecOnly(), issuer, at(exp.Add(d))).Verify(s); !errors.Is(err, auth.TokenExpired) {
				t.Errorf("%v after: %v, want token_expired", d, err)
			}
		}
	})
	t.Run("harmless differences are accepted", func(t *testing.T) {
		t.Parallel()
		for name, f := range map[string]forgery{
			"the type's case":                    {header: map[string]any{"typ": "AT+JWT"}},
			"the type with its prefix":           {header: map[string]any{"typ": "application/at+jwt"}},
			"one audience as a string":           {claims: map[string]any{"aud": issuer}},
			"claims of a newer release":          {claims: map[string]any{"cnf2": map[string]any{"x": 1}}},
			"a key in the header, not looked at": {header: map[string]any{"jwk": map[string]any{"kty": "EC"}, "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x", "x5c": []string{"AAAA"}}},
		} {
			if _, err := v.Verify(f.make(t)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("each algorithm verifies with a key of its own", func(t *testing.T) {
		t.Parallel()
		keys, _ := allKeys(t)
		v := token.NewVerifier(keys, issuer, at(now))
		for kid, k := range keys {
			f := forgery{header: map[string]any{"kid": kid, "alg": k.Alg}, sign: signWith(t, jwt.GetSigningMethod(k.Alg), k.Key)}
			if _, err := v.Verify(f.make(t)); err != nil {
				t.Errorf("%s: %v", k.Alg, err)
			}
		}
	})
}

// allKeys returns a key of each algorithm, and one of an algorithm that is not
// allowed.
func allKeys(t *testing.T) (keys keySet, p384 *ecdsa.PrivateKey) {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keySet{
		"ec": {KID: "ec", Alg: "ES256", Key: ecKey},
		"ed": {KID: "ed", Alg: "EdDSA", Key: ed},
		"rs": {KID: "rs", Alg: "RS256", Key: rs},
	}, p384
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	keys, p384 := allKeys(t)
	keys["ps"] = token.SigningKey{KID: "ps", Alg: "PS256", Key: keys["rs"].Key}
	keys["p384"] = token.SigningKey{KID: "p384", Alg: "ES384", Key: p384}
	v := token.NewVerifier(keys, issuer, at(now))
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ecKey.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&ecKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	rsaDER, err := x509.MarshalPKIXPublicKey(keys["rs"].Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	strangerJWK := map[string]any{
		"kty": "EC", "crv": "P-256",
		"x": base64.RawURLEncoding.EncodeToString(stranger.X.FillBytes(make([]byte, 32))),
		"y": base64.RawURLEncoding.EncodeToString(stranger.Y.FillBytes(make([]byte, 32))),
	}
	none := func(string) []byte { return nil }
	late := now.Add(-time.Second).Unix()
	good := forgery{}.make(t)
	dots := strings.Split(good, ".")

	for name, f := range map[string]forgery{
		"alg none":                         {header: map[string]any{"alg": "none"}, sign: none},
		"alg None":                         {header: map[string]any{"alg": "None"}, sign: none},
		"alg none with the good signature": {header: map[string]any{"alg": "none"}},
		"no alg":                           {header: map[string]any{"alg": nil}},
		"alg that is no string":            {header: map[string]any{"alg": 7}},
		"alg in lower case":                {header: map[string]any{"alg": "es256"}},
		"no signature":                     {sign: none},
		"a signature of zeros":             {sign: func(string) []byte { return make([]byte, 64) }},
		"a signature in ASN.1": {sign: func(in string) []byte {
			h := sha256.Sum256([]byte(in))
			b, _ := ecKey.Sign(rand.Reader, h[:], crypto.SHA256)
			return b
		}},
		"HS256 with the public point as secret":    {header: map[string]any{"alg": "HS256"}, sign: hs256(point)},
		"HS256 with the public DER as secret":      {header: map[string]any{"alg": "HS256"}, sign: hs256(der)},
		"HS256 with the public PEM as secret":      {header: map[string]any{"alg": "HS256"}, sign: hs256(inPEM)},
		"HS256 with the RSA DER as secret":         {header: map[string]any{"alg": "HS256", "kid": "rs"}, sign: hs256(rsaDER)},
		"HS256 with no secret":                     {header: map[string]any{"alg": "HS256"}, sign: hs256(nil)},
		"a stranger's signature":                   {sign: signES256(t, stranger)},
		"a stranger's key in the header":           {header: map[string]any{"jwk": strangerJWK}, sign: signES256(t, stranger)},
		"a stranger's key in the header, alone":    {header: map[string]any{"jwk": strangerJWK, "kid": nil}, sign: signES256(t, stranger)},
		"a stranger's JWKS in the header":          {header: map[string]any{"jku": "http://127.0.0.1:1/jwks", "kid": "stranger"}, sign: signES256(t, stranger)},
		"an unknown key":                           {header: map[string]any{"kid": "gone"}},
		"no kid":                                   {header: map[string]any{"kid": nil}},
		"an empty kid":                             {header: map[string]any{"kid": ""}},
		"a kid that is no string":                  {header: map[string]any{"kid": []string{"ec"}}},
		"the kid of an RSA key":                    {header: map[string]any{"kid": "rs"}},
		"the kid of an Ed25519 key":                {header: map[string]any{"kid": "ed"}},
		"RS256 under the kid of the EC key":        {header: map[string]any{"alg": "RS256"}, sign: signWith(t, jwt.SigningMethodRS256, keys["rs"].Key)},
		"RS512 by the RSA key":                     {header: map[string]any{"alg": "RS512", "kid": "rs"}, sign: signWith(t, jwt.SigningMethodRS512, keys["rs"].Key)},
		"PS256 by the RSA key":                     {header: map[string]any{"alg": "PS256", "kid": "rs"}, sign: signWith(t, jwt.SigningMethodPS256, keys["rs"].Key)},
		"RS256 by a key that is for PS256":         {header: map[string]any{"alg": "RS256", "kid": "ps"}, sign: signWith(t, jwt.SigningMethodRS256, keys["rs"].Key)},
		"an algorithm outside the list":            {header: map[string]any{"alg": "ES384", "kid": "p384"}, sign: signWith(t, jwt.SigningMethodES384, p384)},
		"the type of any JWT":                      {header: map[string]any{"typ": "JWT"}},
		"no type":                                  {header: map[string]any{"typ": nil}},
		"an empty type":                            {header: map[string]any{"typ": ""}},
		"the type of an ID token":                  {header: map[string]any{"typ": "id_token+jwt"}},
		"a type that ends in ours":                 {header: map[string]any{"typ": "text/at+jwt"}},
		"a type that is no string":                 {header: map[string]any{"typ": []string{"at+jwt"}}},
		"a critical extension":                     {header: map[string]any{"crit": []string{"b64"}, "b64": true}},
		"an empty list of critical extensions":     {header: map[string]any{"crit": []string{}}},
		"another issuer":                           {claims: map[string]any{"iss": "https://evil.example"}},
		"our issuer with a slash":                  {claims: map[string]any{"iss": issuer + "/"}},
		"our issuer in capitals":                   {claims: map[string]any{"iss": strings.ToUpper(issuer)}},
		"no issuer":                                {claims: map[string]any{"iss": nil}},
		"other audiences alone":                    {claims: map[string]any{"aud": []string{"orders"}}},
		"no audience":                              {claims: map[string]any{"aud": nil}},
		"an empty list of audiences":               {claims: map[string]any{"aud": []string{}}},
		"an audience that is an object":            {claims: map[string]any{"aud": map[string]any{issuer: true}}},
		"no exp":                                   {claims: map[string]any{"exp": nil}},
		"an exp that is text":                      {claims: map[string]any{"exp": "tomorrow"}},
		"no iat":                                   {claims: map[string]any{"iat": nil}},
		"no jti":                                   {claims: map[string]any{"jti": nil}},
		"no sub":                                   {claims: map[string]any{"sub": nil}},
		"a sub that is no uuid":                    {claims: map[string]any{"sub": "alice"}},
		"the nil uuid as sub":                      {claims: map[string]any{"sub": "00000000-0000-0000-0000-000000000000"}},
		"no sid":                                   {claims: map[string]any{"sid": nil}},
		"no client_id":                             {claims: map[string]any{"client_id": nil}},
		"a ver that is text":                       {claims: map[string]any{"ver": "3"}},
		"a ver with a fraction":                    {claims: map[string]any{"ver": 3.5}},
		"bound without a person":                   {claims: map[string]any{"bound": true}},
		"a person without bound":                   {claims: map[string]any{"person": "01900000-0000-7c00-8000-00000000000c"}},
		"expired, of another issuer":               {claims: map[string]any{"exp": late, "iss": "https://evil.example"}},
		"expired, without an issuer":               {claims: map[string]any{"exp": late, "iss": nil}},
		"expired, for another audience":            {claims: map[string]any{"exp": late, "aud": "orders"}},
		"expired, without an audience":             {claims: map[string]any{"exp": late, "aud": nil}},
		"expired, without a session":               {claims: map[string]any{"exp": late, "sid": nil}},
		"expired, bound to nobody":                 {claims: map[string]any{"exp": late, "bound": true}},
		"expired, signed by a stranger":            {claims: map[string]any{"exp": late}, sign: signES256(t, stranger)},
		"expired, of the wrong type":               {header: map[string]any{"typ": "JWT"}, claims: map[string]any{"exp": late}},
		"good in every way, but longer than 8 KiB": {claims: map[string]any{"pad": strings.Repeat("x", 8<<10)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantInvalid(t, v, f.make(t))
		})
	}
	for name, s := range map[string]string{
		"nothing":                        "",
		"a dot":                          ".",
		"two dots":                       "..",
		"a thousand dots":                strings.Repeat(".", 1000),
		"two segments":                   dots[0] + "." + dots[1],
		"four segments":                  good + "." + dots[2],
		"a dot at the end":               good + ".",
		"a dot in front":                 "." + good,
		"a character more":               good + "A",
		"padding":                        good + "==",
		"padding in the header":          dots[0] + "=." + dots[1] + "." + dots[2],
		"white space in front":           " " + good,
		"white space behind":             good + " ",
		"a line break behind":            good + "\n",
		"a line break in the signature":  good[:len(good)-5] + "\r\n" + good[len(good)-5:],
		"a line break in the header":     dots[0][:4] + "\n" + dots[0][4:] + "." + dots[1] + "." + dots[2],
		"NUL":                            good + "\x00",
		"the standard alphabet":          strings.NewReplacer("-", "+", "_", "/").Replace(dots[0]+"."+dots[1]+"."+dots[2]) + "+/",
		"a refresh token":                "yfr_AQECAwQBkAAAAAB8AIAAAAAAAAABAAAAAcLULxpThw97YfEAs-wi8j0rubQ_",
		"a megabyte":                     strings.Repeat("A", 1<<20),
		"a header that is null":          rawToken(t, `null`, `{}`),
		"a header that is a list":        rawToken(t, `[]`, `{}`),
		"claims that are null":           rawToken(t, `{"typ":"at+jwt","alg":"ES256","kid":"ec"}`, `null`),
		"claims that are a list":         rawToken(t, `{"typ":"at+jwt","alg":"ES256","kid":"ec"}`, `[]`),
		"claims that are text":           rawToken(t, `{"typ":"at+jwt","alg":"ES256","kid":"ec"}`, `"x"`),
		"claims with something behind":   rawToken(t, `{"typ":"at+jwt","alg":"ES256","kid":"ec"}`, `{} {}`),
		"claims that are none":           rawToken(t, `{"typ":"at+jwt","alg":"ES256","kid":"ec"}`, `{}`),
		"a JWS in JSON":                  `{"payload":"` + dots[1] + `","protected":"` + dots[0] + `","signature":"` + dots[2] + `"}`,
		"the signature of another token": dots[0] + "." + dots[1] + "." + strings.Split(forgery{claims: map[string]any{"ver": 4}}.make(t), ".")[2],
		"the claims of another token":    dots[0] + "." + strings.Split(forgery{claims: map[string]any{"ver": 4}}.make(t), ".")[1] + "." + dots[2],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantInvalid(t, v, s)
		})
	}
	t.Run("another character in any place", func(t *testing.T) {
		t.Parallel()
		for i := range len(good) {
			for _, c := range []byte{'A', 'B', 'z', '_', '=', '\n', ' ', good[i] ^ 1, good[i] ^ 0x20} {
				if c != good[i] {
					wantInvalid(t, v, good[:i]+string([]byte{c})+good[i+1:])
				}
			}
		}
	})
	t.Run("the spare bits of the last character", func(t *testing.T) {
		t.Parallel()
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		want, err := base64.RawURLEncoding.DecodeString(dots[2])
		if err != nil {
			t.Fatal(err)
		}
		same := 0
		for _, c := range alphabet {
			s := good[:len(good)-1] + string(c)
			if s == good {
				continue
			}
			if got, err := base64.RawURLEncoding.DecodeString(strings.Split(s, ".")[2]); err == nil && cmp.Equal(got, want) {
				same++
			}
			wantInvalid(t, v, s)
		}
		if same == 0 {
			t.Error("no spelling decodes to the same signature, so this shows nothing")
		}
	})
	t.Run("a token of another issuer with the same keys", func(t *testing.T) {
		t.Parallel()
		wantInvalid(t, token.NewVerifier(keys, "https://other.example.com", at(now)), good)
	})
	t.Run("any token, when there are no keys", func(t *testing.T) {
		t.Parallel()
		wantInvalid(t, token.NewVerifier(keySet{}, issuer, at(now)), good)
	})
}

func wantInvalid(t *testing.T, v *token.Verifier, s string) {
	t.Helper()
	c, err := v.Verify(s)
	if c != nil || !errors.Is(err, auth.TokenInvalid) || errors.Is(err, auth.TokenExpired) || auth.CodeOf(err) != auth.TokenInvalid {
		t.Errorf("Verify(%.120q) = %v, %v, want token_invalid", s, c, err)
	}
	if err != nil && len(s) > 64 && strings.Contains(err.Error(), s[len(s)-32:]) {
		t.Errorf("the error quotes the token: %v", err)
	}
}

// FuzzVerify holds that a token verifies only when its signed part is one that
// was signed, and that nothing else is said than invalid or expired.
func FuzzVerify(f *testing.F) {
	v := token.NewVerifier(ecOnly(), issuer, at(now))
	good := forgery{}.make(f)
	signed := map[string]bool{good[:strings.LastIndex(good, ".")]: true}
	f.Add(good)
	f.Add(forgery{claims: map[string]any{"exp": now.Unix()}}.make(f))
	f.Add(forgery{header: map[string]any{"alg": "none"}, sign: func(string) []byte { return nil }}.make(f))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := v.Verify(s)
		switch {
		case err == nil && !signed[s[:max(0, strings.LastIndex(s, "."))]]:
			t.Fatalf("Verify(%q) = %+v", s, c)
		case err != nil && (c != nil || auth.CodeOf(err) != auth.TokenInvalid && auth.CodeOf(err) != auth.TokenExpired):
			t.Fatalf("Verify(%q) = %v, %v", s, c, err)
		}
	})
}
