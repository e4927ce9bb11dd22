package token_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"

	"github.com/yufu-auth/yufu/pkg/bearer"
)

// secondOpinion verifies an access token with go-jose, which shares no code with our
// verifier, not even the JSON decoder.
func secondOpinion(raw string, keys keySet) error {
	t, err := josejwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256})
	if err != nil {
		return err
	}
	header := t.Headers[0]
	key, alg, ok := keys.VerificationKey(header.KeyID)
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); !ok || alg != header.Algorithm || !slices.Contains([]string{"at+jwt", "application/at+jwt"}, strings.ToLower(typ)) {
		return errors.New("another type, key or algorithm")
	}
	var claims josejwt.Claims
	var all map[string]any
	if err := t.Claims(key, &claims, &all); err != nil {
		return err
	}
	if claims.Expiry == nil || claims.Subject == "" || claims.ID == "" || claims.IssuedAt == nil {
		return errors.New("a claim is missing")
	}
	// Clocks differ, so a token may come from a minute ahead; go-jose would apply its
	// leeway to the expiry too.
	if ahead := claims.IssuedAt.Time().Sub(now); ahead > 0 && ahead <= time.Minute {
		claims.IssuedAt = nil
	}
	return claims.ValidateWithLeeway(josejwt.Expected{Issuer: issuer, AnyAudience: josejwt.Audience{issuer}, Time: now}, 0)
}

// heldAgainst fails the test when our verifier accepts a token that go-jose refuses.
func heldAgainst(t *testing.T, v *bearer.Verifier, raw string) {
	t.Helper()
	if c, err := v.Verify(t.Context(), raw); err == nil {
		if err := secondOpinion(raw, ecOnly()); err != nil {
			t.Fatalf("%q is accepted as %+v; go-jose: %v", raw, c, err)
		}
	}
}

func bearerVerifier(t testing.TB) *bearer.Verifier {
	t.Helper()
	v, err := bearer.NewLocal(bearer.Local{Issuer: issuer, Keys: ecOnly().VerificationKey, Clock: at(now)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSecondOpinion(t *testing.T) {
	t.Parallel()
	v := bearerVerifier(t)
	raw, _, err := minter(t, 10*time.Minute).Mint(boundSession(), []string{"orders"}, "", now)
	if err != nil {
		t.Fatal(err)
	}
	// Otherwise the fuzz targets prove nothing.
	for _, s := range []string{raw.Reveal(), forgery{}.make(t)} {
		if _, err := v.Verify(t.Context(), s); err != nil {
			t.Errorf("pkg/bearer: error = %v", err)
		}
		if err := secondOpinion(s, ecOnly()); err != nil {
			t.Errorf("go-jose: error = %v", err)
		}
	}
}

// FuzzVerifyAgainstGoJose checks for arbitrary bytes that nothing is accepted that
// go-jose refuses.
func FuzzVerifyAgainstGoJose(f *testing.F) {
	v := bearerVerifier(f)
	f.Add(forgery{}.make(f))
	f.Add(forgery{}.make(f) + "\n")
	f.Add(forgery{header: map[string]any{"alg": "none"}, sign: func(string) []byte { return nil }}.make(f))
	f.Fuzz(func(t *testing.T, raw string) { heldAgainst(t, v, raw) })
}

// FuzzSignedAgainstGoJose checks the same for headers and claims with a valid signature.
func FuzzSignedAgainstGoJose(f *testing.F) {
	v := bearerVerifier(f)
	const header = `{"typ":"at+jwt","alg":"ES256","kid":"ec"}`
	claims := fmt.Sprintf(`{"iss":%q,"aud":[%q,"orders"],"client_id":"wx","sub":"01900000-0000-7c00-8000-00000000000b","sid":"01900000-0000-7c00-8000-00000000000a","iat":%d,"exp":%d,"jti":"J","ver":3,"epoch":2,"bound":false`,
		issuer, issuer, now.Unix(), now.Add(10*time.Minute).Unix())
	for _, more := range []string{
		`}`, `,"x":{"y":[1,"}"]}}`, `,"sub":"01900000-0000-7c00-8000-00000000000c"}`, `,"SUB":1}`, `,"x":1,"x":2}`, `,"x":{"y":1,"y":2}}`, `,"nbf":1}`, `,"x":"` + "\xff" + `"}`,
	} {
		f.Add(header, claims+more)
	}
	f.Add(`{"typ":"at+jwt","alg":"ES256","kid":"ec","kid":"ec"}`, claims+"}")
	f.Add(`{"typ":"at+jwt","alg":"ES256","kid":"ec","b64":false,"crit":["b64"]}`, claims+"}")
	f.Add(`{"typ":"at+jwt","alg":"ES256","kid":"ec","b64":false}`, claims+"}")
	f.Add(`{"typ":"at+jwt","alg":"ES256","kid":"ec","jwk":{"kty":"EC"},"x":[{"y":1,"y":2}]}`, claims+"}")
	f.Fuzz(func(t *testing.T, header, payload string) {
		// go-jose wants a nonce to be text, wherever it comes (RFC 8555 §6.5.2); to a
		// JWT it is any member.
		if strings.Contains(header, "nonce") {
			return
		}
		heldAgainst(t, v, rawToken(t, header, payload))
	})
}
