package app

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Store keeps the registered apps. It commits every change together with its audit event
// and, if the change ends tokens, its cutoff.
//
// Methods return [auth.StorageUnavailable] when the database does not answer.
type Store interface {
	// App returns one app, or [auth.AppUnknown].
	App(ctx context.Context, appID string) (auth.App, error)
	// Apps returns all apps, ordered by id.
	Apps(ctx context.Context) ([]auth.App, error)
	// AppsState returns the apps, and the name of their state as [DirectoryConfig.Version]
	// has it. Both are from one server: the apps are in that state, or in a later one.
	AppsState(ctx context.Context) (version string, apps []auth.App, err error)
	// AddApp registers an app. It refuses a registered id with [auth.AppExists], and
	// nothing changes.
	AddApp(ctx context.Context, app auth.App, event auth.AuditEvent) error
	// UpdateApp changes only the members that the change sets, or returns
	// [auth.AppUnknown]. It calls the change's Check while the app is locked. If Check
	// returns an error, UpdateApp returns it, and nothing changes. The event's detail
	// lists in "changed" the members that were set.
	UpdateApp(ctx context.Context, appID string, change Change, event auth.AuditEvent) (auth.App, error)
	// DisableApp disables the app and raises its epoch, which ends all its sessions and
	// tokens. EnableApp allows log-ins again. It also raises the epoch, so that
	// sessions from before stay ended. Both write the app's cutoff and return
	// [auth.AppUnknown]. Repeated calls change nothing.
	DisableApp(ctx context.Context, appID string, event auth.AuditEvent) (auth.App, error)
	EnableApp(ctx context.Context, appID string, event auth.AuditEvent) (auth.App, error)
}

// Change is a change of an app. Members that are nil or empty stay as they are.
type Change struct {
	// SealedCredentials replace the credentials of the same names. An empty value leaves
	// the credential as it is.
	SealedCredentials map[string][]byte
	Audiences         *[]string
	// SigningAlg is one of [auth.SigningAlgs].
	SigningAlg string
	Policy     *auth.Policy
	// SealedWebhookSecret is the new secret of the webhook.
	SealedWebhookSecret []byte
	// Check refuses the change by an error with an [auth.Code]. It gets the app before
	// the change and must not modify it. It must not call the store, which holds the
	// app locked. A nil Check refuses nothing.
	Check func(before auth.App) error
}

// Changed returns the names of the members that the change sets, for the audit trail.
func (c *Change) Changed() []string {
	changed := slices.AppendSeq([]string{}, maps.Keys(c.SealedCredentials))
	slices.Sort(changed)
	for _, member := range []struct {
		name string
		set  bool
	}{
		{"audiences", c.Audiences != nil},
		{"signing_alg", c.SigningAlg != ""},
		{"policy", c.Policy != nil},
		{"webhook_secret", c.SealedWebhookSecret != nil},
	} {
		if member.set {
			changed = append(changed, member.name)
		}
	}
	return changed
}

// MarshalCredentials returns sealed credentials as stores keep them: a JSON object of
// base64 by name, without empty values. It returns nil if there are none.
func MarshalCredentials(sealed map[string][]byte) (*string, error) {
	object := map[string][]byte{}
	for name, value := range sealed {
		if len(value) > 0 {
			object[name] = value
		}
	}
	if len(object) == 0 {
		return nil, nil
	}
	j, err := json.Marshal(object)
	text := string(j)
	return &text, err
}
