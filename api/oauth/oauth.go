// Package oauth serves the OAuth endpoints: token, revocation, introspection, the
// metadata document and the JWK set.
//
// It owns the requests and answers of RFC 6749, 7009, 7662, 8414 and 7517. Each grant of
// the token endpoint is a file (codegrant.go, refreshgrant.go) and a row of grantTypes,
// which the metadata also lists.
// It does not own the use cases (pkg/session) or errors and forms (api/web).
// Its only state is the cache of introspection, which lasts for a minute, and the counts
// of [ExchangeLimits].
//
// While the database is away, introspection leaves out the data that it would have to
// read. While the published keys may include one that has leaked, the JWK set is
// [auth.StorageUnavailable].
package oauth

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Sessions are the use cases this package serves. Implemented by
// [session.Service].
type Sessions interface {
	Exchange(ctx context.Context, r session.ExchangeRequest) (session.Grant, error)
	Refresh(ctx context.Context, r session.RefreshRequest) (session.Grant, error)
	Revoke(ctx context.Context, r session.RevokeRequest) (auth.Subject, error)
}

// KeySet returns the published keys.
type KeySet interface {
	// JWKS returns the JWK set as prepared bytes, or nil while it may hold a key that has
	// leaked.
	JWKS() []byte
}

// Handler serves the endpoints.
type Handler struct {
	sessions Sessions
	keys     KeySet
	grants   []grantType
	metadata []byte
	// cacheControl is the Cache-Control of the metadata and the JWK set.
	cacheControl []string
}

// New returns the handler of an issuer. Any client may cache the JWK set and the
// metadata for maxAge, in whole seconds: at most the time for which the next signing
// key is published before its first use.
func New(issuer string, sessions Sessions, keys KeySet, limits *ExchangeLimits, maxAge time.Duration) *Handler {
	grants := grantTypes(sessions, limits)
	return &Handler{
		sessions: sessions, keys: keys, grants: grants, metadata: metadata(issuer, grants),
		cacheControl: []string{fmt.Sprintf("public, max-age=%d", int(maxAge.Seconds()))},
	}
}

// Mount adds the routes. The middlewares are for those that use the database; the
// documents are prepared.
func (h *Handler) Mount(r chi.Router, database ...func(http.Handler) http.Handler) {
	r.With(database...).Post("/oauth2/token", web.OAuth(h.token))
	r.With(database...).Post("/oauth2/revoke", web.OAuth(h.revoke))
	r.Get("/.well-known/oauth-authorization-server", h.serveMetadata)
	r.Get("/.well-known/openid-configuration", h.serveMetadata)
	r.Get("/.well-known/jwks.json", web.API(h.serveJWKS))
}
