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
	"fmt"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
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
