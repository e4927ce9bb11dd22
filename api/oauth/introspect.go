package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/token"
)

// AccessTokens verifies access tokens by what this replica has in memory.
// [token.Verifier] is it, if it knows how old its cutoffs are.
type AccessTokens interface {
	// Verify returns the claims of a token that is good now. It does no I/O.
	//
	// Errors: [auth.TokenInvalid], [auth.TokenExpired], [auth.SessionRevoked],
	// and [auth.StorageUnavailable] when the cutoffs are too old to tell.
	Verify(ctx context.Context, accessToken string) (*token.Claims, error)
}

// ServiceKeys lets service keys pass where their scopes do. [web.Guard] is it.
type ServiceKeys interface {
	Authorize(r *http.Request) (servicekey.Key, error)
}

// Account is the platform account behind an identity.
type Account struct {
	OpenID string
	// UnionID is empty when the platform has not told it.
	UnionID string
}

// Accounts finds the platform accounts behind identities.
type Accounts interface {
	// PlatformAccount returns the openid and the unionid of an identity, the
	// latter empty when it is not known, or [auth.NotFound], also when it was
	// erased.
	PlatformAccount(ctx context.Context, identity uuid.UUID) (openID, unionID string, err error)
}

// Attributes finds what the business keeps about persons.
type Attributes interface {
	// Exposed returns those attributes of a person that the policy of the app
	// names, each as JSON; none is no error, nor is a person who is gone.
	Exposed(ctx context.Context, person uuid.UUID, appID string) (map[string]json.RawMessage, error)
}

// Introspection serves POST /oauth2/introspect (RFC 7662).
//
// What a token says is answered from memory. What a service key may see beyond
// that is read once for a session and a ver, and remembered for [Remembered].
type Introspection struct {
	keys       ServiceKeys
	tokens     AccessTokens
	accounts   *memo[Account]
	attributes *memo[map[string]json.RawMessage]
}

// NewIntrospection returns the handler. Attributes may be nil: then there are
// none. The caller closes it.
func NewIntrospection(keys ServiceKeys, tokens AccessTokens, accounts Accounts, attributes Attributes) *Introspection {
	h := &Introspection{keys: keys, tokens: tokens}
	h.accounts = newMemo(func(ctx context.Context, c *token.Claims) (Account, error) {
		openID, unionID, err := accounts.PlatformAccount(ctx, c.Subject)
		return Account{OpenID: openID, UnionID: unionID}, err
	})
	if attributes != nil {
		h.attributes = newMemo(func(ctx context.Context, c *token.Claims) (map[string]json.RawMessage, error) {
			return attributes.Exposed(ctx, *c.Person, c.ClientID)
		})
	}
	return h
}

// Close ends what the handler has running.
func (h *Introspection) Close() {
	h.accounts.close()
	h.attributes.close()
}

// Mount adds the route.
func (h *Introspection) Mount(r chi.Router) {
	r.Post("/oauth2/introspect", web.OAuth(h.introspect))
}

// activeToken is RFC 7662 §2.2 with the claims of our access tokens.
type activeToken struct {
	Active    bool     `json:"active"`
	TokenType string   `json:"token_type"`
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  []string `json:"aud"`
	ClientID  string   `json:"client_id"`
	IssuedAt  int64    `json:"iat"`
	ExpiresAt int64    `json:"exp"`
	ID        string   `json:"jti"`
	Session   string   `json:"sid"`
	Ver       int64    `json:"ver"`
	Epoch     int64    `json:"epoch"`
	Bound     bool     `json:"bound"`
	// Person is there only when bound.
	Person string `json:"person,omitempty"`
	// OpenID and UnionID are there only for the scope openid.
	OpenID  string `json:"openid,omitempty"`
	UnionID string `json:"unionid,omitempty"`
	// Attributes are there only when bound, and when the app exposes some.
	Attributes map[string]json.RawMessage `json:"attributes,omitempty"`
}

// inactiveToken is the whole of what is said of a token that is not active: why
// is nobody's business (RFC 7662 §2.2).
type inactiveToken struct {
	Active bool `json:"active"`
}

// introspect answers a back end about the token that somebody brought to it. A
// refresh token is not active: there is no back end that may accept one (§4).
// A token_type_hint is read past: the token's form tells.
func (h *Introspection) introspect(w http.ResponseWriter, r *http.Request) error {
	key, err := h.keys.Authorize(r)
	if err != nil {
		return err
	}
	form, err := web.ReadForm(w, r)
	if err != nil {
		return err
	}
	presented, err := form.Require("token")
	if err != nil {
		return err
	}
	answer, err := h.active(r.Context(), &key, presented)
	switch auth.CodeOf(err) {
	case "":
		return web.SecretJSON(w, http.StatusOK, answer)
	case auth.TokenInvalid, auth.TokenExpired, auth.SessionRevoked:
		web.EventOf(r.Context()).Add(slog.String("inactive", string(auth.CodeOf(err))))
		return web.SecretJSON(w, http.StatusOK, inactiveToken{})
	}
	return err
}

var errOtherApp = errors.New("oauth: the service key is restricted to other apps")

// active returns what the service key may know of a token, or why it is not
// active.
func (h *Introspection) active(ctx context.Context, key *servicekey.Key, presented string) (*activeToken, error) {
	c, err := h.tokens.Verify(ctx, presented)
	if err != nil {
		return nil, err
	}
	if key.Restricted() && !slices.Contains(key.Apps, c.ClientID) {
		return nil, &auth.Error{Code: auth.TokenInvalid, Err: errOtherApp}
	}
	answer := &activeToken{
		Active:    true,
		TokenType: "Bearer",
		Issuer:    c.Issuer,
		Subject:   c.Subject.String(),
		Audience:  c.Audience,
		ClientID:  c.ClientID,
		IssuedAt:  c.IssuedAt.Unix(),
		ExpiresAt: c.ExpiresAt.Unix(),
		ID:        c.ID,
		Session:   c.Session.String(),
		Ver:       c.Ver,
		Epoch:     c.Epoch,
		Bound:     c.Bound,
	}
	if c.Bound {
		answer.Person = c.Person.String()
	}
	if key.Has(servicekey.ScopeOpenID) {
		account, err := h.accounts.get(ctx, c)
		if errors.Is(err, auth.NotFound) {
			// It was erased a moment ago.
			return nil, &auth.Error{Code: auth.SessionRevoked, Err: err}
		}
		if err != nil {
			return nil, err
		}
		answer.OpenID, answer.UnionID = account.OpenID, account.UnionID
	}
	if h.attributes != nil && c.Bound {
		if answer.Attributes, err = h.attributes.get(ctx, c); err != nil {
			return nil, err
		}
	}
	web.EventOf(ctx).Add(
		slog.String("app", c.ClientID),
		slog.String("uuid", answer.Subject),
		slog.String("session", answer.Session),
	)
	return answer, nil
}
