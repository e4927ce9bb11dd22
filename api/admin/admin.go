package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Revoker ends sessions. Implemented by [session.Revoker].
type Revoker interface {
	Revoke(ctx context.Context, r session.RevocationRequest) (session.Revocation, error)
}

// SigningKeys changes the keys that sign tokens. Implemented by [keyring.Keeper].
type SigningKeys interface {
	Keys(ctx context.Context) ([]keyring.Key, error)
	Rotate(ctx context.Context, r keyring.RotateRequest) ([]keyring.Key, error)
	Retire(ctx context.Context, r keyring.RetireRequest) (keyring.Retirement, error)
}

// Sessions reads sessions. Implemented by every store.
type Sessions interface {
	// Session returns a session, or [auth.SessionRevoked].
	Session(ctx context.Context, id uuid.UUID) (session.State, error)
}

// Config holds what an [API] needs. All fields are required.
type Config struct {
	Guard   *web.Guard
	Revoker Revoker
	Keys    servicekey.Store
	// AppStore tells the rules of service keys which apps exist.
	AppStore servicekey.Apps
	// SigningKeys are the keys that sign tokens. MaxStaleness is the maximum age of
	// the data of a validator that follows the feed.
	SigningKeys  SigningKeys
	MaxStaleness time.Duration
	// Persons has the use cases for persons and identities, Apps those for apps.
	Persons  *person.Service
	Apps     *app.Service
	Sessions Sessions
	AuditLog AuditLog
	// CutoffID returns the name of a cutoff in the revocation feed.
	CutoffID func(id int64) string
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
}

// API serves the admin API.
type API struct {
	c Config
}

// New returns the handler.
func New(c Config) *API { return &API{c} }

type keyKey struct{}

// keyOf returns the service key of the request that ctx belongs to.
func keyOf(ctx context.Context) servicekey.Key {
	k, _ := ctx.Value(keyKey{}).(servicekey.Key)
	return k
}

// require returns [auth.InsufficientScope] unless the request's key has a scope beyond that
// of the route.
func (a *API) require(r *http.Request, scope servicekey.Scope) error {
	key := keyOf(r.Context())
	return web.RequireScope(r.Context(), &key, scope)
}

// event returns an audit event by the caller of a request, with the reason, or
// [auth.InvalidRequest] for a malformed reason. The use case sets its action.
func (a *API) event(r *http.Request, reason string) (auth.AuditEvent, error) {
	c := caller(r, reason)
	return c.Event("", a.c.Clock())
}
