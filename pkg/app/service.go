package app

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// Config configures a [Service]. All fields are required.
type Config struct {
	Store auth.AppStore
	// Sealer seals the secrets of webhooks.
	Sealer *seal.Ring
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
}

// Service is the use cases of admins over apps. It is safe for concurrent use and keeps
// no state.
type Service struct {
	c Config
}

// NewService returns a service.
func NewService(c Config) *Service { return &Service{c} }

// WebhookSecretAAD returns the associated data with which the secret of an app's webhook
// is sealed.
func WebhookSecretAAD(appID string) []byte { return seal.AAD("apps", "sealed_webhook_secret", appID) }

// Form is what an admin changes of an app; nil fields stay as they are.
type Form struct {
	Policy        *auth.Policy
	WebhookSecret *auth.Secret
}

// UpdateApp changes an app's policy and the secret of its webhook, whose form the
// caller has checked.
//
// Errors: [auth.InvalidRequest], also for a webhook without a secret;
// [auth.NotFound]; [auth.InsufficientScope] when a caller who is restricted to apps
// would get at persons by it.
func (s *Service) UpdateApp(ctx context.Context, appID string, f Form, c auth.Caller) (auth.App, error) {
	event, err := c.Event(auth.AuditAppUpdated, s.c.Clock())
	if err != nil {
		return auth.App{}, err
	}
	before, err := s.App(ctx, appID, c)
	if err != nil {
		return auth.App{}, err
	}
	if f.Policy == nil && f.WebhookSecret == nil {
		return before, nil
	}
	change := auth.AppChange{Policy: f.Policy}
	if f.Policy != nil {
		if err := f.Policy.Check(); err != nil {
			return auth.App{}, err
		}
		// Asked by the store about the app as it is then: what another admin has
		// taken from it since it was read above must not come back.
		change.Check = func(before auth.App) error {
			if c.Restricted() && reachesFurther(&before.Policy, f.Policy) {
				return errReach
			}
			if f.Policy.Allows(auth.BindWebhook) && f.WebhookSecret == nil && len(before.SealedWebhookSecret) == 0 {
				return auth.Invalid("the method webhook requires a webhook_secret")
			}
			return nil
		}
	}
	if f.WebhookSecret != nil {
		change.SealedWebhookSecret, err = s.c.Sealer.Seal([]byte(f.WebhookSecret.Reveal()), WebhookSecretAAD(appID))
		if err != nil {
			return auth.App{}, err
		}
	}
	app, err := s.c.Store.UpdateApp(ctx, appID, change, event)
	return app, notFound(err)
}

var errReach = &auth.Error{Code: auth.InsufficientScope, Description: "Persons do not belong to an app: only a service key that is not restricted to apps can extend the methods facts, phone and webhook, their members, or attributes."}

// reachesFurther reports whether a policy gives an app more of the persons than
// the one before: facts and phones bind its users to any person there is, a
// webhook's answer writes persons, and attributes are read of them. A member that is
// not looked at here reaches further when it differs.
func reachesFurther(before, after *auth.Policy) bool {
	within := func(all, some []string) bool {
		return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
	}
	for _, m := range []auth.BindingMethod{auth.BindFacts, auth.BindPhone, auth.BindWebhook} {
		if after.Allows(m) && !before.Allows(m) {
			return true
		}
	}
	facts := after.Facts.Lookup == "" ||
		after.Facts.Lookup == before.Facts.Lookup && within(after.Facts.Check, before.Facts.Check)
	phone := (!after.Allows(auth.BindPhone) || within(after.Phone.Check, before.Phone.Check)) && (before.Phone.Create || !after.Phone.Create)
	hook := after.Webhook.URL == "" || after.Webhook.URL == before.Webhook.URL
	if !facts || !phone || !hook || !within(before.Attributes, after.Attributes) {
		return true
	}
	rest := *after
	rest.Methods, rest.Facts, rest.Phone, rest.Webhook, rest.Attributes = before.Methods, before.Facts, before.Phone, before.Webhook, before.Attributes
	// These two concern the app's own users only.
	rest.SecondIdentity, rest.SelfUnbind = before.SecondIdentity, before.SelfUnbind
	return !reflect.DeepEqual(&rest, before)
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

var errNoApp = &auth.Error{Code: auth.NotFound, Description: "No app has this appid."}

// notFound returns the error for admins if err is [auth.AppUnknown], and err otherwise.
func notFound(err error) error {
	if errors.Is(err, auth.AppUnknown) {
		return errNoApp
	}
	return err
}
