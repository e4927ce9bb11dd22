package servicekey

import (
	"context"
	"errors"
	"maps"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Apps knows which apps are registered. Every store does.
type Apps interface {
	// App returns an app, or [auth.AppUnknown].
	App(ctx context.Context, appID string) (auth.App, error)
}

// Create makes a key of a checked draft and writes it. The event says who, when
// and why; the rest of it is filled in. What is returned second holds the
// secret, which nobody can ask for again.
//
// Errors: [auth.InvalidRequest] for an app that is not registered: a key that is
// restricted to a misspelt app would see nothing, and nobody would know why.
func Create(ctx context.Context, store Store, apps Apps, d Draft, event auth.AuditEvent) (Key, Presented, error) {
	for _, app := range d.Apps {
		_, err := apps.App(ctx, app)
		if errors.Is(err, auth.AppUnknown) {
			return Key{}, Presented{}, &auth.Error{
				Code: auth.InvalidRequest, Description: "apps holds an appid that is not registered", Err: errors.New(app),
			}
		}
		if err != nil {
			return Key{}, Presented{}, err
		}
	}
	k, p := Generate(d, event.At)
	event.Action = auth.AuditServiceKeyAdded
	event.Detail = withDetail(event.Detail, map[string]any{"service_key": k.ID, "name": k.Name, "scope": ScopeText(k.Scopes)})
	if k.Restricted() {
		event.Detail["apps"] = k.Apps
	}
	if err := store.AddServiceKey(ctx, k, event); err != nil {
		return Key{}, Presented{}, err
	}
	return k, p, nil
}

// Revoke makes a key void. The event says who, when and why; the rest of it is
// filled in. It is harmless to repeat.
//
// Errors: [auth.NotFound] when there is no such key.
func Revoke(ctx context.Context, store Store, id string, event auth.AuditEvent) error {
	if !ValidID(id) {
		return auth.NotFound
	}
	event.Action = auth.AuditServiceKeyEnded
	event.Detail = withDetail(event.Detail, map[string]any{"service_key": id})
	return store.RevokeServiceKey(ctx, id, event)
}

func withDetail(detail, more map[string]any) map[string]any {
	all := maps.Clone(more)
	maps.Copy(all, detail)
	return all
}
