package servicekey_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// written is a store that remembers the arguments of its calls.
type written struct {
	memory
	key   servicekey.Key
	id    string
	event auth.AuditEvent
}

func (w *written) AddServiceKey(_ context.Context, k servicekey.Key, event auth.AuditEvent) error {
	w.key, w.event = k, event
	return w.down
}

func (w *written) RevokeServiceKey(_ context.Context, id string, _ bool, event auth.AuditEvent) (servicekey.Revocation, error) {
	w.id, w.event = id, servicekey.RevokeEvent(event, id, id)
	return servicekey.Revocation{}, w.down
}

func (w *written) FirstPinServiceKey(_ context.Context, id string, event auth.AuditEvent) (servicekey.Key, error) {
	w.id, w.event = id, servicekey.PinEvent(event, "wx1")
	return servicekey.Key{ID: id, PinnedApp: "wx1", PinnedAt: event.At}, w.down
}

func (w *written) PinServiceKey(_ context.Context, id, appID string, check func(servicekey.Key) error, event auth.AuditEvent) (servicekey.Key, error) {
	if err := check(w.key); err != nil {
		return servicekey.Key{}, err
	}
	w.id, w.event = id, servicekey.PinEvent(event, appID)
	return servicekey.Key{ID: id, PinnedApp: appID, PinnedAt: event.At}, w.down
}

// App knows one app.
func (w *written) App(_ context.Context, appID string) (auth.App, error) {
	if appID != "wx1" {
		return auth.App{}, auth.AppUnknown
	}
	return auth.App{ID: appID}, nil
}

func TestCreate(t *testing.T) {
	t.Parallel()
	who := auth.AuditEvent{At: t0, Actor: auth.ActorCLI, Reason: "why", RequestID: "req-1"}
	t.Run("the audit event has everything except the secret", func(t *testing.T) {
		t.Parallel()
		var w written
		k, p, err := servicekey.Create(t.Context(), &w, &w, draft(t, "orders", []string{"openid", "service"}, []string{"wx1"}), who)
		if err != nil {
			t.Fatal(err)
		}
		want := who
		want.Action = auth.AuditServiceKeyAdded
		want.Detail = map[string]any{"service_key": k.ID, "key_name": "orders", "scope": "service openid", "apps": []string{"wx1"}}
		if d := cmp.Diff(want, w.event); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(k, w.key); d != "" || k.Hash != p.Hash() || k.Creator != auth.ActorCLI {
			t.Errorf("creator = %q; key (-want +got):\n%s", k.Creator, d)
		}
		if all := fmt.Sprintf("%#v %#v", w.event, w.key); strings.Contains(all, p.Secret.Reveal()) {
			t.Errorf("the secret is in %s", all)
		}
	})
	t.Run("an app that is not registered is refused, and nothing is written", func(t *testing.T) {
		t.Parallel()
		var w written
		_, p, err := servicekey.Create(t.Context(), &w, &w, draft(t, "orders", []string{"service"}, []string{"wx1", "wx2"}), who)
		if !errors.Is(err, auth.InvalidRequest) || w.key.ID != "" || p.ID != "" {
			t.Errorf("Create() error = %v, written key %+v", err, w.key)
		}
	})
	t.Run("a key that was not written is not returned", func(t *testing.T) {
		t.Parallel()
		w := written{memory: memory{down: auth.StorageUnavailable}}
		_, p, err := servicekey.Create(t.Context(), &w, &w, draft(t, "orders", []string{"service"}, nil), who)
		if !errors.Is(err, auth.StorageUnavailable) || p.ID != "" {
			t.Errorf("Create() = %[2]v, %[1]v, want an error and no key", err, p)
		}
	})
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	var w written
	const id = "0123456789abcdef"
	if _, err := servicekey.Revoke(t.Context(), &w, id, false, auth.AuditEvent{At: t0, Actor: auth.ActorCLI}); err != nil {
		t.Fatal(err)
	}
	want := auth.AuditEvent{At: t0, Actor: auth.ActorCLI, Action: auth.AuditServiceKeyEnded, Detail: map[string]any{"service_key": id}}
	if d := cmp.Diff(want, w.event); d != "" || w.id != id {
		t.Errorf("id = %s; event (-want +got):\n%s", w.id, d)
	}
	w = written{}
	if _, err := servicekey.Revoke(t.Context(), &w, "no id", true, auth.AuditEvent{}); !errors.Is(err, auth.NotFound) || w.id != "" {
		t.Errorf("Revoke() error = %v, store called with %q", err, w.id)
	}
}

func TestFollowFeed(t *testing.T) {
	t.Parallel()
	const id = "mzxw6ytboi5dcmrt"
	t.Run("the store decides an undecided pin", func(t *testing.T) {
		t.Parallel()
		var w written
		k, err := servicekey.FollowFeed(t.Context(), &w, servicekey.Key{ID: id}, t0)
		if err != nil || k.Pinned() != "wx1" {
			t.Errorf("FollowFeed() = %+v, %v", k, err)
		}
		want := auth.AuditEvent{
			At: t0, Action: auth.AuditServiceKeyPin, Actor: auth.ActorService, Reason: "first use of the feed",
			Detail: map[string]any{"service_key": id, "app": "wx1"},
		}
		if d := cmp.Diff(want, w.event); d != "" {
			t.Error(d)
		}
		w.down = auth.StorageUnavailable
		if _, err := servicekey.FollowFeed(t.Context(), &w, servicekey.Key{ID: id}, t0); !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("FollowFeed() error = %v, want storage_unavailable", err)
		}
	})
	t.Run("the store is not called for other keys", func(t *testing.T) {
		t.Parallel()
		for _, k := range []servicekey.Key{{ID: id, PinnedAt: t0}, {ID: id, PinnedApp: "wx2", PinnedAt: t0}, {ID: id, Apps: []string{"wx2"}}, {ID: id, Apps: []string{"wx1", "wx2"}}} {
			var w written
			got, err := servicekey.FollowFeed(t.Context(), &w, k, t0)
			if d := cmp.Diff(k, got); d != "" || err != nil || w.id != "" {
				t.Errorf("FollowFeed() error = %v, store called with %q; key (-want +got):\n%s", err, w.id, d)
			}
		}
	})
}

func TestPin(t *testing.T) {
	t.Parallel()
	const id = "mzxw6ytboi5dcmrt"
	who := auth.AuditEvent{At: t0, Actor: auth.ActorCLI, Reason: "why"}
	for _, app := range []string{"wx1", ""} {
		w := written{key: servicekey.Key{ID: id, Apps: []string{"wx1"}}}
		k, err := servicekey.Pin(t.Context(), &w, &w, id, app, who)
		want := who
		want.Action, want.Detail = auth.AuditServiceKeyPin, map[string]any{"service_key": id, "app": app}
		if d := cmp.Diff(want, w.event); d != "" || err != nil || k.PinnedApp != app {
			t.Errorf("Pin(%q) = %+v, %v: %s", app, k, err, d)
		}
	}
	w := written{key: servicekey.Key{ID: id, Apps: []string{"wx2"}}}
	for _, app := range []string{"wx1", "wx404"} {
		if _, err := servicekey.Pin(t.Context(), &w, &w, id, app, who); !errors.Is(err, auth.InvalidRequest) {
			t.Errorf("Pin(%q) error = %v, want invalid_request", app, err)
		}
	}
	if _, err := servicekey.Pin(t.Context(), &w, &w, "x", "wx1", who); !errors.Is(err, auth.NotFound) {
		t.Errorf("Pin() error = %v, want not_found", err)
	}
}
