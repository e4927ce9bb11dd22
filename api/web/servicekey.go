package web

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// Scopes is the one table that says which scope of a service key opens an
// endpoint. An endpoint without a row is open to no service key. A test holds
// it against the contract.
var Scopes = map[string]servicekey.Scope{
	"POST /oauth2/introspect": servicekey.ScopeService,
	"GET /v1/revocations":     servicekey.ScopeService,

	"POST /admin/v1/revocations":         servicekey.ScopeAdmin,
	"GET /admin/v1/service-keys":         servicekey.ScopeRead,
	"POST /admin/v1/service-keys":        servicekey.ScopeAdmin,
	"DELETE /admin/v1/service-keys/{id}": servicekey.ScopeAdmin,
	"PATCH /admin/v1/service-keys/{id}":  servicekey.ScopeAdmin,

	"GET /admin/v1/signing-keys":               servicekey.ScopeRead,
	"POST /admin/v1/signing-keys/rotate":       servicekey.ScopeAdmin,
	"POST /admin/v1/signing-keys/{kid}/retire": servicekey.ScopeAdmin,

	"GET /admin/v1/persons":                    servicekey.ScopeRead,
	"POST /admin/v1/persons":                   servicekey.ScopeAdmin,
	"POST /admin/v1/persons/import":            servicekey.ScopeAdmin,
	"GET /admin/v1/persons/{id}":               servicekey.ScopeRead,
	"PATCH /admin/v1/persons/{id}":             servicekey.ScopeAdmin,
	"POST /admin/v1/persons/{id}/disable":      servicekey.ScopeAdmin,
	"POST /admin/v1/persons/{id}/enable":       servicekey.ScopeAdmin,
	"POST /admin/v1/persons/{id}/bind-tickets": servicekey.ScopeAdmin,

	"GET /admin/v1/identities":                 servicekey.ScopeRead,
	"GET /admin/v1/identities/{uuid}":          servicekey.ScopeRead,
	"DELETE /admin/v1/identities/{uuid}":       servicekey.ScopeAdmin,
	"POST /admin/v1/identities/{uuid}/disable": servicekey.ScopeAdmin,
	"POST /admin/v1/identities/{uuid}/enable":  servicekey.ScopeAdmin,
	"POST /admin/v1/identities/{uuid}/bind":    servicekey.ScopeAdmin,
	"POST /admin/v1/identities/{uuid}/unbind":  servicekey.ScopeAdmin,
	"GET /admin/v1/identities/{uuid}/sessions": servicekey.ScopeRead,
	"GET /admin/v1/sessions/{id}":              servicekey.ScopeRead,
	"DELETE /admin/v1/sessions/{id}":           servicekey.ScopeAdmin,

	"GET /admin/v1/apps":                   servicekey.ScopeRead,
	"GET /admin/v1/apps/{appid}":           servicekey.ScopeRead,
	"PATCH /admin/v1/apps/{appid}":         servicekey.ScopeAdmin,
	"GET /admin/v1/binding-delays":         servicekey.ScopeRead,
	"DELETE /admin/v1/binding-delays/{id}": servicekey.ScopeAdmin,
}

// scopeOf returns the scope that the request's endpoint needs, or "". The
// request has been routed.
func scopeOf(r *http.Request) servicekey.Scope {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	route := chi.RouteContext(r.Context())
	if route == nil {
		return ""
	}
	return Scopes[method+" "+route.RoutePattern()]
}

// ServiceKeys finds out whose service key it is. servicekey.Authenticator is
// it.
type ServiceKeys interface {
	Authenticate(ctx context.Context, presented auth.Secret) (servicekey.Key, error)
}

// Guard lets service keys pass where their scopes do.
type Guard struct {
	keys ServiceKeys
}

// NewGuard returns the guard.
func NewGuard(keys ServiceKeys) *Guard { return &Guard{keys} }

// Authorize returns the service key of a request, if it has the scope that the
// request's endpoint needs. The key's id goes into the request's log line.
//
// Errors: [auth.ServiceKeyMissing], [auth.ServiceKeyInvalid],
// [auth.InsufficientScope], [auth.InvalidRequest] when it is sent in two ways
// at once, [auth.StorageUnavailable].
func (g *Guard) Authorize(r *http.Request) (servicekey.Key, error) {
	presented, err := ServiceKey(r)
	if err != nil {
		return servicekey.Key{}, err
	}
	key, err := g.keys.Authenticate(r.Context(), presented)
	if err != nil {
		return servicekey.Key{}, err
	}
	EventOf(r.Context()).Add(slog.String("service_key", key.ID))
	scope := scopeOf(r)
	if scope == "" {
		return servicekey.Key{}, auth.InsufficientScope
	}
	if !key.Has(scope) {
		return servicekey.Key{}, &auth.Error{Code: auth.InsufficientScope, Description: "It needs the scope " + string(scope) + "."}
	}
	return key, nil
}

// ServiceKey returns the service key that a request presents, in its one form:
// as a bearer token, or as HTTP Basic with the key's id and, for the password,
// the key or its secret alone (RFC 6749 §2.3.1).
//
// Errors: [auth.ServiceKeyMissing], [auth.ServiceKeyInvalid] when it is
// malformed, [auth.InvalidRequest] when it is sent in two ways at once.
func ServiceKey(r *http.Request) (auth.Secret, error) {
	if basicWasUsed(r) {
		header := r.Header.Values("Authorization")
		if len(header) > 1 {
			return "", auth.Invalid("There are two Authorization headers.")
		}
		id, secret, ok := parseBasic(header)
		if !ok {
			return "", auth.ServiceKeyInvalid
		}
		if whole, err := servicekey.Parse(auth.Secret(secret)); err == nil && whole.ID == id {
			return whole.Key(), nil
		}
		p, err := servicekey.New(id, auth.Secret(secret))
		return p.Key(), err
	}
	token, err := BearerToken(r)
	if auth.CodeOf(err) == auth.TokenMissing {
		return "", auth.ServiceKeyMissing
	}
	return token, err
}

func basicWasUsed(r *http.Request) bool {
	header := r.Header.Get("Authorization")
	return len(header) >= len("basic ") && strings.EqualFold(header[:len("basic ")], "basic ")
}
