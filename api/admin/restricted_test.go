package admin_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// Webhook answers create and change persons that all apps share, and apps read the
// attributes of persons. A key that is restricted to apps may do neither, so it must
// not set a policy that allows it.
func TestRestrictedKeyPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	all, restricted := w.key(t, "admin"), w.key(t, "admin", sessiontest.AppID)
	const path = "/admin/v1/apps/" + sessiontest.AppID
	secret := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	patch := func(key, body string) answer {
		return w.do(t, http.MethodPatch, path, key, "application/json", body)
	}
	refused := func(bodies ...string) {
		t.Helper()
		for _, body := range bodies {
			before, err := w.Store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			patch(restricted.Key().Reveal(), body).want(t, 403, auth.InsufficientScope)
			after, err := w.Store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("the refused %s changes the app (-before +after):\n%s", body, d)
			}
		}
	}
	accepted := func(key string, bodies ...string) {
		t.Helper()
		for _, body := range bodies {
			if a := patch(key, body); a.Status != http.StatusOK {
				t.Errorf("%s: PATCH /admin/v1/apps/{app}: status and body = %d %s, want 200", body, a.Status, a.Body)
			}
		}
	}
	const hook = `{"methods":["webhook"],"webhook":{"url":"https://erp.example/b"},"attributes":["dept"]}`

	refused(
		`{"policy":{"methods":["webhook"],"webhook":{"url":"https://thief.example"}},"webhook_secret":"`+secret+`"}`,
		`{"policy":{"webhook":{"url":"https://thief.example"}}}`,
		`{"policy":{"attributes":["salary"]}}`,
	)
	// A webhook whose URL an admin set, but whose method is off, is not called.
	accepted(all.Key().Reveal(), `{"policy":{"webhook":{"url":"https://erp.example/b"}},"webhook_secret":"`+secret+`"}`)
	refused(`{"policy":{"methods":["webhook"],"webhook":{"url":"https://erp.example/b"}}}`)

	accepted(all.Key().Reveal(), `{"policy":`+hook+`}`)
	refused(
		`{"policy":`+strings.Replace(hook, "erp", "thief", 1)+`}`,
		`{"policy":`+strings.Replace(hook, `"dept"`, `"dept","salary"`, 1)+`}`,
	)
	// Existing rights may stay, and fewer rights are always allowed.
	accepted(restricted.Key().Reveal(),
		`{"policy":`+strings.Replace(hook, `["webhook"]`, `["ticket","webhook"]`, 1)+`}`,
		`{"webhook_secret":"`+secret+`"}`,
		`{"policy":{"methods":["ticket"],"self_unbind":true}}`,
	)
	refused(`{"policy":` + hook + `}`)

	// Facts and phones bind a user of this app to any person.
	const (
		facts = `{"methods":["facts"],"facts":{"lookup":"employee_no","check":["name"]}}`
		phone = `{"methods":["phone"],"phone":{"check":["name"]}}`
	)
	for _, policy := range []string{facts, phone} {
		refused(`{"policy":` + policy + `}`)
	}
	accepted(all.Key().Reveal(), `{"policy":`+facts+`}`)
	refused(
		`{"policy":`+strings.Replace(facts, `"name"`, `"id_tail"`, 1)+`}`,
		`{"policy":`+strings.Replace(facts, `employee_no`, `nickname`, 1)+`}`,
	)
	accepted(restricted.Key().Reveal(),
		`{"policy":`+strings.Replace(facts, `"name"`, `"name","id_tail"`, 1)+`}`,
		`{"policy":{"methods":["ticket"],"second_identity":"join"}}`,
	)
	refused(`{"policy":` + facts + `}`)
	accepted(all.Key().Reveal(), `{"policy":`+phone+`}`)
	refused(
		`{"policy":{"methods":["phone"]}}`,
		`{"policy":{"methods":["phone"],"phone":{"create":true}}}`,
		`{"policy":{"phone":{"create":true}}}`,
	)
	accepted(restricted.Key().Reveal(), `{"policy":`+strings.Replace(phone, `"name"`, `"name","id_tail"`, 1)+`}`, `{"policy":{}}`)
}

// narrowed is an [app.Store] in which another admin changes the app right after
// each read.
type narrowed struct {
	app.Store
	then func()
}

func (n narrowed) App(ctx context.Context, appID string) (auth.App, error) {
	a, err := n.Store.App(ctx, appID)
	n.then()
	return a, err
}

// TestRestrictedKeyStalePolicy sends with a restricted key the policy that it read,
// while another admin removes the webhook and the attributes from it.
func TestRestrictedKeyStalePolicy(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			hook := auth.Policy{
				Methods: []auth.BindingMethod{auth.BindWebhook}, Webhook: auth.WebhookPolicy{URL: "https://erp.example/b"},
				Attributes: []string{"dept"},
			}
			set := func(p *auth.Policy) {
				_, err := w.Store.UpdateApp(t.Context(), sessiontest.AppID, app.Change{Policy: p, SealedWebhookSecret: []byte("sealed")}, w.Event(auth.AuditAppUpdated))
				if err != nil {
					t.Error(err)
				}
			}
			set(&hook)
			a := app.NewService(app.Config{
				Sealer: w.Sealer, Clock: w.now,
				Store: narrowed{w.Store, func() { set(&auth.Policy{}) }},
			})
			_, err := a.Update(t.Context(), sessiontest.AppID, app.Form{Policy: &hook}, auth.Caller{
				Apps: []string{sessiontest.AppID}, Actor: auth.ActorCLI,
			})
			if !errors.Is(err, auth.InsufficientScope) {
				t.Errorf("Update() error = %v, want insufficient_scope", err)
			}
			app, err := w.Store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(auth.Policy{}, app.Policy); d != "" {
				t.Errorf("the update restores the removed policy (-want +got):\n%s", d)
			}
		})
	}
}
