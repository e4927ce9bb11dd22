package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Revoker ends sessions. [session.Revoker] is it.
type Revoker interface {
	Revoke(ctx context.Context, r session.RevocationRequest) (session.Revocation, error)
}

// SigningKeys changes the keys that sign tokens. [keyring.Keeper] is it.
type SigningKeys interface {
	Keys(ctx context.Context) ([]keyring.Key, error)
	Rotate(ctx context.Context, r keyring.RotateRequest) ([]keyring.Key, error)
	Retire(ctx context.Context, r keyring.RetireRequest) (keyring.Retirement, error)
}

// Sessions reads sessions. Every store does.
type Sessions interface {
	// Session returns a session, or [auth.SessionRevoked].
	Session(ctx context.Context, id uuid.UUID) (session.State, error)
}

// Config is what a [API] is made of. All fields are required.
type Config struct {
	Guard   *web.Guard
	Revoker Revoker
	Keys    servicekey.Store
	Apps    servicekey.Apps
	// SigningKeys are the keys that sign tokens, and MaxStaleness is how old the
	// knowledge of a validator that follows the feed may be.
	SigningKeys  SigningKeys
	MaxStaleness time.Duration
	// Persons are the use cases over persons, who is bound to them, and policies.
	Persons  *binding.Admin
	Sessions Sessions
	// MintTicket makes a bind ticket. [binding.MintTicket] over a store is it.
	MintTicket func(ctx context.Context, r binding.TicketRequest, now time.Time) (auth.Secret, time.Time, error)
	// CheckWebhookSecret refuses what cannot sign a webhook's requests, with
	// [auth.InvalidRequest].
	CheckWebhookSecret func(auth.Secret) error
	// CheckWebhookURL refuses a URL that would not be asked, with
	// [auth.InvalidRequest]. webhook.Client has it.
	CheckWebhookURL func(url string) error
	// CutoffID names a cutoff as the revocation feed does.
	CutoffID func(id int64) string
	// Clock returns the current time.
	Clock func() time.Time
}

// API serves the admin API.
type API struct {
	c Config
}

var _ StrictServerInterface = (*API)(nil)

// New returns the handler.
func New(c Config) *API { return &API{c} }

// Mount adds the routes.
func (a *API) Mount(r chi.Router) {
	r.Group(func(r chi.Router) {
		r.Use(a.guard, strictBody)
		HandlerWithOptions(NewStrictHandlerWithOptions(a, nil, StrictHTTPServerOptions{
			RequestErrorHandlerFunc:  malformed,
			ResponseErrorHandlerFunc: fail,
		}), ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: malformed})
	})
}

// guard lets requests pass whose service key has the scope that their endpoint
// needs. It stands before everything that reads more of a request.
func (a *API) guard(next http.Handler) http.Handler {
	return web.API(func(w http.ResponseWriter, r *http.Request) error {
		key, err := a.c.Guard.Authorize(r)
		if err != nil {
			return err
		}
		web.EventOf(r.Context()).Add(pathTarget(r)...)
		// What a service key may see is for nobody to keep a copy of.
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), keyKey{}, key)))
		return nil
	})
}

type keyKey struct{}

// keyOf returns the service key of the request that ctx belongs to.
func keyOf(ctx context.Context) servicekey.Key {
	k, _ := ctx.Value(keyKey{}).(servicekey.Key)
	return k
}

// event returns an audit event by whoever makes the request.
func (a *API) event(ctx context.Context) auth.AuditEvent {
	return auth.AuditEvent{
		At: auth.StoredTime(a.c.Clock()), Actor: auth.ActorServiceKey(keyOf(ctx).ID), RequestID: web.EventOf(ctx).RequestID,
	}
}

// errRestricted refuses a key that is restricted to apps what concerns all.
var errRestricted = &auth.Error{Code: auth.InsufficientScope, Description: "It needs a service key that is not restricted to apps."}

// fail renders an error.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	web.API(func(http.ResponseWriter, *http.Request) error { return err })(w, r)
}

// malformed renders an error of the generated code, which quotes its input.
func malformed(w http.ResponseWriter, r *http.Request, err error) {
	var (
		form  *InvalidParamFormatError
		count *TooManyValuesForParamError
	)
	switch {
	case errors.As(err, &form):
		fail(w, r, auth.Invalid("The parameter "+form.ParamName+" does not have the form that it should."))
	case errors.As(err, &count):
		fail(w, r, auth.Invalid("The parameter "+count.ParamName+" is there more than once."))
	default:
		fail(w, r, auth.Invalid("A parameter does not have the form that it should."))
	}
}
