package bearer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	t.Run("returns the claims of the token", func(t *testing.T) {
		t.Parallel()
		want := &bearer.Claims{
			Issuer: issuer, Subject: user, Audience: []string{issuer, "shop"}, App: "wxdevelopment0001",
			IssuedAt: now, ExpiresAt: now.Add(10 * time.Minute), ID: "J7PYZ3MZJ2UUDQ3E2V4WJ7N5QA",
			Session: session, Ver: 3, Epoch: 2, KeyID: "ec",
		}
		if got := wantGood(t, local(t, nil), forgery{}.make(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("claims of an unbound user = %+v", got)
		}
		want.Bound, want.Person = true, person
		if got := wantGood(t, local(t, nil), forgery{claims: map[string]any{"bound": true, "person": person}}.make(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("claims of a bound user = %+v", got)
		}
		for _, id := range []string{"1001", "a\nb\"\\'", "工号 一〇〇一", strings.Repeat("<", 255)} {
			want.ExternalID = id
			if got := wantGood(t, local(t, nil), forgery{claims: map[string]any{"bound": true, "person": person, "external_id": id}}.make(t)); !reflect.DeepEqual(got, want) {
				t.Errorf("claims with an external_id = %+v", got)
			}
		}
	})
	t.Run("accepts each algorithm with its own key", func(t *testing.T) {
		t.Parallel()
		for kid, k := range keys {
			f := forgery{header: map[string]any{"kid": kid, "alg": k.alg}, sign: signWith(t, jwt.GetSigningMethod(k.alg), k.private)}
			wantGood(t, local(t, nil), f.make(t))
		}
	})
	t.Run("accepts harmless variations", func(t *testing.T) {
		t.Parallel()
		for name, f := range map[string]forgery{
			"the type in capitals":           {header: map[string]any{"typ": "AT+JWT"}},
			"the type with its prefix":       {header: map[string]any{"typ": "application/at+jwt"}},
			"one audience as a string":       {claims: map[string]any{"aud": issuer}},
			"claims of a newer service":      {claims: map[string]any{"x": map[string]any{"y": []any{1, "}", nil}}}},
			"a header of a newer service":    {header: map[string]any{"x": []any{map[string]any{"y": 1}, map[string]any{"y": 1}}}},
			"issued a minute from now":       {claims: map[string]any{"iat": now.Unix() + 60}},
			"not before now":                 {claims: map[string]any{"nbf": now.Unix()}},
			"the longest lifetime, one hour": {claims: map[string]any{"exp": now.Unix() + 3600}},
			"an app of another platform":     {claims: map[string]any{"client_id": "2021004100000000"}},
			"a name spelled with escapes":    {claims: map[string]any{"client_id": "小程序"}},
			"a large ver":                    {claims: map[string]any{"ver": int64(1) << 62}},
			"the maximum number of members":  {claims: many(64 - len(goodClaims()))},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				wantGood(t, local(t, nil), f.make(t))
			})
		}
		wantGood(t, local(t, nil), raw(t, ` { "typ" : "at+jwt" , "alg":"ES256","kid":"e\u0063" } `, " "+payloadOf(t, nil)+"\n", nil))
	})
	t.Run("requires the audience, which is the issuer by default", func(t *testing.T) {
		t.Parallel()
		shop := local(t, func(l *bearer.Local) { l.Audience = "shop" })
		wantGood(t, shop, forgery{}.make(t))
		wantError(t, shop, forgery{claims: map[string]any{"aud": []string{issuer, "bank"}}}.make(t), bearer.ErrInvalid)
		wantError(t, shop, forgery{claims: map[string]any{"aud": issuer}}.make(t), bearer.ErrInvalid)
	})
	t.Run("returns claims that the caller may change", func(t *testing.T) {
		t.Parallel()
		v, token := local(t, nil), forgery{}.make(t)
		for range 3 {
			c := wantGood(t, v, token)
			if c.Audience[0] != issuer || c.Session != session {
				t.Fatalf("a change by another caller is visible: %+v", c)
			}
			c.Audience[0], c.Session, c.Ver = "changed", "changed", 0
		}
	})
	t.Run("accepts a token until the second it expires", func(t *testing.T) {
		t.Parallel()
		token := forgery{}.make(t)
		c := clockAt(now.Add(10*time.Minute - time.Nanosecond))
		for name, v := range map[string]*bearer.Verifier{
			"cold": local(t, func(l *bearer.Local) { l.Clock, l.TokenMemory = c.now, -1 }),
			"warm": local(t, func(l *bearer.Local) { l.Clock = c.now }),
		} {
			t.Run(name, func(t *testing.T) {
				wantGood(t, v, token)
				for _, d := range []time.Duration{time.Nanosecond, time.Second, 100 * 365 * 24 * time.Hour} {
					c.advance(d)
					wantError(t, v, token, bearer.ErrExpired)
					c.advance(-d)
				}
				wantGood(t, v, token)
			})
		}
	})
}

func many(n int) map[string]any {
	m := map[string]any{}
	for i := range n {
		m["x"+strings.Repeat("x", i)] = i
	}
	return m
}

func payloadOf(t testing.TB, change map[string]any) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(forgery{claims: change}.make(t), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestVerifyErrorOrder checks the order of the four errors.
func TestVerifyErrorOrder(t *testing.T) {
	t.Parallel()
	late := map[string]any{"iat": now.Unix() - 600, "exp": now.Unix()}
	stranger := signWith(t, jwt.SigningMethodES256, stranger(t))
	for name, c := range map[string]struct {
		f              forgery
		revoked, stale bool
		want           error
	}{
		"good":                               {},
		"expired":                            {f: forgery{claims: late}, want: bearer.ErrExpired},
		"revoked":                            {revoked: true, want: bearer.ErrRevoked},
		"stale":                              {stale: true, want: bearer.ErrStale},
		"expired and revoked":                {f: forgery{claims: late}, revoked: true, want: bearer.ErrRevoked},
		"expired and stale":                  {f: forgery{claims: late}, stale: true, want: bearer.ErrExpired},
		"revoked and stale":                  {revoked: true, stale: true, want: bearer.ErrRevoked},
		"expired, revoked and stale":         {f: forgery{claims: late}, revoked: true, stale: true, want: bearer.ErrRevoked},
		"forged":                             {f: forgery{sign: stranger}, want: bearer.ErrInvalid},
		"forged, expired, revoked and stale": {f: forgery{claims: late, sign: stranger}, revoked: true, stale: true, want: bearer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := cutoff.NewSet()
			if c.revoked {
				set.Add(sessionCutoff(0), now)
			}
			v := local(t, func(l *bearer.Local) {
				l.Cutoffs, l.MaxStaleness = set, 10*time.Second
				l.Staleness = func() time.Duration {
					if c.stale {
						return 10*time.Second + 1
					}
					return 10 * time.Second
				}
			})
			token := c.f.make(t)
			if c.want == nil {
				wantGood(t, v, token)
				return
			}
			wantError(t, v, token, c.want)
		})
	}
}

func stranger(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	ring := keyring{}
	for kid, k := range keys {
		ring[kid] = k
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ring["ps"] = key{"PS256", keys["rs"].private}
	ring["p384"] = key{"ES384", p384}
	ring["p384 as ES256"] = key{"ES256", p384}
	ring["weak"] = key{"RS256", weak}
	v := local(t, func(l *bearer.Local) { l.Keys = ring.find })
	ec := keys["ec"].private.(*ecdsa.PrivateKey)
	rs := keys["rs"].private
	ecdh, err := ec.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	rsaDER, err := x509.MarshalPKIXPublicKey(rs.Public())
	if err != nil {
		t.Fatal(err)
	}
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	evil := stranger(t)
	evilJWK := map[string]any{
		"kty": "EC", "crv": "P-256",
		"x": base64.RawURLEncoding.EncodeToString(evil.X.FillBytes(make([]byte, 32))),
		"y": base64.RawURLEncoding.EncodeToString(evil.Y.FillBytes(make([]byte, 32))),
	}
	byEvil := signWith(t, jwt.SigningMethodES256, evil)
	none := func(string) []byte { return nil }
	hs256 := func(secret []byte) func(string) []byte {
		return func(input string) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte(input))
			return m.Sum(nil)
		}
	}
	// late makes the token expired too: a token that is wrong in other ways must not be
	// reported as expired.
	late := func(m map[string]any) map[string]any {
		m["iat"], m["exp"] = now.Unix()-601, now.Unix()-1
		return m
	}

	for name, f := range map[string]forgery{
		"alg none":                         {header: map[string]any{"alg": "none"}, sign: none},
		"alg None":                         {header: map[string]any{"alg": "None"}, sign: none},
		"alg none with the good signature": {header: map[string]any{"alg": "none"}},
		"no alg":                           {header: map[string]any{"alg": nil}},
		"alg that is not a string":         {header: map[string]any{"alg": 7}},
		"alg in lower case":                {header: map[string]any{"alg": "es256"}},
		"no signature":                     {sign: none},
		"a signature of zeros":             {sign: func(string) []byte { return make([]byte, 64) }},
		"a signature in ASN.1": {sign: func(in string) []byte {
			h := sha256.Sum256([]byte(in))
			b, _ := ec.Sign(rand.Reader, h[:], crypto.SHA256)
			return b
		}},
		"HS256 with the public point":          {header: map[string]any{"alg": "HS256"}, sign: hs256(ecdh.Bytes())},
		"HS256 with the public DER":            {header: map[string]any{"alg": "HS256"}, sign: hs256(der)},
		"HS256 with the public PEM":            {header: map[string]any{"alg": "HS256"}, sign: hs256(inPEM)},
		"HS256 with the RSA DER":               {header: map[string]any{"alg": "HS256", "kid": "rs"}, sign: hs256(rsaDER)},
		"HS256 with no secret":                 {header: map[string]any{"alg": "HS256"}, sign: hs256(nil)},
		"a stranger's signature":               {sign: byEvil},
		"a stranger's key in the header":       {header: map[string]any{"jwk": evilJWK}, sign: byEvil},
		"only a stranger's key in the header":  {header: map[string]any{"jwk": evilJWK, "kid": nil}, sign: byEvil},
		"its own key in the header":            {header: map[string]any{"jwk": jwkOf("ec", keys["ec"])}},
		"an address of keys in the header":     {header: map[string]any{"jku": issuer + "/.well-known/jwks.json"}},
		"an address of a certificate":          {header: map[string]any{"x5u": issuer}},
		"a certificate":                        {header: map[string]any{"x5c": []string{"AAAA"}}},
		"a stranger's JWKS in the header":      {header: map[string]any{"jku": "http://127.0.0.1:1/jwks", "kid": "evil"}, sign: byEvil},
		"an unknown key":                       {header: map[string]any{"kid": "gone"}},
		"no kid":                               {header: map[string]any{"kid": nil}},
		"an empty kid":                         {header: map[string]any{"kid": ""}},
		"a kid that is not a string":           {header: map[string]any{"kid": []string{"ec"}}},
		"the kid of an RSA key":                {header: map[string]any{"kid": "rs"}},
		"the kid of an Ed25519 key":            {header: map[string]any{"kid": "ed"}},
		"RS256 under the kid of the EC key":    {header: map[string]any{"alg": "RS256"}, sign: signWith(t, jwt.SigningMethodRS256, rs)},
		"RS512 by the RSA key":                 {header: map[string]any{"alg": "RS512", "kid": "rs"}, sign: signWith(t, jwt.SigningMethodRS512, rs)},
		"PS256 by the RSA key":                 {header: map[string]any{"alg": "PS256", "kid": "rs"}, sign: signWith(t, jwt.SigningMethodPS256, rs)},
		"RS256 by a key that is for PS256":     {header: map[string]any{"alg": "RS256", "kid": "ps"}, sign: signWith(t, jwt.SigningMethodRS256, rs)},
		"RS256 by a weak key":                  {header: map[string]any{"alg": "RS256", "kid": "weak"}, sign: signWith(t, jwt.SigningMethodRS256, weak)},
		"an algorithm outside the list":        {header: map[string]any{"alg": "ES384", "kid": "p384"}, sign: signWith(t, jwt.SigningMethodES384, p384)},
		"the key of another curve":             {header: map[string]any{"kid": "p384 as ES256"}},
		"the type of any JWT":                  {header: map[string]any{"typ": "JWT"}},
		"no type":                              {header: map[string]any{"typ": nil}},
		"an empty type":                        {header: map[string]any{"typ": ""}},
		"the type of an ID token":              {header: map[string]any{"typ": "id_token+jwt"}},
		"a type that ends in ours":             {header: map[string]any{"typ": "text/at+jwt"}},
		"a type that is not a string":          {header: map[string]any{"typ": []string{"at+jwt"}}},
		"a critical extension":                 {header: map[string]any{"crit": []string{"b64"}, "b64": true}},
		"an empty list of critical extensions": {header: map[string]any{"crit": []string{}}},
		"a payload declared as unencoded":      {header: map[string]any{"b64": false}},
		"a payload declared as encoded":        {header: map[string]any{"b64": true}},
		"a header of too many members":         {header: many(70)},
		"another issuer":                       {claims: map[string]any{"iss": "https://evil.example"}},
		"our issuer with a slash":              {claims: map[string]any{"iss": issuer + "/"}},
		"our issuer in capitals":               {claims: map[string]any{"iss": strings.ToUpper(issuer)}},
		"no issuer":                            {claims: map[string]any{"iss": nil}},
		"an issuer under a name in capitals":   {claims: map[string]any{"iss": nil, "ISS": issuer}},
		"only other audiences":                 {claims: map[string]any{"aud": []string{"shop"}}},
		"no audience":                          {claims: map[string]any{"aud": nil}},
		"an empty list of audiences":           {claims: map[string]any{"aud": []string{}}},
		"an audience that is an object":        {claims: map[string]any{"aud": map[string]any{issuer: true}}},
		"an audience that is not a string":     {claims: map[string]any{"aud": []any{issuer, 7}}},
		"no exp":                               {claims: map[string]any{"exp": nil}},
		"an exp that is text":                  {claims: map[string]any{"exp": "tomorrow"}},
		"an exp with a fraction":               {claims: map[string]any{"exp": float64(now.Unix()) + 60.5}},
		"an exp before iat":                    {claims: map[string]any{"exp": now.Unix() - 1}},
		"a lifetime over one hour":             {claims: map[string]any{"exp": now.Unix() + 3601}},
		"no iat":                               {claims: map[string]any{"iat": nil}},
		"an iat of zero":                       {claims: map[string]any{"iat": 0}},
		"issued in the future":                 {claims: map[string]any{"iat": now.Unix() + 61}},
		"not before later":                     {claims: map[string]any{"nbf": now.Unix() + 1}},
		"a not before that is text":            {claims: map[string]any{"nbf": "now"}},
		"no jti":                               {claims: map[string]any{"jti": nil}},
		"an empty jti":                         {claims: map[string]any{"jti": ""}},
		"no sub":                               {claims: map[string]any{"sub": nil}},
		"a sub that is not a uuid":             {claims: map[string]any{"sub": "alice"}},
		"a sub in capitals":                    {claims: map[string]any{"sub": strings.ToUpper(user)}},
		"the nil uuid as sub":                  {claims: map[string]any{"sub": "00000000-0000-0000-0000-000000000000"}},
		"no sid":                               {claims: map[string]any{"sid": nil}},
		"a sid in another spelling":            {claims: map[string]any{"sid": "{" + session + "}"}},
		"a sid in capitals":                    {claims: map[string]any{"sid": strings.ToUpper(session)}},
		"no client_id":                         {claims: map[string]any{"client_id": nil}},
		"an empty client_id":                   {claims: map[string]any{"client_id": ""}},
		"no ver":                               {claims: map[string]any{"ver": nil}},
		"a ver that is text":                   {claims: map[string]any{"ver": "3"}},
		"a ver with a fraction":                {claims: map[string]any{"ver": 3.5}},
		"a negative ver":                       {claims: map[string]any{"ver": -1}},
		"no epoch":                             {claims: map[string]any{"epoch": nil}},
		"a negative epoch":                     {claims: map[string]any{"epoch": -1}},
		"no bound":                             {claims: map[string]any{"bound": nil}},
		"a bound that is text":                 {claims: map[string]any{"bound": "true"}},
		"bound without a person":               {claims: map[string]any{"bound": true}},
		"a person without bound":               {claims: map[string]any{"person": person}},
		"a person that is not a uuid":          {claims: map[string]any{"bound": true, "person": "bob"}},
		"an external_id without bound":         {claims: map[string]any{"external_id": "1001"}},
		"an external_id that is a number":      {claims: map[string]any{"bound": true, "person": person, "external_id": 1001}},
		"an external_id that is empty":         {claims: map[string]any{"bound": true, "person": person, "external_id": ""}},
		"bound to a proof of possession":       {claims: map[string]any{"cnf": map[string]any{"jkt": "x"}}},
		"too many members":                     {claims: many(65 - len(goodClaims()))},
		"expired, of another issuer":           {claims: late(map[string]any{"iss": "https://evil.example"})},
		"expired, without an issuer":           {claims: late(map[string]any{"iss": nil})},
		"expired, for another audience":        {claims: late(map[string]any{"aud": "shop"})},
		"expired, without an audience":         {claims: late(map[string]any{"aud": nil})},
		"expired, without a session":           {claims: late(map[string]any{"sid": nil})},
		"expired, bound without a person":      {claims: late(map[string]any{"bound": true})},
		"expired, signed by a stranger":        {claims: late(map[string]any{}), sign: byEvil},
		"expired, of the wrong type":           {header: map[string]any{"typ": "JWT"}, claims: late(map[string]any{})},
		"a valid token over 12 KiB":            {claims: map[string]any{"pad": strings.Repeat("x", 12<<10)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, v, f.make(t), bearer.ErrInvalid)
		})
	}

	good := forgery{}.make(t)
	dots := strings.Split(good, ".")
	header, payload := `{"typ":"at+jwt","alg":"ES256","kid":"ec"}`, payloadOf(t, nil)
	other := strings.Split(forgery{claims: map[string]any{"ver": 4}}.make(t), ".")
	for name, s := range map[string]string{
		"nothing":                         "",
		"a dot":                           ".",
		"two dots":                        "..",
		"a thousand dots":                 strings.Repeat(".", 1000),
		"two segments":                    dots[0] + "." + dots[1],
		"four segments":                   good + "." + dots[2],
		"a dot at the end":                good + ".",
		"a dot in front":                  "." + good,
		"a character more":                good + "A",
		"padding":                         good + "==",
		"padding in the header":           dots[0] + "=." + dots[1] + "." + dots[2],
		"white space in front":            " " + good,
		"white space behind":              good + " ",
		"a line break behind":             good + "\n",
		"a line break in the signature":   good[:len(good)-5] + "\r\n" + good[len(good)-5:],
		"a line break in the header":      dots[0][:4] + "\n" + dots[0][4:] + "." + dots[1] + "." + dots[2],
		"NUL":                             good + "\x00",
		"a refresh token":                 "yfr_AQECAwQBkAAAAAB8AIAAAAAAAAABAAAAAcLULxpThw97YfEAs-wi8j0rubQ_",
		"a megabyte":                      strings.Repeat("A", 1<<20),
		"a header that is null":           raw(t, `null`, payload, nil),
		"a header that is a list":         raw(t, `[]`, payload, nil),
		"a header with alg twice":         raw(t, `{"alg":"none","typ":"at+jwt","alg":"ES256","kid":"ec"}`, payload, nil),
		"a header with kid twice":         raw(t, `{"typ":"at+jwt","alg":"ES256","kid":"gone","kid":"ec"}`, payload, nil),
		"a header with crit in disguise":  raw(t, `{"typ":"at+jwt","alg":"ES256","kid":"ec","\u0063rit":["b64"]}`, payload, nil),
		"a header of broken UTF-8":        raw(t, "{\"typ\":\"at+jwt\",\"alg\":\"ES256\",\"kid\":\"ec\xff\"}", payload, nil),
		"a header with something behind":  raw(t, header+`{}`, payload, nil),
		"claims that are null":            raw(t, header, `null`, nil),
		"claims that are a list":          raw(t, header, `[]`, nil),
		"claims that are text":            raw(t, header, `"x"`, nil),
		"claims with something behind":    raw(t, header, payload+` {}`, nil),
		"claims that are none":            raw(t, header, `{}`, nil),
		"claims with exp twice":           raw(t, header, payload[:len(payload)-1]+`,"exp":9999999999}`, nil),
		"claims with twins further down":  raw(t, header, payload[:len(payload)-1]+`,"x":[{"y":1,"z":2,"y":1}]}`, nil),
		"claims nested too deeply":        raw(t, header, payload[:len(payload)-1]+`,"x":[[[[[[[[[]]]]]]]]]}`, nil),
		"a header with twins inside":      raw(t, `{"typ":"at+jwt","alg":"ES256","kid":"ec","x":{"y":1,"y":1}}`, payload, nil),
		"claims with a twin in disguise":  raw(t, header, payload[:len(payload)-1]+`,"\u0073ub":"`+person+`"}`, nil),
		"claims of broken UTF-8":          raw(t, header, strings.Replace(payload, "wxdevelopment0001", "wx\xff", 1), nil),
		"a JWS in JSON":                   `{"payload":"` + dots[1] + `","protected":"` + dots[0] + `","signature":"` + dots[2] + `"}`,
		"the signature of another token":  dots[0] + "." + dots[1] + "." + other[2],
		"the claims of another token":     dots[0] + "." + other[1] + "." + dots[2],
		"claims nested without end":       raw(t, header, payload[:len(payload)-1]+`,"x":`+strings.Repeat("[", 2000)+`}`, nil),
		"claims with a null that matters": raw(t, header, strings.Replace(payload, `"ver":3`, `"ver":null`, 1), nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, v, s, bearer.ErrInvalid)
		})
	}
	t.Run("another character at any position of a cached token", func(t *testing.T) {
		t.Parallel()
		wantGood(t, v, good)
		for i := range len(good) {
			for _, c := range []byte{'A', '_', '=', '\n', good[i] ^ 1, good[i] ^ 0x20} {
				if c != good[i] {
					wantError(t, v, good[:i]+string([]byte{c})+good[i+1:], bearer.ErrInvalid)
				}
			}
		}
	})
	t.Run("the spare bits of the last character", func(t *testing.T) {
		t.Parallel()
		same := 0
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			s := good[:len(good)-1] + string(c)
			if s == good {
				continue
			}
			a, errA := base64.RawURLEncoding.DecodeString(strings.Split(s, ".")[2])
			b, errB := base64.RawURLEncoding.DecodeString(dots[2])
			if errA == nil && errB == nil && string(a) == string(b) {
				same++
			}
			wantError(t, v, s, bearer.ErrInvalid)
		}
		if same == 0 {
			t.Error("no spelling decodes to the same signature, so this test proves nothing")
		}
	})
	t.Run("a token of another issuer with the same keys", func(t *testing.T) {
		t.Parallel()
		wantError(t, local(t, func(l *bearer.Local) { l.Issuer = "https://other.example.com" }), good, bearer.ErrInvalid)
	})
	t.Run("any token, when there are no keys", func(t *testing.T) {
		t.Parallel()
		wantError(t, local(t, func(l *bearer.Local) { l.Keys = keyring{}.find }), good, bearer.ErrInvalid)
	})
}

func TestRemembered(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	token := forgery{}.make(t)
	t.Run("cutoffs are checked each time", func(t *testing.T) {
		t.Parallel()
		for name, c := range map[string]cutoff.Cutoff{
			"session": sessionCutoff(0),
			"ver":     sessionCutoff(4),
			"app":     {Kind: cutoff.KindApp, App: "wxdevelopment0001", Epoch: 3},
			"key":     {Kind: cutoff.KindKey, KID: "ec"},
		} {
			set := cutoff.NewSet()
			v := local(t, func(l *bearer.Local) { l.Cutoffs = set })
			wantGood(t, v, token)
			set.Add(sessionCutoff(3), now)
			wantGood(t, v, token)
			set.Add(c, now)
			if _, err := v.Verify(ctx, token); err == nil {
				t.Errorf("%s: the token is still accepted", name)
			}
			wantError(t, v, token, bearer.ErrRevoked)
		}
	})
	t.Run("staleness is checked each time", func(t *testing.T) {
		t.Parallel()
		age := time.Duration(0)
		v := local(t, func(l *bearer.Local) { l.Staleness = func() time.Duration { return age } })
		wantGood(t, v, token)
		age = bearer.DefaultMaxStaleness + 1
		wantError(t, v, token, bearer.ErrStale)
		age = 0
		wantGood(t, v, token)
	})
	t.Run("a token ends with its key, or when the kid names another key", func(t *testing.T) {
		t.Parallel()
		for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
			kid := map[string]string{"ES256": "ec", "EdDSA": "ed", "RS256": "rs"}[alg]
			ring := keyring{kid: keys[kid]}
			v := local(t, func(l *bearer.Local) { l.Keys = ring.find })
			token := forgery{header: map[string]any{"kid": kid, "alg": alg}, sign: signWith(t, jwt.GetSigningMethod(alg), keys[kid].private)}.make(t)
			wantGood(t, v, token)
			delete(ring, kid)
			wantError(t, v, token, bearer.ErrInvalid)
			ring[kid] = key{"ES256", stranger(t)}
			wantError(t, v, token, bearer.ErrInvalid)
			ring[kid] = keys[kid]
			wantGood(t, v, token)
		}
	})
	t.Run("only valid tokens are remembered, up to the bound in bytes", func(t *testing.T) {
		t.Parallel()
		v := local(t, func(l *bearer.Local) { l.TokenMemory = bearer.BucketBytes })
		wantError(t, v, forgery{claims: map[string]any{"iat": now.Unix() - 60, "exp": now.Unix()}}.make(t), bearer.ErrExpired)
		wantError(t, v, forgery{sign: signWith(t, jwt.SigningMethodES256, stranger(t))}.make(t), bearer.ErrInvalid)
		if n, _ := bearer.Remembered(v); n != 0 {
			t.Errorf("%d invalid tokens are remembered, want none", n)
		}
		for i := range 100 {
			token := forgery{claims: map[string]any{"ver": i}}.make(t)
			for range 2 {
				if c := wantGood(t, v, token); c.Ver != int64(i) {
					t.Fatalf("Verify() returned the claims of another token: %+v", c)
				}
			}
		}
		if n, size := bearer.Remembered(v); n != 8 || size != bearer.BucketBytes {
			t.Errorf("%d tokens are remembered in %d bytes, want 8 in %d", n, size, bearer.BucketBytes)
		}
	})
	t.Run("every byte of the hash counts", func(t *testing.T) {
		t.Parallel()
		v := local(t, nil)
		wantGood(t, v, token)
		for i := range sha256.Size {
			if bearer.Collides(v, token, i) {
				t.Errorf("a token whose hash differs in byte %d is taken for the remembered one", i)
			}
		}
	})
	t.Run("a negative bound remembers no tokens", func(t *testing.T) {
		t.Parallel()
		v := local(t, func(l *bearer.Local) { l.TokenMemory = -1 })
		wantGood(t, v, token)
		wantGood(t, v, token)
	})
}

func TestUnsafeAcceptExpired(t *testing.T) {
	t.Parallel()
	set := cutoff.NewSet()
	v := local(t, func(l *bearer.Local) { l.Cutoffs, l.UnsafeAcceptExpired = set, true })
	late := map[string]any{"iat": now.Unix() - 3600, "exp": now.Unix() - 3000}
	token := forgery{claims: late}.make(t)
	for range 2 { // the second time from the cache
		if c := wantGood(t, v, token); c.Session != session {
			t.Errorf("Verify() = %+v", c)
		}
	}
	wantError(t, v, forgery{claims: late, sign: signWith(t, jwt.SigningMethodES256, stranger(t))}.make(t), bearer.ErrInvalid)
	wantError(t, v, forgery{claims: map[string]any{"iat": now.Unix() - 3602, "exp": now.Unix() - 1}}.make(t), bearer.ErrInvalid)
	set.Add(sessionCutoff(0), now)
	wantError(t, v, token, bearer.ErrRevoked)
}

func TestNewLocal(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]bearer.Local{
		"no issuer":        {Keys: keys.find},
		"no keys":          {Issuer: issuer},
		"a negative bound": {Issuer: issuer, Keys: keys.find, MaxStaleness: -1},
	} {
		if v, err := bearer.NewLocal(l); v != nil || err == nil {
			t.Errorf("%s: NewLocal() = %v, %v, want an error", name, v, err)
		}
	}
	v, err := bearer.NewLocal(bearer.Local{Issuer: issuer, Keys: keys.find})
	if err != nil {
		t.Fatal(err)
	}
	wantGood(t, v, forgery{claims: map[string]any{"iat": time.Now().Unix(), "exp": time.Now().Unix() + 60}}.make(t))
	if err := v.Ready(); err != nil {
		t.Error(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
