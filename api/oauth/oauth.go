// Package oauth is the OAuth face of the service: the token endpoint with its
// two grants, revocation, introspection, the metadata document and the JWK set.
//
// It owns what stands in the RFCs (6749, 7009, 7662, 8414, 7517) about requests
// and answers. The use cases behind it are pkg/session's, errors and forms
// api/web's. Its only state is what introspection remembers for a minute, and the
// counts of [ExchangeLimits].
package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/session"
)

// The grants of the token endpoint.
const (
	// GrantMiniProgramCode is an extension grant (RFC 6749 §4.5): the code of
	// wx.login for tokens.
	GrantMiniProgramCode = "urn:yufu:grant-type:mini-program-code"
	// GrantRefreshToken is RFC 6749 §6.
	GrantRefreshToken = "refresh_token"
)

// Sessions are the use cases this package serves. [session.Service] is them.
type Sessions interface {
	Exchange(ctx context.Context, r session.ExchangeRequest) (session.Grant, error)
	Refresh(ctx context.Context, r session.RefreshRequest) (session.Grant, error)
	Revoke(ctx context.Context, r session.RevokeRequest) (auth.Subject, error)
}

// KeySet is the published keys.
type KeySet interface {
	// JWKS returns the JWK set as prepared bytes, or nil while it may hold a key that has
	// leaked.
	JWKS() []byte
}

// Handler serves the endpoints.
type Handler struct {
	sessions Sessions
	keys     KeySet
	limits   *ExchangeLimits
	metadata []byte
	// cache is what the documents say of keeping copies of them.
	cache string
}

// New returns the handler of the given issuer. Nil limits are none. Anyone may
// keep a copy of the JWK set and the metadata for maxAge, in whole seconds: the
// time that the next signing key is published before its first use, at least.
func New(issuer string, sessions Sessions, keys KeySet, limits *ExchangeLimits, maxAge time.Duration) *Handler {
	return &Handler{
		sessions: sessions, keys: keys, limits: limits, metadata: metadata(issuer),
		cache: fmt.Sprintf("public, max-age=%d", int(maxAge.Seconds())),
	}
}

// Mount adds the routes.
func (h *Handler) Mount(r chi.Router) {
	r.Post("/oauth2/token", web.OAuth(h.token))
	r.Post("/oauth2/revoke", web.OAuth(h.revoke))
	r.Get("/.well-known/oauth-authorization-server", h.serveMetadata)
	r.Get("/.well-known/openid-configuration", h.serveMetadata)
	r.Get("/.well-known/jwks.json", web.API(h.serveJWKS))
}

// tokenAnswer is RFC 6749 §5.1 with the two lifetimes of the
// refresh-token-expiration draft and what a mini-program needs at once.
type tokenAnswer struct {
	AccessToken            string    `json:"access_token"`
	TokenType              string    `json:"token_type"`
	ExpiresIn              int       `json:"expires_in"`
	RefreshToken           string    `json:"refresh_token"`
	RefreshTokenTimeout    int       `json:"refresh_token_timeout"`
	AuthorizationExpiresIn int       `json:"authorization_expires_in"`
	UUID                   uuid.UUID `json:"uuid"`
	Bound                  bool      `json:"bound"`
	// Person is null while unbound.
	Person *web.Person `json:"person"`
}

func (h *Handler) token(w http.ResponseWriter, r *http.Request) error {
	form, err := web.ReadForm(w, r)
	if err != nil {
		return err
	}
	grantType, err := form.Require("grant_type")
	if err != nil {
		return err
	}
	event := web.EventOf(r.Context())
	var grant session.Grant
	switch grantType {
	case GrantMiniProgramCode:
		event.Grant = "code"
		grant, err = h.exchange(r, form)
		event.Outcome = "started"
	case GrantRefreshToken:
		event.Grant = "refresh"
		grant, err = h.refresh(r, form)
		event.Outcome = grant.Verdict.String()
	default:
		return auth.UnsupportedGrantType
	}
	if err != nil {
		event.Outcome = outcomeOf(err)
		return err
	}
	event.AddSubject(grant.Session.Subject())
	return web.SecretJSON(w, http.StatusOK, tokenAnswer{
		AccessToken:            grant.AccessToken.Reveal(),
		TokenType:              "Bearer",
		ExpiresIn:              grant.ExpiresIn,
		RefreshToken:           grant.RefreshToken.Reveal(),
		RefreshTokenTimeout:    grant.RefreshTokenTimeout,
		AuthorizationExpiresIn: grant.AuthorizationExpiresIn,
		UUID:                   grant.Session.Identity,
		Bound:                  grant.Session.Bound(),
		Person:                 web.PersonOf(&grant.Session),
	})
}

func (h *Handler) exchange(r *http.Request, form web.Form) (session.Grant, error) {
	clientID, err := web.PublicClient(r, form)
	if err != nil {
		return session.Grant{}, err
	}
	code, err := form.Require("code")
	if err != nil {
		return session.Grant{}, err
	}
	client := web.ClientAddr(r.Context())
	limited := h.limits.begin(client, clientID)
	if err := limited.check(); err != nil {
		return session.Grant{}, err
	}
	ctx := platform.WithCaller(r.Context(), web.Network(client).String())
	ctx = platform.WithCheck(ctx, limited.take)
	grant, err := h.sessions.Exchange(ctx, session.ExchangeRequest{
		ClientID:  clientID,
		Code:      auth.Secret(code),
		Device:    form["device"],
		RequestID: web.EventOf(r.Context()).RequestID,
	})
	limited.settle(err)
	switch auth.CodeOf(err) {
	case auth.CodeInvalid, auth.CodeUsed, auth.UserBlocked,
		auth.PlatformQuota, auth.PlatformUnavailable, auth.PlatformMisconfigured:
		// Which app has trouble with its platform. Before the platform was
		// asked, a client_id may be anything, a code in the wrong place too.
		web.EventOf(r.Context()).Add(slog.String("app", clientID))
	}
	return grant, err
}

// outcomeOf names why a token request failed: its code, and for a refresh token
// that was used before, whether it came late or long after.
func outcomeOf(err error) string {
	switch {
	case errors.Is(err, session.ErrReplayLate):
		return session.ReplayLate.String()
	case errors.Is(err, session.ErrReuse):
		return session.Reuse.String()
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return string(auth.CodeOf(err))
}

func (h *Handler) refresh(r *http.Request, form web.Form) (session.Grant, error) {
	clientID, err := web.PublicClient(r, form)
	if err != nil {
		return session.Grant{}, err
	}
	token, err := form.Require("refresh_token")
	if err != nil {
		return session.Grant{}, err
	}
	return h.sessions.Refresh(r.Context(), session.RefreshRequest{
		ClientID:     clientID,
		RefreshToken: auth.Secret(token),
		RequestID:    web.EventOf(r.Context()).RequestID,
	})
}

// revoke is RFC 7009. A token_type_hint is read past: the token's form tells.
func (h *Handler) revoke(w http.ResponseWriter, r *http.Request) error {
	form, err := web.ReadForm(w, r)
	if err != nil {
		return err
	}
	clientID, err := web.PublicClient(r, form)
	if err != nil {
		return err
	}
	token, err := form.Require("token")
	if err != nil {
		return err
	}
	whose, err := h.sessions.Revoke(r.Context(), session.RevokeRequest{
		ClientID:  clientID,
		Token:     auth.Secret(token),
		RequestID: web.EventOf(r.Context()).RequestID,
	})
	if err != nil {
		return err
	}
	web.EventOf(r.Context()).AddSubject(whose)
	return web.SecretJSON(w, http.StatusOK, struct{}{})
}

// metadataDocument is RFC 8414. There is no authorization endpoint, so there is
// no response type to list, and an array without elements must be omitted
// (§3.2), although response_types_supported is required (§2): the stock clients
// that we test with (openid-client, oauth4webapi, go-oidc) read a document
// without it, and a response type that does not work would mislead people.
//
// There are no ID tokens. Software that checks access tokens as if they were ID
// tokens (go-oidc, and oauth2-proxy on top of it) takes the algorithms from
// id_token_signing_alg_values_supported (OpenID Connect Discovery 1.0 §3), and
// accepts only RS256 without it.
type metadataDocument struct {
	Issuer                string   `json:"issuer"`
	TokenEndpoint         string   `json:"token_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	GrantTypes            []string `json:"grant_types_supported"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	RevocationAuthMethods []string `json:"revocation_endpoint_auth_methods_supported"`

	IntrospectionEndpoint    string   `json:"introspection_endpoint"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`

	SigningAlgs []string `json:"id_token_signing_alg_values_supported"`
}

func metadata(issuer string) []byte {
	b, err := json.Marshal(metadataDocument{
		Issuer:                issuer,
		TokenEndpoint:         issuer + "/oauth2/token",
		JWKSURI:               issuer + "/.well-known/jwks.json",
		GrantTypes:            []string{GrantMiniProgramCode, GrantRefreshToken},
		TokenAuthMethods:      []string{"none"},
		RevocationEndpoint:    issuer + "/oauth2/revoke",
		RevocationAuthMethods: []string{"none"},

		IntrospectionEndpoint: issuer + "/oauth2/introspect",
		// A service key, in either form (RFC 8414 §2: methods of the token
		// endpoint's registry, or types of access tokens).
		IntrospectionAuthMethods: []string{"client_secret_basic", "Bearer"},
		SigningAlgs:              auth.SigningAlgs(),
	})
	if err != nil {
		panic(err) // strings always encode
	}
	return b
}

func (h *Handler) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	h.writePublic(w, h.metadata)
}

func (h *Handler) serveJWKS(w http.ResponseWriter, _ *http.Request) error {
	set := h.keys.JWKS()
	if set == nil {
		return auth.StorageUnavailable
	}
	h.writePublic(w, set)
	return nil
}

// writePublic writes a document that anyone may keep a copy of.
func (h *Handler) writePublic(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", h.cache)
	_, _ = w.Write(body) // the client may be gone; nobody is left to tell
}
