package session_test

import (
	"testing"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// appMemory is the apps as a replica remembers them.
type appMemory struct {
	apps map[string]auth.App
	away bool
}

func (m *appMemory) App(appID string) (auth.App, error) {
	a, ok := m.apps[appID]
	if !ok {
		return a, auth.AppUnknown
	}
	return a, nil
}

func (m *appMemory) Answering() bool { return !m.away }

func TestExchangeWithAppsInMemory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, w *world, m *appMemory)
		// reads is how many calls to the store the exchange makes.
		reads int64
		// platform is how many calls to the platform it makes.
		platform int
		want     auth.Code
	}{
		"a known app is not read": {func(*testing.T, *world, *appMemory) {}, 1, 1, ""},
		"an app that was registered a moment ago is read": {func(_ *testing.T, _ *world, m *appMemory) {
			clear(m.apps)
		}, 2, 1, ""},
		"an app that was enabled a moment ago is read": {func(_ *testing.T, _ *world, m *appMemory) {
			a := m.apps[sessiontest.AppID]
			a.Disabled = true
			m.apps[sessiontest.AppID] = a
		}, 2, 1, ""},
		"an app that was disabled a moment ago is refused": {func(t *testing.T, w *world, _ *appMemory) {
			must(w.store.DisableApp(t.Context(), sessiontest.AppID, w.Event(auth.AuditAppDisabled)))(t)
		}, 1, 1, auth.AppDisabled},
		"an app that memory does not know and that is disabled is refused": {func(t *testing.T, w *world, m *appMemory) {
			clear(m.apps)
			must(w.store.DisableApp(t.Context(), sessiontest.AppID, w.Event(auth.AuditAppDisabled)))(t)
		}, 1, 0, auth.AppDisabled},
		"a secret that was changed a moment ago is read and used": {func(t *testing.T, w *world, m *appMemory) {
			a := m.apps[sessiontest.AppID]
			a.SealedCredentials = map[string][]byte{auth.CredentialAppSecret: must(w.Sealer.Seal([]byte("old secret"), app.CredentialAAD(a.ID, auth.CredentialAppSecret)))(t)}
			m.apps[a.ID] = a
		}, 2, 2, ""},
		"a wrong secret is refused after one call": {func(t *testing.T, w *world, m *appMemory) {
			wrong := map[string][]byte{auth.CredentialAppSecret: must(w.Sealer.Seal([]byte("wrong secret"), app.CredentialAAD(sessiontest.AppID, auth.CredentialAppSecret)))(t)}
			m.apps[sessiontest.AppID] = must(w.store.UpdateApp(t.Context(), sessiontest.AppID, app.Change{SealedCredentials: wrong}, w.Event(auth.AuditAppUpdated)))(t)
		}, 1, 1, auth.PlatformMisconfigured},
		"a code is not used up while the database is away": {func(_ *testing.T, w *world, m *appMemory) {
			m.away = true
			w.store.down.Store(true)
		}, 1, 0, auth.StorageUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			m := &appMemory{apps: map[string]auth.App{sessiontest.AppID: must(w.store.App(t.Context(), sessiontest.AppID))(t)}}
			config := w.Config
			config.Apps = m
			service := must(session.NewService(config))(t)
			c.prepare(t, w, m)
			w.store.calls.Store(0)
			_, err := service.Exchange(t.Context(), session.ExchangeRequest{
				ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode("alice")),
			})
			if got := auth.CodeOf(err); got != c.want || (c.want == "") != (err == nil) {
				t.Errorf("Exchange() error = %v, want %q", err, c.want)
			}
			if got := w.store.calls.Load(); got != c.reads {
				t.Errorf("Exchange() made %d calls to the store, want %d", got, c.reads)
			}
			if got := len(w.Simulator.Calls()); got != c.platform {
				t.Errorf("Exchange() made %d calls to the platform, want %d", got, c.platform)
			}
		})
	}
}
