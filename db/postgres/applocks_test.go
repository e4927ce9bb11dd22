package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// startUpdate changes the app in the background.
func (b *bed) startUpdate(change app.Change) <-chan error {
	return b.startAdmin(func(ctx context.Context) error {
		_, err := b.store.UpdateApp(ctx, appID, change, adminEvent(auth.AuditAppUpdated))
		return err
	})
}

// TestUpdateAppBesideAnotherTransaction checks that a change of an app that waits for
// another change is validated against the result of that one.
func TestUpdateAppBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	keepsHook := func(before auth.App) error {
		if before.Policy.Webhook.URL == "" {
			return auth.InsufficientScope
		}
		return nil
	}
	const hook = "https://erp.example/b"
	policy := auth.Policy{Webhook: auth.WebhookPolicy{URL: hook}, SelfUnbind: true}
	for name, tt := range map[string]struct {
		meanwhile string
		code      auth.Code
	}{
		"a policy narrowed meanwhile does not return":     {`update apps set policy = '{}' where appid = $1`, auth.InsufficientScope},
		"another field changed meanwhile keeps its value": {`update apps set signing_alg = 'EdDSA' where appid = $1`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.exec(b.raw, `update apps set policy = jsonb_build_object('webhook', jsonb_build_object('url', $2::text)) where appid = $1`, appID, hook)
			tx := b.begin()
			b.exec(tx, tt.meanwhile, appID)
			updated := b.startUpdate(app.Change{Policy: &policy, Check: keepsHook})
			b.untilWaiting(1, row)
			b.commit(tx)
			err := <-updated
			a, readErr := b.store.App(t.Context(), appID)
			wantNoError(t, readErr)
			events := b.number(b.raw, `select count(*) from audit where action = 'app.updated'`)
			if tt.code != "" {
				if !errors.Is(err, tt.code) || a.Policy.Webhook.URL != "" || events != 0 {
					t.Errorf("UpdateApp() error = %v, policy %+v, %d events; want %s and no change", err, a.Policy, events, tt.code)
				}
				return
			}
			if err != nil || a.SigningAlg != "EdDSA" || !a.Policy.SelfUnbind || events != 1 {
				t.Errorf("UpdateApp() error = %v, %d events, app %+v; want both changes", err, events, a)
			}
		})
	}
}

// TestDisableAppBesideAnUpdate checks that a concurrent switch and update of an app keep
// both changes.
func TestDisableAppBesideAnUpdate(t *testing.T) {
	t.Parallel()
	disable := func(b *bed) <-chan error {
		return b.startAdmin(func(ctx context.Context) error {
			_, err := b.store.DisableApp(ctx, appID, adminEvent(auth.AuditAppDisabled))
			return err
		})
	}
	update := func(b *bed) <-chan error { return b.startUpdate(app.Change{SigningAlg: "EdDSA"}) }
	for name, tt := range map[string]struct {
		meanwhile string
		start     func(b *bed) <-chan error
	}{
		"an update keeps the app disabled that was disabled meanwhile": {
			`update apps set disabled_at = now(), epoch = epoch + 1 where appid = $1`, update,
		},
		"a switch keeps the algorithm that was set meanwhile": {
			`update apps set signing_alg = 'EdDSA' where appid = $1`, disable,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			before, err := b.store.App(t.Context(), appID)
			wantNoError(t, err)
			tx := b.begin()
			b.exec(tx, tt.meanwhile, appID)
			done := tt.start(b)
			b.untilWaiting(1, row)
			b.commit(tx)
			wantNoError(t, <-done)
			a, err := b.store.App(t.Context(), appID)
			wantNoError(t, err)
			if !a.Disabled || a.SigningAlg != "EdDSA" || a.Epoch != before.Epoch+1 {
				t.Errorf("App() = %+v; want it disabled, with EdDSA and the next epoch", a)
			}
		})
	}
}
