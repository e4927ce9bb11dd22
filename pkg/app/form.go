package app

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// MaxSecretLen is the maximum length of an AppSecret, in bytes.
const MaxSecretLen = 1024

// CredentialAAD returns the associated data with which an app's credential of this name
// is sealed.
func CredentialAAD(appID, name string) []byte {
	return seal.AAD("apps", "sealed_credentials", appID, name)
}

// WebhookSecretAAD returns the associated data with which the secret of an app's webhook
// is sealed.
func WebhookSecretAAD(appID string) []byte { return seal.AAD("apps", "sealed_webhook_secret", appID) }

// Form is what an admin changes of an app. A nil or empty member leaves the app as it is.
type Form struct {
	// Secret is the platform's AppSecret.
	Secret *auth.Secret
	// Audiences replace all audiences.
	Audiences *[]string
	// SigningAlg is one of [auth.SigningAlgs].
	SigningAlg string
	Policy     *auth.Policy
	// WebhookSecret holds the secrets of the policy's webhook, one a line.
	WebhookSecret *auth.Secret
}

// Registration is an app to register.
type Registration struct {
	// ID is the platform's appid.
	ID string
	// Platform is the platform that the app runs on, for example [auth.PlatformWeChat].
	Platform string
	// Form holds the rest. Its Secret is required; an empty SigningAlg means
	// [auth.DefaultSigningAlg].
	Form
}

// A FieldError is an [auth.InvalidRequest] about one member of a [Registration].
type FieldError struct {
	// Field is the member's name in the admin API, for example "audiences".
	Field string
	// Problem says what is wrong, without the name.
	Problem string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Unwrap returns the error that API clients get.
func (e *FieldError) Unwrap() error { return auth.Invalid(e.Error()) }

// ErrNoWebhookSecret refuses a policy with a webhook while no secret signs its requests.
var ErrNoWebhookSecret = &FieldError{"webhook_secret", "the method webhook requires a secret that signs its requests"}

// inField returns the [FieldError] of a check's error.
func inField(field string, err error) error {
	var e *auth.Error
	if !errors.As(err, &e) {
		return err
	}
	return &FieldError{field, e.Description}
}

// Check checks the members that can be checked without the app.
//
// Errors: [FieldError].
func (f *Form) Check() error {
	if f.Secret != nil {
		if err := CheckSecret(*f.Secret); err != nil {
			return inField("app_secret", err)
		}
	}
	if f.Audiences != nil {
		if err := auth.CheckAudiences(*f.Audiences); err != nil {
			return inField("audiences", err)
		}
	}
	if f.SigningAlg != "" {
		if err := auth.CheckSigningAlg(f.SigningAlg); err != nil {
			return inField("signing_alg", err)
		}
	}
	if f.Policy != nil {
		if err := f.Policy.Check(); err != nil {
			return inField("policy", err)
		}
	}
	if f.WebhookSecret != nil {
		if _, err := webhook.ParseKeys(*f.WebhookSecret); err != nil {
			return inField("webhook_secret", err)
		}
	}
	return nil
}

// Check checks everything but whether the app is registered already.
//
// Errors: [FieldError]; [ErrNoWebhookSecret].
func (r *Registration) Check() error {
	if err := CheckID(r.ID); err != nil {
		return inField("appid", err)
	}
	switch {
	case r.Platform != auth.PlatformWeChat:
		return &FieldError{"platform", "the platform must be wechat"}
	case r.Secret == nil:
		return &FieldError{"app_secret", "the AppSecret is required"}
	}
	if err := r.Form.Check(); err != nil {
		return err
	}
	return r.checkAgainst(&auth.App{}, false)
}

// CheckID refuses a text that does not have the form of an appid.
func CheckID(appID string) error {
	if !auth.ValidAppID(appID) {
		return auth.Invalid("an appid is 1 to 64 letters and digits, for example wx1234567890abcdef")
	}
	return nil
}

// CheckSecret refuses a text that is not an AppSecret: one line of printable ASCII
// without spaces, of at most [MaxSecretLen] bytes.
func CheckSecret(secret auth.Secret) error {
	s := secret.Reveal()
	if s == "" || len(s) > MaxSecretLen || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return auth.Invalid("an AppSecret must be one line of printable ASCII without spaces")
	}
	return nil
}

// isEmpty reports whether the form changes nothing.
func (f *Form) isEmpty() bool { return reflect.ValueOf(*f).IsZero() }

var errReach = &auth.Error{Code: auth.InsufficientScope, Description: "Persons, other back ends and signing keys do not belong to an app: only a service key that is not restricted to apps can extend the methods facts, phone and webhook, their members, attributes or audiences, or change the signing algorithm."}

// checkAgainst checks the form against the app as it is. Restricted says that the caller
// is restricted to apps.
func (f *Form) checkAgainst(before *auth.App, restricted bool) error {
	if restricted && f.reachesFurther(before) {
		return errReach
	}
	if f.Policy != nil && f.Policy.Allows(auth.BindWebhook) && f.WebhookSecret == nil && len(before.SealedWebhookSecret) == 0 {
		return ErrNoWebhookSecret
	}
	return nil
}

// reachesFurther reports whether the form gives an app something beyond the app itself
// that it does not have yet.
func (f *Form) reachesFurther(before *auth.App) bool {
	return f.Policy != nil && policyReachesFurther(&before.Policy, f.Policy) ||
		f.Audiences != nil && !containsAll(before.Audiences, *f.Audiences) ||
		f.SigningAlg != "" && f.SigningAlg != before.SigningAlg
}

// containsAll reports whether all contains every name of some.
func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
}

// policyReachesFurther reports whether a policy gives an app more access to persons than
// the policy before. Facts and phones bind its users to any person, a webhook's answer
// writes persons, and attributes are read from them. A member that this function does not
// know reaches further if it differs.
func policyReachesFurther(before, after *auth.Policy) bool {
	for _, m := range auth.BindingMethods() {
		// An admin mints each ticket for one person. Every other method may reach any.
		if m != auth.BindTicket && after.Allows(m) && !before.Allows(m) {
			return true
		}
	}
	facts := after.Facts.Lookup == "" ||
		after.Facts.Lookup == before.Facts.Lookup && containsAll(after.Facts.Check, before.Facts.Check)
	phone := (!after.Allows(auth.BindPhone) || containsAll(after.Phone.Check, before.Phone.Check)) && (before.Phone.Create || !after.Phone.Create)
	hook := after.Webhook.URL == "" || after.Webhook.URL == before.Webhook.URL
	if !facts || !phone || !hook || !containsAll(before.Attributes, after.Attributes) {
		return true
	}
	rest := *after
	rest.Methods, rest.Facts, rest.Phone, rest.Webhook, rest.Attributes = before.Methods, before.Facts, before.Phone, before.Webhook, before.Attributes
	// These two concern the app's own users only.
	rest.SecondIdentity, rest.SelfUnbind = before.SecondIdentity, before.SelfUnbind
	return !reflect.DeepEqual(&rest, before)
}
