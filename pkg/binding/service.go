package binding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/token"
)

// Sessions authenticates access tokens and mints new ones. Implemented by
// [session.Service].
type Sessions interface {
	// Authenticate returns the live session of an access token.
	Authenticate(ctx context.Context, accessToken auth.Secret) (session.Bearer, error)
	// Grantable returns the row of the session from which tokens may be minted.
	Grantable(ctx context.Context, row auth.Session) (auth.Session, error)
	// Mint calls mint. If there was no key to sign with, it restores the keys and calls
	// mint once more.
	Mint(ctx context.Context, mint func() (auth.Secret, int, error)) (auth.Secret, int, error)
}

// Config configures a [Service]. All fields are required except Webhook and CheckMayIssue.
type Config struct {
	// Store applies the cutoffs that it writes: this replica knows them when a
	// method returns.
	Store    Store
	Sessions Sessions
	Minter   *token.Minter
	Facts    *person.FactKey
	Sealer   *seal.Ring
	// Platforms holds a provider for each platform name.
	Platforms map[string]platform.Provider
	// Webhook asks the business back end; if it is nil, that method is refused.
	Webhook Webhook
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
	// CheckMayIssue returns why this replica must not change a binding now, or nil. If
	// CheckMayIssue is nil, the replica may always change bindings.
	CheckMayIssue func() error
}

// Service implements the use cases of the bearer of an access token. It is safe for
// concurrent use. Its only state is the failure budget of each app.
type Service struct {
	c       Config
	budgets budgets
}

// NewService returns a service.
func NewService(c Config) *Service {
	if c.CheckMayIssue == nil {
		c.CheckMayIssue = func() error { return nil }
	}
	return &Service{c: c}
}

// Request is an attempt to bind.
type Request struct {
	AccessToken auth.Secret
	Method      auth.BindingMethod
	// Fields are the user's input: the facts of [auth.BindFacts], those that are
	// checked with a phone, or those that the webhook requires.
	Fields map[string]string
	// Code is the platform's phone code, for [auth.BindPhone].
	Code auth.Secret
	// Ticket is for [auth.BindTicket].
	Ticket auth.Secret
	// Network is the client's network as web.Network names it; attempts are counted
	// against it.
	Network string
	// RequestID goes into the audit trail.
	RequestID string
}

// Grant is the answer to a bind or unbind call. The client's refresh token stays valid.
type Grant struct {
	// AccessToken is a token with the new binding. It expires no later than the token
	// that was presented. It is empty when nothing changed, because the presented
	// token is still right, and when the presented token expired during the call:
	// the change is made, and the client refreshes.
	AccessToken auth.Secret
	// ExpiresIn is the access token's lifetime, in seconds; 0 without a token.
	ExpiresIn int
	// Session is the session's row after the call.
	Session auth.Session
	// Changed says whether the call changed the binding.
	Changed bool
	// Replaced is the number of other identities of the person that were unbound.
	Replaced int
}

// Bind binds the identity of an access token.
//
// Errors: those of [session.Service.Authenticate], [Store.Bind] and
// [Config.CheckMayIssue]; [auth.InvalidRequest] for members that do not fit the method or
// the app's policy, which is not counted as an attempt; [auth.BindingMethodDisabled];
// [auth.BindingDelayed], with the time to wait; [auth.BindingNoMatch];
// [auth.TicketInvalid]; those of [platform.Provider.ExchangePhoneCode] and [Webhook].
func (s *Service) Bind(ctx context.Context, r Request) (Grant, error) {
	m, err := methodOf(&r)
	if err != nil {
		return Grant{}, err
	}
	if err := s.c.CheckMayIssue(); err != nil {
		return Grant{}, err
	}
	bearer, err := s.c.Sessions.Authenticate(ctx, r.AccessToken)
	if err != nil {
		return Grant{}, err
	}
	current := bearer.Session
	app, err := s.c.Store.App(ctx, current.AppID)
	if err != nil {
		return Grant{Session: current}, err
	}
	a, err := s.newAttempt(m, &r, &current, &app)
	if err != nil {
		return Grant{Session: current}, err
	}
	reserved, err := a.reserve(ctx)
	if err != nil {
		return Grant{Session: current}, err
	}
	done, err := a.bind(ctx)
	if err := a.settle(ctx, reserved, done.Session.Person, err); err != nil {
		return Grant{Session: current}, err
	}
	return s.grant(ctx, &app, done, bearer.TokenExpiresAt, a.now)
}

// Unbind unbinds the identity of an access token. It changes nothing if the identity is
// not bound.
//
// Errors: those of [session.Service.Authenticate], [Store.Unbind] and
// [Config.CheckMayIssue]; [auth.UnbindForbidden].
func (s *Service) Unbind(ctx context.Context, accessToken auth.Secret, requestID string) (Grant, error) {
	if err := s.c.CheckMayIssue(); err != nil {
		return Grant{}, err
	}
	bearer, err := s.c.Sessions.Authenticate(ctx, accessToken)
	if err != nil {
		return Grant{}, err
	}
	current := bearer.Session
	app, err := s.c.Store.App(ctx, current.AppID)
	if err != nil {
		return Grant{Session: current}, err
	}
	if !app.Policy.SelfUnbind {
		return Grant{Session: current}, auth.UnbindForbidden
	}
	now := s.now()
	done, err := s.c.Store.Unbind(ctx, UnbindParams{
		Session: current.ID, Ver: current.Ver, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditUnbound, Actor: auth.ActorBearer, RequestID: requestID},
	})
	if err != nil {
		return Grant{Session: current}, err
	}
	return s.grant(ctx, &app, done, bearer.TokenExpiresAt, now)
}

// View is the binding as its bearer may see it.
type View struct {
	Session auth.Session
	// Methods are the methods that the app's policy allows.
	Methods []MethodFields
	// SelfUnbind says whether users may unbind themselves.
	SelfUnbind bool
}

// MethodFields is a method with the fields that it requires, in the order of the policy.
// It has no fields for a webhook: only the business knows them.
type MethodFields struct {
	Method auth.BindingMethod
	Fields []string
}

// Show returns the binding of the identity of an access token.
//
// Errors: those of [session.Service.Authenticate].
func (s *Service) Show(ctx context.Context, accessToken auth.Secret) (View, error) {
	bearer, err := s.c.Sessions.Authenticate(ctx, accessToken)
	if err != nil {
		return View{}, err
	}
	current := bearer.Session
	app, err := s.c.Store.App(ctx, current.AppID)
	if err != nil {
		return View{Session: current}, err
	}
	p := &app.Policy
	v := View{Session: current, SelfUnbind: p.SelfUnbind}
	for _, name := range p.Methods {
		w := MethodFields{Method: name}
		if m, ok := methods[name]; ok {
			w.Fields = m.fields(p)
		}
		v.Methods = append(v.Methods, w)
	}
	return v, nil
}

// grant answers a successful call. After a change it mints a token from the session's
// row. The token expires no later than latest, the exp of the presented token: an access
// token must not renew itself.
func (s *Service) grant(ctx context.Context, app *auth.App, done BindResult, latest, now time.Time) (Grant, error) {
	g := Grant{Session: done.Session, Changed: done.Changed, Replaced: len(done.Replaced)}
	if !done.Changed {
		return g, nil
	}
	if !s.now().Before(latest) {
		return g, nil
	}
	row, err := s.c.Sessions.Grantable(ctx, done.Session)
	if err != nil {
		return Grant{Session: done.Session}, err
	}
	g.Session = row
	if app.Policy.OmitExternalID {
		row = row.WithoutExternalID()
	}
	g.AccessToken, g.ExpiresIn, err = s.c.Sessions.Mint(ctx, func() (auth.Secret, int, error) {
		return s.c.Minter.MintUntil(&row, app.Audiences, app.SigningAlg, now, latest)
	})
	if err != nil {
		return Grant{Session: done.Session}, err
	}
	return g, nil
}

// now returns the time as stores keep it.
func (s *Service) now() time.Time { return auth.StoredTime(s.c.Clock()) }

// ExposedAttributes returns the attributes of a person that have these names, as JSON
// values. It leaves out names that the person does not have, and returns no attributes
// for a person who does not exist.
func (s *Service) ExposedAttributes(ctx context.Context, person uuid.UUID, names []string) (map[string]json.RawMessage, error) {
	exposed := map[string]json.RawMessage{}
	if len(names) == 0 {
		return exposed, nil
	}
	p, err := s.c.Store.Person(ctx, person)
	if errors.Is(err, auth.NotFound) {
		return exposed, nil
	}
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(p.Attributes, &all); err != nil {
		return nil, fmt.Errorf("binding: decode the attributes of person %s: %w", person, err)
	}
	for _, name := range names {
		if value, ok := all[name]; ok {
			exposed[name] = value
		}
	}
	return exposed, nil
}

// ExternalID returns the business's own id of a person, or "" for a person who does not
// exist.
func (s *Service) ExternalID(ctx context.Context, person uuid.UUID) (string, error) {
	p, err := s.c.Store.Person(ctx, person)
	if errors.Is(err, auth.NotFound) {
		return "", nil
	}
	return p.ExternalID, err
}
