package interop

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// expected is what a library requires of a token.
type expected struct {
	issuer, keys  string // addresses
	alg, audience string
	ahead         time.Duration // how far the library's clock is ahead
}

func (e expected) now() time.Time { return time.Now().Add(e.ahead) }

// library is a library that verifies access tokens with the JWK set.
type library struct {
	name string
	// verify returns the subject of the token.
	verify func(ctx context.Context, token string, want expected) (string, error)
	// These errors refuse a token.
	badSignature, wrongAudience, expired error
}

var libraries = []library{
	{"jwx", withJWX, jws.VerificationError(), jwxjwt.InvalidAudienceError(), jwxjwt.TokenExpiredError()},
	{"keyfunc", withKeyfunc, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenInvalidAudience, jwt.ErrTokenExpired},
	{"go-jose", withGoJOSE, jose.ErrCryptoFailure, josejwt.ErrInvalidAudience, josejwt.ErrExpired},
	{"zitadel", withZitadel, oidc.ErrSignatureInvalid, oidc.ErrAudience, oidc.ErrExpired},
}

func withJWX(ctx context.Context, token string, want expected) (string, error) {
	keys, err := jwk.Fetch(ctx, want.keys)
	if err != nil {
		return "", err
	}
	t, err := jwxjwt.ParseString(token, jwxjwt.WithKeySet(keys), jwxjwt.WithIssuer(want.issuer),
		jwxjwt.WithAudience(want.audience), jwxjwt.WithClock(jwxjwt.ClockFunc(want.now)))
	if err != nil {
		return "", err
	}
	sub, _ := t.Subject()
	return sub, nil
}

func withKeyfunc(ctx context.Context, token string, want expected) (string, error) {
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{want.keys})
	if err != nil {
		return "", err
	}
	t, err := jwt.Parse(token, keys.Keyfunc, jwt.WithValidMethods([]string{want.alg}), jwt.WithIssuer(want.issuer),
		jwt.WithAudience(want.audience), jwt.WithTimeFunc(want.now), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		return "", err
	}
	return t.Claims.GetSubject()
}

func withGoJOSE(_ context.Context, token string, want expected) (string, error) {
	resp, err := http.Get(want.keys)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&keys); err != nil {
		return "", err
	}
	t, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(want.alg)})
	if err != nil {
		return "", err
	}
	var claims josejwt.Claims
	if err := t.Claims(keys, &claims); err != nil {
		return "", err
	}
	return claims.Subject, claims.ValidateWithLeeway(josejwt.Expected{
		Issuer: want.issuer, AnyAudience: josejwt.Audience{want.audience}, Time: want.now(),
	}, 0)
}

// withZitadel verifies as zitadel/oidc does for access tokens, and then the audience. The
// library's rules for ID tokens do not fit: they require azp when there are two audiences.
func withZitadel(ctx context.Context, token string, want expected) (string, error) {
	v := op.NewAccessTokenVerifier(want.issuer, rp.NewRemoteKeySet(http.DefaultClient, want.keys), op.WithSupportedAccessTokenSigningAlgorithms(want.alg))
	v.Offset = want.ahead
	claims, err := op.VerifyAccessToken[*oidc.AccessTokenClaims](ctx, token, v)
	if err != nil {
		return "", err
	}
	return claims.Subject, oidc.CheckAudience(claims, want.audience)
}

// header returns the header of a token, which is not verified.
func header(t *testing.T, token string) jose.Header {
	t.Helper()
	parsed, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256})
	if err != nil {
		t.Fatalf("the token %q cannot be parsed: %v", token, err)
	}
	return parsed.Headers[0]
}

// forge changes one byte of the token's signature.
func forge(t *testing.T, token string) string {
	t.Helper()
	at := strings.LastIndex(token, ".") + 1
	signature, err := base64.RawURLEncoding.DecodeString(token[at:])
	if err != nil {
		t.Fatalf("the token's signature is %q: %v", token[at:], err)
	}
	signature[len(signature)/2] ^= 1
	return token[:at] + base64.RawURLEncoding.EncodeToString(signature)
}

func TestLibraries(t *testing.T) {
	t.Parallel()
	y := start(t)
	found, err := client.Discover(t.Context(), y.issuer, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	apps := map[string]string{"ES256": "wxes256", "EdDSA": "wxeddsa", "RS256": "wxrs256"} // algorithm → app
	for alg, app := range apps {
		body := fmt.Sprintf(`{"appid":%q,"app_secret":"a-secret","audiences":[%q],"signing_alg":%q}`, app, audience, alg)
		y.post(t, y.admin+"/admin/v1/apps", "application/json", body, new(any))
	}
	for alg, app := range apps {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			login := y.logIn(t, app, alg)
			if typ := header(t, login.Access).ExtraHeaders["typ"]; typ != "at+jwt" {
				t.Errorf("the token's typ is %v, want at+jwt", typ)
			}
			for _, lib := range libraries {
				t.Run(lib.name, func(t *testing.T) {
					verifyWith(t, lib, login, expected{issuer: y.issuer, keys: found.JwksURI, alg: alg, audience: audience})
				})
			}
			t.Run("zitadel refreshes, introspects and logs out", func(t *testing.T) { introspect(t, y, app, login) })
		})
	}
}

// verifyWith tests what a library does with a token and with tokens that it must refuse.
func verifyWith(t *testing.T, lib library, login tokens, want expected) {
	t.Helper()
	other, later := want, want
	other.audience, later.ahead = "https://other.example.com", time.Hour
	for _, c := range []struct {
		name, token string
		want        expected
		err         error
	}{
		{"accepts the token", login.Access, want, nil},
		{"refuses a signature with one changed byte", forge(t, login.Access), want, lib.badSignature},
		{"refuses the token of another audience", login.Access, other, lib.wrongAudience},
		{"refuses an expired token", login.Access, later, lib.expired},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub, err := lib.verify(t.Context(), c.token, c.want)
			if !errors.Is(err, c.err) {
				t.Errorf("verify() error = %v, want %v", err, c.err)
			}
			if c.err == nil && sub != login.UUID {
				t.Errorf("the token's subject is %q, want %q", sub, login.UUID)
			}
		})
	}
}

// introspect tests a session of a client, which finds the endpoints by discovery, and a back
// end that introspects its tokens with a service key.
func introspect(t *testing.T, y *yufu, app string, login tokens) {
	t.Helper()
	party, err := rp.NewRelyingPartyOIDC(t.Context(), y.issuer, app, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	id, secret, _ := strings.Cut(strings.TrimPrefix(y.serviceKey, "yfk_"), "_")
	backEnd, err := rs.NewResourceServerClientCredentials(t.Context(), y.issuer, id, secret)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(token string) *oidc.IntrospectionResponse {
		t.Helper()
		a, err := rs.Introspect[*oidc.IntrospectionResponse](t.Context(), backEnd, token)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}

	next, err := rp.RefreshTokens[*oidc.IDTokenClaims](t.Context(), party, login.Refresh, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if next.AccessToken == login.Access || next.RefreshToken == login.Refresh || time.Until(next.Expiry) <= 0 {
		t.Errorf("the refresh returns old tokens, or a token that expires at %s", next.Expiry)
	}
	a := ask(next.AccessToken)
	if !a.Active || a.Subject != login.UUID || a.Issuer != y.issuer || a.ClientID != app || a.TokenType != oidc.BearerToken || !a.Expiration.AsTime().After(time.Now()) || !slices.Contains(a.Audience, audience) {
		t.Errorf("the introspection of a valid token answers %+v", a)
	}
	if a := ask(forge(t, next.AccessToken)); a.Active {
		t.Errorf("the introspection of a forged token answers %+v, want inactive", a)
	}
	if err := rp.RevokeToken(t.Context(), party, next.RefreshToken, "refresh_token"); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"first": login.Access, "refreshed": next.AccessToken} {
		if a := ask(token); a.Active {
			t.Errorf("after the log-out the introspection of the %s token answers %+v, want inactive", name, a)
		}
	}
}
