package app_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

var now = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)

// keys is a [app.Keys] whose keys sign from a given time.
type keys struct {
	from  time.Time
	asked []string
}

func (k *keys) EnsureKeys(_ context.Context, alg string, _ auth.AuditEvent) (time.Time, error) {
	k.asked = append(k.asked, alg)
	return k.from, nil
}

// world is the service over a real database.
type world struct {
	*app.Service
	store  *sqlite.Store
	sealer *seal.Ring
	keys   *keys
}

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "yufu.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := store.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.ParseRing(seal.GenerateFile())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{store: store, sealer: sealer, keys: &keys{from: now.Add(time.Hour)}}
	w.Service = app.NewService(app.Config{
		Store: store, Sealer: sealer, Keys: w.keys,
		CheckWebhookURL: func(url string) error {
			if strings.Contains(url, "10.1.2.3") {
				return auth.Invalid("this address is not asked")
			}
			return nil
		},
		Clock: func(context.Context) (time.Time, error) { return now, nil },
	})
	return w
}

func ptr[T any](v T) *T { return &v }

// by are callers.
var (
	operator   = auth.Caller{Actor: auth.ActorCLI, Reason: "because", RequestID: "req-1"}
	restricted = auth.Caller{Actor: auth.ActorServiceKey("k"), Apps: []string{"wx1", "wx2"}}
)

// registration returns an app with the smallest form.
func registration(id string) app.Registration {
	return app.Registration{ID: id, Platform: auth.PlatformWeChat, Form: app.Form{Secret: ptr(auth.Secret("hunter2"))}}
}

func (w *world) register(t *testing.T, r app.Registration) auth.App {
	t.Helper()
	done, err := w.Register(t.Context(), r, operator)
	if err != nil {
		t.Fatalf("Register() error = %v", err)
	}
	return done.App
}

func hookPolicy(url string) *auth.Policy {
	return &auth.Policy{Methods: []auth.BindingMethod{auth.BindWebhook}, Webhook: auth.WebhookPolicy{URL: url}}
}

const hookURL = "https://erp.example/bind"

func TestRegister(t *testing.T) {
	t.Parallel()
	t.Run("all members of the form are stored, with the secrets sealed for this app", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		r := registration("wx1")
		hookSecret := webhook.NewSecret()
		r.Audiences, r.Policy, r.WebhookSecret = &[]string{"orders"}, hookPolicy(hookURL), &hookSecret
		done, err := w.Register(t.Context(), r, operator)
		if err != nil {
			t.Fatalf("Register() error = %v", err)
		}
		if d := cmp.Diff([]string{"app_secret", "audiences", "policy", "webhook_secret"}, done.Changed); d != "" {
			t.Errorf("Changed (-want +got):\n%s", d)
		}
		got, err := w.store.App(t.Context(), "wx1")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(got, done.App); d != "" {
			t.Errorf("the answer differs from the stored app (-stored +answer):\n%s", d)
		}
		if got.SigningAlg != auth.DefaultSigningAlg || got.Disabled || got.Policy.Webhook.URL != hookURL || got.Audiences[0] != "orders" {
			t.Errorf("App() = %+v", got)
		}
		for name, s := range map[string]struct {
			sealed, aad []byte
			want        string
		}{
			"app_secret":     {got.SealedCredentials[auth.CredentialAppSecret], app.CredentialAAD("wx1", auth.CredentialAppSecret), "hunter2"},
			"webhook_secret": {got.SealedWebhookSecret, app.WebhookSecretAAD("wx1"), hookSecret.Reveal()},
		} {
			if opened, err := w.sealer.Open(s.sealed, s.aad); err != nil || string(opened) != s.want {
				t.Errorf("%s does not open: %v", name, err)
			}
			for _, aad := range [][]byte{app.CredentialAAD("wx2", auth.CredentialAppSecret), app.CredentialAAD("wx1", "other"), app.WebhookSecretAAD("wx2")} {
				if _, err := w.sealer.Open(s.sealed, aad); err == nil {
					t.Errorf("%s opens for another app or another name", name)
				}
			}
		}
		if _, err := w.sealer.Open(got.SealedCredentials[auth.CredentialAppSecret], app.WebhookSecretAAD("wx1")); err == nil {
			t.Error("app_secret opens in the column of the webhook's secret")
		}
	})
	t.Run("an invalid form names the field and registers nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for name, c := range map[string]struct {
			change func(r *app.Registration)
			field  string
		}{
			"no appid":                     {func(r *app.Registration) { r.ID = "" }, "appid"},
			"an appid with a dash":         {func(r *app.Registration) { r.ID = "wx-1" }, "appid"},
			"an unknown platform":          {func(r *app.Registration) { r.Platform = "douyin" }, "platform"},
			"no secret":                    {func(r *app.Registration) { r.Secret = nil }, "app_secret"},
			"an empty secret":              {func(r *app.Registration) { *r.Secret = "" }, "app_secret"},
			"a secret with a space":        {func(r *app.Registration) { *r.Secret = "hunter2 x" }, "app_secret"},
			"a secret of two lines":        {func(r *app.Registration) { *r.Secret = "hunter2\nx" }, "app_secret"},
			"a secret that is not ASCII":   {func(r *app.Registration) { *r.Secret = "hunter2密" }, "app_secret"},
			"a secret that is too long":    {func(r *app.Registration) { *r.Secret = auth.Secret("hunter2" + strings.Repeat("a", app.MaxSecretLen)) }, "app_secret"},
			"an empty audience":            {func(r *app.Registration) { r.Audiences = &[]string{""} }, "audiences"},
			"an unknown algorithm":         {func(r *app.Registration) { r.SigningAlg = "none" }, "signing_alg"},
			"a policy against itself":      {func(r *app.Registration) { r.Policy = &auth.Policy{Methods: []auth.BindingMethod{auth.BindFacts}} }, "policy"},
			"a webhook without a secret":   {func(r *app.Registration) { r.Policy = hookPolicy(hookURL) }, "webhook_secret"},
			"a malformed webhook's secret": {func(r *app.Registration) { r.WebhookSecret = ptr(auth.Secret("whsec_hunter2")) }, "webhook_secret"},
			"a webhook that is not asked": {func(r *app.Registration) {
				r.Policy, r.WebhookSecret = hookPolicy("https://10.1.2.3/bind"), ptr(webhook.NewSecret())
			}, "policy"},
		} {
			r := registration("wx1")
			r.SigningAlg = "EdDSA"
			c.change(&r)
			_, err := w.Register(t.Context(), r, operator)
			var field *app.FieldError
			if !errors.As(err, &field) || field.Field != c.field || !errors.Is(err, auth.InvalidRequest) {
				t.Errorf("%s: Register() error = %v, want one about %s", name, err, c.field)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: the error quotes the secret", name)
			}
		}
		if all, err := w.store.Apps(t.Context()); err != nil || len(all) != 0 || len(w.keys.asked) != 0 {
			t.Errorf("%d apps, keys asked for %v, error %v; want nothing", len(all), w.keys.asked, err)
		}
	})
	t.Run("a registered appid is refused without making keys", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		before := w.register(t, registration("wx1"))
		r := registration("wx1")
		r.SigningAlg, *r.Secret = "EdDSA", "other"
		if _, err := w.Register(t.Context(), r, operator); !errors.Is(err, auth.AppExists) {
			t.Errorf("Register() error = %v, want %v", err, auth.AppExists)
		}
		if after, err := w.store.App(t.Context(), "wx1"); err != nil || cmp.Diff(before, after) != "" || len(w.keys.asked) != 0 {
			t.Errorf("the app changed, or keys were made: %v, %v", w.keys.asked, err)
		}
	})
	t.Run("one of several concurrent calls registers the app", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = w.Register(t.Context(), registration("wx1"), operator) })
		}
		wg.Wait()
		registered := 0
		for _, err := range errs {
			switch {
			case err == nil:
				registered++
			case !errors.Is(err, auth.AppExists):
				t.Errorf("Register() error = %v, want %v", err, auth.AppExists)
			}
		}
		if registered != 1 {
			t.Errorf("%d calls registered the app, want 1", registered)
		}
	})
	t.Run("a caller that is restricted to apps is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if _, err := w.Register(t.Context(), registration("wx1"), restricted); !errors.Is(err, auth.InsufficientScope) {
			t.Errorf("Register() error = %v, want %v", err, auth.InsufficientScope)
		}
	})
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	t.Run("the keys of a new algorithm are made first, and the answer has their start", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.register(t, registration("wx1"))
		done, err := w.Update(t.Context(), "wx1", app.Form{SigningAlg: "EdDSA"}, operator)
		if err != nil || !done.SignsFrom.Equal(w.keys.from) || done.App.SigningAlg != "EdDSA" {
			t.Errorf("Update() = %+v, %v; want EdDSA from %s on", done, err, w.keys.from)
		}
		w.keys.from = now
		if done, err = w.Update(t.Context(), "wx1", app.Form{SigningAlg: "RS256"}, operator); err != nil || !done.SignsFrom.IsZero() {
			t.Errorf("SignsFrom = %s, %v; want zero for keys that sign already", done.SignsFrom, err)
		}
		if done, err = w.Update(t.Context(), "wx1", app.Form{SigningAlg: auth.DefaultSigningAlg}, operator); err != nil || !done.SignsFrom.IsZero() {
			t.Errorf("SignsFrom = %s, %v; want zero for the default", done.SignsFrom, err)
		}
		if d := cmp.Diff([]string{"EdDSA", "RS256"}, w.keys.asked); d != "" {
			t.Errorf("keys that were made (-want +got):\n%s", d)
		}
	})
	t.Run("an empty form changes nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		before := w.register(t, registration("wx1"))
		done, err := w.Update(t.Context(), "wx1", app.Form{}, operator)
		if err != nil || len(done.Changed) != 0 || cmp.Diff(before, done.App) != "" {
			t.Errorf("Update() = %+v, %v; want the app as it was", done, err)
		}
	})
	t.Run("an unknown app is refused without making keys", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if _, err := w.Update(t.Context(), "wx1", app.Form{SigningAlg: "EdDSA"}, operator); !errors.Is(err, auth.NotFound) || len(w.keys.asked) != 0 {
			t.Errorf("Update() error = %v, keys %v; want %v and no keys", err, w.keys.asked, auth.NotFound)
		}
	})
	t.Run("a webhook without a secret is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.register(t, registration("wx1"))
		if _, err := w.Update(t.Context(), "wx1", app.Form{Policy: hookPolicy(hookURL)}, operator); !errors.Is(err, app.ErrNoWebhookSecret) {
			t.Errorf("Update() error = %v, want %v", err, app.ErrNoWebhookSecret)
		}
	})
}

func TestRestrictedCaller(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) *world {
		w := newWorld(t)
		for _, id := range []string{"wx1", "wx3"} {
			r := registration(id)
			r.Audiences, r.SigningAlg = &[]string{"a", "b"}, "EdDSA"
			w.register(t, r)
		}
		w.keys.asked = nil
		return w
	}
	for name, c := range map[string]struct {
		form app.Form
		want auth.Code
	}{
		"may replace the AppSecret":                {app.Form{Secret: ptr(auth.Secret("new"))}, ""},
		"may remove an audience":                   {app.Form{Audiences: &[]string{"b"}}, ""},
		"may name the algorithm that there is":     {app.Form{SigningAlg: "EdDSA"}, ""},
		"may change what concerns its own users":   {app.Form{Policy: &auth.Policy{SelfUnbind: true}}, ""},
		"may not add an audience":                  {app.Form{Audiences: &[]string{"a", "b", "c"}}, auth.InsufficientScope},
		"may not replace an audience":              {app.Form{Audiences: &[]string{"c"}}, auth.InsufficientScope},
		"may not choose another algorithm":         {app.Form{SigningAlg: "RS256"}, auth.InsufficientScope},
		"may not go back to the default algorithm": {app.Form{SigningAlg: auth.DefaultSigningAlg}, auth.InsufficientScope},
		"may not show attributes of persons":       {app.Form{Policy: &auth.Policy{Attributes: []string{"dept"}}}, auth.InsufficientScope},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t)
			if _, err := w.Update(t.Context(), "wx1", c.form, restricted); auth.CodeOf(err) != c.want {
				t.Errorf("Update() error = %v, want %q", err, c.want)
			}
			if c.want != "" && len(w.keys.asked) != 0 {
				t.Errorf("a refused change made keys: %v", w.keys.asked)
			}
			if _, err := w.Update(t.Context(), "wx3", c.form, restricted); !errors.Is(err, auth.NotFound) {
				t.Errorf("Update() of another app error = %v, want %v", err, auth.NotFound)
			}
		})
	}
	t.Run("a restricted caller can disable its own app, but not enable it or change others", func(t *testing.T) {
		t.Parallel()
		w := open(t)
		if a, err := w.Disable(t.Context(), "wx1", restricted); err != nil || !a.Disabled {
			t.Errorf("Disable() = %+v, %v; want it disabled", a, err)
		}
		for name, err := range map[string]error{
			"Disable() of another app": second(w.Disable(t.Context(), "wx3", restricted)),
			"App() of another app":     second(w.App(t.Context(), "wx3", restricted)),
		} {
			if !errors.Is(err, auth.NotFound) {
				t.Errorf("%s error = %v, want %v", name, err, auth.NotFound)
			}
		}
		for _, id := range []string{"wx1", "wx3"} {
			if _, err := w.Enable(t.Context(), id, restricted); !errors.Is(err, auth.InsufficientScope) {
				t.Errorf("Enable(%s) error = %v, want %v", id, err, auth.InsufficientScope)
			}
		}
		if a, err := w.store.App(t.Context(), "wx3"); err != nil || a.Disabled {
			t.Errorf("the other app is %+v, %v; want it enabled", a, err)
		}
		if all, err := w.Apps(t.Context(), restricted); err != nil || len(all) != 1 || all[0].ID != "wx1" {
			t.Errorf("Apps() = %+v, %v; want wx1", all, err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestDisable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	epoch := w.register(t, registration("wx1")).Epoch
	a, err := w.Disable(t.Context(), "wx1", operator)
	if err != nil || !a.Disabled || a.Epoch <= epoch {
		t.Errorf("Disable() = %+v, %v; want it disabled and a higher epoch", a, err)
	}
	again, err := w.Disable(t.Context(), "wx1", operator)
	if err != nil || cmp.Diff(a, again) != "" {
		t.Errorf("Disable() again = %+v, %v; want the same", again, err)
	}
	// A change leaves it disabled.
	if done, err := w.Update(t.Context(), "wx1", app.Form{Secret: ptr(auth.Secret("new"))}, operator); err != nil || !done.App.Disabled {
		t.Errorf("Update() = %+v, %v; want it disabled still", done.App, err)
	}
	a, err = w.Enable(t.Context(), "wx1", operator)
	if err != nil || a.Disabled || a.Epoch <= again.Epoch {
		t.Errorf("Enable() = %+v, %v; want it enabled and a higher epoch", a, err)
	}
	for _, change := range []func(context.Context, string, auth.Caller) (auth.App, error){w.Disable, w.Enable} {
		if _, err := change(t.Context(), "wx404", operator); !errors.Is(err, auth.NotFound) {
			t.Errorf("a change of an unknown app: error = %v, want %v", err, auth.NotFound)
		}
		long := auth.Caller{Actor: auth.ActorCLI, Reason: strings.Repeat("a", auth.MaxReasonLen+1)}
		if _, err := change(t.Context(), "wx1", long); !errors.Is(err, auth.InvalidRequest) {
			t.Errorf("a change with a long reason: error = %v, want %v", err, auth.InvalidRequest)
		}
	}
}
