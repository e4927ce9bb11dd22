package web

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// ServiceKeys identifies service keys. Implemented by [servicekey.Authenticator].
type ServiceKeys interface {
	Authenticate(ctx context.Context, presented auth.Secret) (servicekey.Key, error)
}

// Guard accepts requests whose service key has the required scope.
type Guard struct {
	keys ServiceKeys
}

// NewGuard returns the guard.
func NewGuard(keys ServiceKeys) *Guard { return &Guard{keys} }

// Authorize returns the service key of a request if the key has the scope. The
// key's id goes into the request's log line.
//
// Errors: [auth.ServiceKeyMissing], [auth.ServiceKeyInvalid],
// [auth.InsufficientScope], [auth.InvalidRequest] when the header is repeated or the key
// is in the URL, [auth.StorageUnavailable].
func (g *Guard) Authorize(r *http.Request, scope servicekey.Scope) (servicekey.Key, error) {
	event := EventOf(r.Context())
	presented, err := ServiceKey(r)
	if err != nil {
		return servicekey.Key{}, err
	}
	key, err := g.keys.Authenticate(r.Context(), presented)
	if err != nil {
		return servicekey.Key{}, err
	}
	event.Add(slog.String("service_key", key.ID))
	if err := RequireScope(r.Context(), &key, scope); err != nil {
		return servicekey.Key{}, err
	}
	return key, nil
}

// RequireScope returns [auth.InsufficientScope] unless the key has the scope. The
// challenge of the answer then names the scope.
func RequireScope(ctx context.Context, key *servicekey.Key, scope servicekey.Scope) error {
	EventOf(ctx).scope = scope
	if !key.Has(scope) {
		return &auth.Error{Code: auth.InsufficientScope, Description: "The service key needs the scope " + string(scope) + "."}
	}
	return nil
}

// ServiceKey returns the service key of a request, in one form however it was sent: as a
// bearer token, or as HTTP Basic with the key's id as the user name and the key or only
// its secret as the password (RFC 6749 §2.3.1).
//
// Errors: [auth.ServiceKeyMissing], [auth.ServiceKeyInvalid] when it is
// malformed, [auth.InvalidRequest] when the header is repeated or the key is in the URL.
func ServiceKey(r *http.Request) (auth.Secret, error) {
	if basicWasUsed(r) {
		header := r.Header.Values("Authorization")
		if len(header) > 1 {
			return "", auth.Invalid("The Authorization header is repeated.")
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
