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

// AccessTokens verifies access tokens from the memory of this replica. Implemented by
// a [token.Verifier] that has a staleness bound.
type AccessTokens interface {
	// Verify returns the claims of a token that is valid now. It does no I/O.
	//
	// Errors: [auth.TokenInvalid], [auth.TokenExpired], [auth.SessionRevoked],
	// and [auth.StorageUnavailable] when the cutoffs are too old to decide.
	Verify(ctx context.Context, accessToken string) (*token.Claims, error)
}

// ServiceKeys authorises requests by their service keys. Implemented by [web.Guard].
type ServiceKeys interface {
	Authorize(r *http.Request, scope servicekey.Scope) (servicekey.Key, error)
}

// Accounts finds the platform accounts behind identities.
type Accounts interface {
	// PlatformAccount returns the platform account of an identity. The error is
	// [auth.NotFound] for an unknown or erased identity.
	PlatformAccount(ctx context.Context, identity uuid.UUID) (auth.PlatformAccount, error)
}

// Attributes finds the business's data about persons.
type Attributes interface {
	// ExposedAttributes returns the attributes of a person that have these names, each as
	// JSON. Missing attributes and a missing person are no error.
	ExposedAttributes(ctx context.Context, person uuid.UUID, names []string) (map[string]json.RawMessage, error)
	// ExternalID returns the business's own id of a person, or "" if the person no
	// longer exists.
	ExternalID(ctx context.Context, person uuid.UUID) (string, error)
}

// Apps returns the registered apps from memory. Implemented by [app.Directory].
type Apps interface {
	// App returns an app. Errors: [auth.AppUnknown], and [auth.StorageUnavailable]
	// when the data in memory is too old.
	App(appID string) (auth.App, error)
	// Answering reports whether the database answers.
	Answering() bool
}

// Introspection serves POST /oauth2/introspect (RFC 7662).
//
// The claims of a token, and the names of the attributes that its app exposes, come
// from memory. Further data for the service key is read once for a session and a ver,
// and remembered for [CacheTTL]. Data that cannot be read is left out of the answer. A
// database that is known to be unavailable is not asked; other reads take at most
// readTimeout.
type Introspection struct {
	keys       ServiceKeys
	tokens     AccessTokens
	apps       Apps
	accounts   *readCache[auth.PlatformAccount]
	attributes *readCache[map[string]json.RawMessage]
	// externalIDs are the external ids that the app's policy keeps out of tokens.
	externalIDs *readCache[string]
}

// NewIntrospection returns the handler. The caller closes it.
func NewIntrospection(keys ServiceKeys, tokens AccessTokens, apps Apps, accounts Accounts, attributes Attributes) *Introspection {
	return &Introspection{
		keys: keys, tokens: tokens, apps: apps,
		accounts: newReadCache(apps.Answering, func(ctx context.Context, c *token.Claims) (auth.PlatformAccount, error) {
			return accounts.PlatformAccount(ctx, c.Subject)
		}),
		attributes: newReadCache(apps.Answering, func(ctx context.Context, c *token.Claims) (map[string]json.RawMessage, error) {
			a, err := apps.App(c.ClientID)
			if err != nil {
				return nil, err
			}
			return attributes.ExposedAttributes(ctx, *c.Person, a.Policy.Attributes)
		}),
		externalIDs: newReadCache(apps.Answering, func(ctx context.Context, c *token.Claims) (string, error) {
			return attributes.ExternalID(ctx, *c.Person)
		}),
	}
}

// Close stops the goroutines of the handler.
func (h *Introspection) Close() {
	h.accounts.close()
	h.attributes.close()
	h.externalIDs.close()
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
	// Person is set only when bound.
	Person string `json:"person,omitempty"`
	// ExternalID is the business's own id of the person. It comes from the token, or
	// from the database where the app's policy keeps it out of tokens.
	ExternalID string `json:"external_id,omitempty"`
	// OpenID and UnionID are set only for the scope openid. Then OpenID is missing
	// only when the account has no openid or the database is unavailable.
	OpenID  string `json:"openid,omitempty"`
	UnionID string `json:"unionid,omitempty"`
	// Attributes is set only when bound, and when the app exposes some. Then it may be
	// empty, and is missing only when the database is unavailable.
	Attributes map[string]json.RawMessage `json:"attributes,omitzero"`
}

// inactiveToken is the whole answer for a token that is not active. It does not say
// why (RFC 7662 §2.2).
type inactiveToken struct {
	Active bool `json:"active"`
}

// introspect answers a back end about a token that a client presented to it. A refresh
// token is not active, because no back end may accept one (§4). token_type_hint is
// ignored; the token's format identifies it.
func (h *Introspection) introspect(w http.ResponseWriter, r *http.Request) error {
	key, err := h.keys.Authorize(r, servicekey.ScopeService)
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
		event := web.EventOf(r.Context())
		event.Add(slog.String("inactive", string(auth.CodeOf(err))))
		event.AddSubject(auth.SubjectOf(err))
		return web.SecretJSON(w, http.StatusOK, inactiveToken{})
	}
	return err
}

var errOtherApp = errors.New("oauth: the service key is restricted to other apps")

// active returns the answer of an active token for the service key, or the error that
// says why it is not active.
func (h *Introspection) active(ctx context.Context, key *servicekey.Key, presented string) (*activeToken, error) {
	c, err := h.tokens.Verify(ctx, presented)
	if err != nil {
		return nil, err
	}
	user, session, event := c.Subject.String(), c.Session.String(), web.EventOf(ctx)
	event.Add(slog.String("app", c.ClientID), slog.String("uuid", user), slog.String("session", session))
	if key.Restricted() && !slices.Contains(key.Apps, c.ClientID) {
		return nil, &auth.Error{Code: auth.TokenInvalid, Err: errOtherApp}
	}
	answer := &activeToken{
		Active:    true,
		TokenType: "Bearer",
		Issuer:    c.Issuer,
		Subject:   user,
		Audience:  c.Audience,
		ClientID:  c.ClientID,
		IssuedAt:  c.IssuedAt.Unix(),
		ExpiresAt: c.ExpiresAt.Unix(),
		ID:        c.ID,
		Session:   session,
		Ver:       c.Ver,
		Epoch:     c.Epoch,
		Bound:     c.Bound,
	}
	if c.Bound {
		answer.Person = c.Person.String()
	}
	var leftOut []string
	if key.Has(servicekey.ScopeOpenID) {
		account, err := h.accounts.get(ctx, c)
		switch {
		case errors.Is(err, auth.NotFound):
			// The identity was erased a moment ago.
			return nil, &auth.Error{Code: auth.SessionRevoked, Err: err}
		case errors.Is(err, auth.StorageUnavailable):
			leftOut = append(leftOut, "openid", "unionid")
		case err != nil:
			return nil, err
		}
		answer.OpenID, answer.UnionID = account.OpenID(), account.UnionID
	}
	if answer.ExternalID = c.ExternalID; c.Bound && c.ExternalID == "" {
		answer.ExternalID, err = h.externalIDs.get(ctx, c)
		switch {
		case errors.Is(err, auth.StorageUnavailable):
			leftOut = append(leftOut, "external_id")
		case err != nil:
			return nil, err
		}
	}
	if c.Bound {
		answer.Attributes, err = h.exposed(ctx, c)
		switch {
		case errors.Is(err, auth.StorageUnavailable):
			leftOut = append(leftOut, "attributes")
		case err != nil:
			return nil, err
		}
	}
	if leftOut != nil {
		event.Add(slog.Any("left_out", leftOut))
	}
	event.Routine = leftOut == nil
	return answer, nil
}

// exposed returns the attributes that the app of a bound token exposes: nil when
// the app exposes none, empty when the person has no such attribute.
//
// Errors: [auth.StorageUnavailable] when the attributes are not known.
func (h *Introspection) exposed(ctx context.Context, c *token.Claims) (map[string]json.RawMessage, error) {
	a, err := h.apps.App(c.ClientID)
	if errors.Is(err, auth.AppUnknown) {
		// The app was registered a moment ago. The next read of the apps finds it.
		return nil, &auth.Error{Code: auth.StorageUnavailable, Err: err}
	}
	if err != nil || len(a.Policy.Attributes) == 0 {
		return nil, err
	}
	known, err := h.attributes.get(ctx, c)
	if err != nil {
		return nil, err
	}
	// The policy may have changed since they were read.
	exposed := make(map[string]json.RawMessage, len(known))
	for _, name := range a.Policy.Attributes {
		if value, ok := known[name]; ok {
			exposed[name] = value
		}
	}
	return exposed, nil
}
