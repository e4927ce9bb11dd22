package app

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// Keys makes the keys that sign access tokens. Implemented by [keyring.Keeper].
type Keys interface {
	// EnsureKeys makes keys of an algorithm unless it has keys, and returns the time
	// from which they sign. Until then the default algorithm signs.
	EnsureKeys(ctx context.Context, alg string, by auth.AuditEvent) (time.Time, error)
}

// Config configures a [Service]. Store and Clock are required. A program that changes no
// secret needs no Sealer, and one that changes no signing algorithm needs no Keys.
type Config struct {
	Store Store
	// Sealer seals AppSecrets and the secrets of webhooks.
	Sealer *seal.Ring
	Keys   Keys
	// CheckWebhookURL refuses a URL to which this program would not send a webhook's
	// requests, with [auth.InvalidRequest]. Nil accepts every URL that a policy may have.
	CheckWebhookURL func(url string) error
	// Clock returns the current time by the database's clock.
	Clock func(ctx context.Context) (time.Time, error)
}

// Service implements the use cases of admins for apps. It is safe for concurrent use and
// keeps no state.
type Service struct {
	c Config
}

// NewService returns a service.
func NewService(c Config) *Service { return &Service{c} }

// Outcome is an app after a change.
type Outcome struct {
	App auth.App
	// Changed names the members that the change set, as in [Change.Changed].
	Changed []string
	// SignsFrom is the time from which the app's tokens are signed with its algorithm.
	// Before that time, back ends may not know the new keys. It is zero if they are
	// signed with it already.
	SignsFrom time.Time
}

var errNoApp = &auth.Error{Code: auth.NotFound, Description: "No app has this appid."}

// notFound returns the error for admins if err is [auth.AppUnknown], and err otherwise.
func notFound(err error) error {
	if errors.Is(err, auth.AppUnknown) {
		return errNoApp
	}
	return err
}

// event returns the audit event of a caller's action now.
func (s *Service) event(ctx context.Context, action auth.AuditAction, c *auth.Caller) (auth.AuditEvent, error) {
	now, err := s.c.Clock(ctx)
	if err != nil {
		return auth.AuditEvent{}, err
	}
	return c.Event(action, now)
}

// Register registers an app. Its form is checked before the store is asked.
//
// Errors: [FieldError]; [auth.InvalidRequest] for the reason; [auth.AppExists];
// [auth.InsufficientScope] for a caller that is restricted to apps.
func (s *Service) Register(ctx context.Context, r Registration, c auth.Caller) (Outcome, error) {
	if c.Restricted() {
		return Outcome{}, auth.ErrRestricted
	}
	if err := cmp.Or(r.Check(), s.checkWebhookURL(r.Policy)); err != nil {
		return Outcome{}, err
	}
	event, err := s.event(ctx, auth.AuditAppAdded, &c)
	if err != nil {
		return Outcome{}, err
	}
	// Check first, so that a refused registration makes no keys. Of two concurrent calls,
	// AddApp refuses one.
	if _, err := s.c.Store.App(ctx, r.ID); !errors.Is(err, auth.AppUnknown) {
		return Outcome{}, cmp.Or(err, error(auth.AppExists))
	}
	change, err := s.seal(r.ID, &r.Form)
	if err != nil {
		return Outcome{}, err
	}
	app := auth.App{
		ID: r.ID, Platform: r.Platform, SealedCredentials: change.SealedCredentials, SealedWebhookSecret: change.SealedWebhookSecret,
		SigningAlg: cmp.Or(r.SigningAlg, auth.DefaultSigningAlg), CreatedAt: event.At, UpdatedAt: event.At,
	}
	if r.Audiences != nil {
		app.Audiences = *r.Audiences
	}
	if r.Policy != nil {
		app.Policy = *r.Policy
	}
	from, err := s.ensureKeys(ctx, app.SigningAlg, &event)
	if err != nil {
		return Outcome{}, err
	}
	if err := s.c.Store.AddApp(ctx, app, event); err != nil {
		return Outcome{}, err
	}
	return Outcome{app, change.Changed(), from}, nil
}

// Update changes what the form names. An empty form changes nothing.
//
// A caller that is restricted to apps changes only its own apps, and only so that they
// reach no further than before: no new audience, no other signing algorithm, no policy
// with more access to persons.
//
// Errors: [FieldError]; [ErrNoWebhookSecret]; [auth.InvalidRequest] for the reason;
// [auth.NotFound]; [auth.InsufficientScope] for a restricted caller.
func (s *Service) Update(ctx context.Context, appID string, f Form, c auth.Caller) (Outcome, error) {
	if err := cmp.Or(f.Check(), s.checkWebhookURL(f.Policy)); err != nil {
		return Outcome{}, err
	}
	event, err := s.event(ctx, auth.AuditAppUpdated, &c)
	if err != nil {
		return Outcome{}, err
	}
	before, err := s.App(ctx, appID, c)
	if err != nil || f.isEmpty() {
		return Outcome{App: before}, err
	}
	// Checked now, so that a refused change makes no keys, and again by the store under
	// the lock of the row: what another admin has taken from the app since must not come
	// back.
	check := func(before auth.App) error { return f.checkAgainst(&before, c.Restricted()) }
	if err := check(before); err != nil {
		return Outcome{}, err
	}
	change, err := s.seal(appID, &f)
	if err != nil {
		return Outcome{}, err
	}
	change.Check = check
	from, err := s.ensureKeys(ctx, f.SigningAlg, &event)
	if err != nil {
		return Outcome{}, err
	}
	app, err := s.c.Store.UpdateApp(ctx, appID, change, event)
	if err != nil {
		return Outcome{}, notFound(err)
	}
	return Outcome{app, change.Changed(), from}, nil
}

// seal returns the form as stores take it.
func (s *Service) seal(appID string, f *Form) (change Change, err error) {
	change = Change{Audiences: f.Audiences, SigningAlg: f.SigningAlg, Policy: f.Policy}
	if f.Secret != nil {
		var sealed []byte
		sealed, err = s.c.Sealer.Seal([]byte(f.Secret.Reveal()), CredentialAAD(appID, auth.CredentialAppSecret))
		change.SealedCredentials = map[string][]byte{auth.CredentialAppSecret: sealed}
	}
	if err == nil && f.WebhookSecret != nil {
		change.SealedWebhookSecret, err = s.c.Sealer.Seal([]byte(f.WebhookSecret.Reveal()), WebhookSecretAAD(appID))
	}
	return change, err
}

// ensureKeys makes keys of the algorithm before an app chooses it. It returns the
// time from which they sign, or zero if they sign already.
func (s *Service) ensureKeys(ctx context.Context, alg string, event *auth.AuditEvent) (time.Time, error) {
	if alg == "" || alg == auth.DefaultSigningAlg {
		return time.Time{}, nil
	}
	from, err := s.c.Keys.EnsureKeys(ctx, alg, auth.AuditEvent{Actor: event.Actor, Reason: event.Reason, RequestID: event.RequestID})
	if err != nil || !from.After(event.At) {
		return time.Time{}, err
	}
	return from, nil
}

func (s *Service) checkWebhookURL(p *auth.Policy) error {
	if p == nil || p.Webhook.URL == "" || s.c.CheckWebhookURL == nil {
		return nil
	}
	if err := s.c.CheckWebhookURL(p.Webhook.URL); err != nil {
		return inField("policy", err)
	}
	return nil
}

// Disable refuses an app's log-ins and refreshes, and ends all its sessions. It is
// harmless to repeat.
//
// Errors: [auth.InvalidRequest] for the reason; [auth.NotFound], also for an app that the
// caller does not see.
func (s *Service) Disable(ctx context.Context, appID string, c auth.Caller) (auth.App, error) {
	return s.toggle(ctx, auth.AuditAppDisabled, appID, &c, s.c.Store.DisableApp)
}

// Enable lets an app's users log in again. Sessions that ended stay ended. It is harmless
// to repeat. A caller that is restricted to apps may not enable one: it would undo the
// decision of an admin who disabled it.
//
// Errors: as [Service.Disable]; [auth.InsufficientScope] for a restricted caller.
func (s *Service) Enable(ctx context.Context, appID string, c auth.Caller) (auth.App, error) {
	if c.Restricted() {
		return auth.App{}, auth.ErrRestricted
	}
	return s.toggle(ctx, auth.AuditAppEnabled, appID, &c, s.c.Store.EnableApp)
}

func (s *Service) toggle(ctx context.Context, action auth.AuditAction, appID string, c *auth.Caller,
	change func(ctx context.Context, appID string, event auth.AuditEvent) (auth.App, error),
) (auth.App, error) {
	if !auth.ValidAppID(appID) || !c.Sees(appID) {
		return auth.App{}, errNoApp
	}
	event, err := s.event(ctx, action, c)
	if err != nil {
		return auth.App{}, err
	}
	app, err := change(ctx, appID, event)
	return app, notFound(err)
}

// App returns an app, or [auth.NotFound].
func (s *Service) App(ctx context.Context, appID string, c auth.Caller) (auth.App, error) {
	if !auth.ValidAppID(appID) || !c.Sees(appID) {
		return auth.App{}, errNoApp
	}
	app, err := s.c.Store.App(ctx, appID)
	return app, notFound(err)
}

// Apps returns the apps that the caller may see, by their ids.
func (s *Service) Apps(ctx context.Context, c auth.Caller) ([]auth.App, error) {
	all, err := s.c.Store.Apps(ctx)
	return slices.DeleteFunc(all, func(app auth.App) bool { return !c.Sees(app.ID) }), err
}
