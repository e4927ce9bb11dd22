package servicekey

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Apps looks up registered apps. Implemented by every store.
type Apps interface {
	// App returns an app, or [auth.AppUnknown].
	App(ctx context.Context, appID string) (auth.App, error)
}

// Create makes a key from a checked draft and writes it. The event has the creator of
// the key, the time and the reason; Create fills in the rest. The second result holds the
// secret, which cannot be read again. [Key.Mint] limits the keys that a service key may
// create.
//
// Errors: [auth.InvalidRequest] for an app that is not registered, because a key that is
// restricted to a misspelt app would silently see nothing; [auth.ServiceKeyInvalid] when
// the creator is a service key that was revoked meanwhile.
func Create(ctx context.Context, store Store, apps Apps, d Draft, event auth.AuditEvent) (Key, Presented, error) {
	for _, app := range d.Apps {
		_, err := apps.App(ctx, app)
		if errors.Is(err, auth.AppUnknown) {
			return Key{}, Presented{}, &auth.Error{
				Code: auth.InvalidRequest, Description: "apps must contain only registered appids", Err: errors.New(app),
			}
		}
		if err != nil {
			return Key{}, Presented{}, err
		}
	}
	k, p := Generate(d, event.At)
	k.Creator = event.Actor
	event.Action = auth.AuditServiceKeyAdded
	event = event.With(map[string]any{"service_key": k.ID, "key_name": k.Name, "scope": ScopeText(k.Scopes)})
	if k.Restricted() {
		event.Detail["apps"] = k.Apps
	}
	if !k.ExpiresAt.IsZero() {
		event.Detail["expires_at"] = k.ExpiresAt.Format(time.RFC3339)
	}
	if err := store.AddServiceKey(ctx, k, event); err != nil {
		return Key{}, Presented{}, err
	}
	return k, p, nil
}

// Revoke revokes a key, and its descendants if the caller asks for that. The event has
// the actor, the time and the reason; Revoke fills in the rest. It is harmless to repeat.
//
// Errors: [auth.NotFound] when there is no such key.
func Revoke(ctx context.Context, store Store, id string, descendants bool, event auth.AuditEvent) (Revocation, error) {
	if !ValidID(id) {
		return Revocation{}, auth.NotFound
	}
	event.Action = auth.AuditServiceKeyEnded
	return store.RevokeServiceKey(ctx, id, descendants, event)
}

// RevokeEvent returns the event that stores write for each revoked key. For a
// descendant it names the ancestor that was revoked.
func RevokeEvent(event auth.AuditEvent, id, ancestor string) auth.AuditEvent {
	event = event.With(map[string]any{"service_key": id})
	if id != ancestor {
		event.Detail["descendant_of"] = ancestor
	}
	return event
}

// Plan returns which of all keys a revocation revokes, and which descendants still work
// after it. It returns [auth.NotFound] when no key has the id.
func Plan(all []Key, id string, descendants bool, now time.Time) (Revocation, error) {
	at := slices.IndexFunc(all, func(k Key) bool { return k.ID == id })
	if at < 0 {
		return Revocation{}, auth.NotFound
	}
	toRevoke, below := []Key{all[at]}, Descendants(all, id)
	if descendants {
		toRevoke = append(toRevoke, below...)
		below = nil
	}
	var r Revocation
	for _, k := range toRevoke {
		if k.RevokedAt.IsZero() {
			k.RevokedAt = now
			r.Revoked = append(r.Revoked, k)
		}
	}
	for _, k := range below {
		if k.Good(now) {
			r.Living = append(r.Living, k)
		}
	}
	return r, nil
}

// FollowFeed returns the key with its pin decided, as the feed needs it. The first
// time that an unrestricted key follows the feed, its pin is decided and stored, so
// that an app that is registered later changes nothing for a back end.
//
// Errors: those of the store.
func FollowFeed(ctx context.Context, store Store, k Key, now time.Time) (Key, error) {
	if !k.pinUndecided() {
		return k, nil
	}
	return store.FirstPinServiceKey(ctx, k.ID, auth.AuditEvent{
		At: now, Action: auth.AuditServiceKeyPin, Actor: auth.ActorService, Reason: "first use of the feed",
		Detail: map[string]any{"service_key": k.ID},
	})
}

// FirstPin returns the app to which a key is pinned at its first use of the feed: the
// only enabled app, or "".
func FirstPin(enabled []string) string {
	if len(enabled) == 1 {
		return enabled[0]
	}
	return ""
}

// PinEvent returns the event that stores write for a pin, with the app in its detail.
func PinEvent(event auth.AuditEvent, appID string) auth.AuditEvent {
	event = event.With(map[string]any{"app": appID})
	return event
}

// Pin sets the app to which a key is pinned; "" means no pin. The event has the actor,
// the time and the reason; Pin fills in the rest.
//
// Errors: [auth.NotFound] when there is no such key; [auth.InvalidRequest] for an app
// that is not registered, and for one outside of the apps of a restricted key.
func Pin(ctx context.Context, store Store, apps Apps, id, appID string, event auth.AuditEvent) (Key, error) {
	if !ValidID(id) {
		return Key{}, auth.NotFound
	}
	if appID != "" {
		_, err := apps.App(ctx, appID)
		if errors.Is(err, auth.AppUnknown) {
			return Key{}, auth.Invalid("app must be the appid of a registered app")
		}
		if err != nil {
			return Key{}, err
		}
	}
	event.Action = auth.AuditServiceKeyPin
	event = event.With(map[string]any{"service_key": id})
	return store.PinServiceKey(ctx, id, appID, func(k Key) error {
		if appID != "" && k.Restricted() && !slices.Contains(k.Apps, appID) {
			return auth.Invalid("app must be one of the service key's apps")
		}
		return nil
	}, event)
}
