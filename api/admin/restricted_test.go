package admin_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// A webhook's answers create and change persons of whatever app, and attributes
// are read of them: a key that is restricted to apps does neither, so it must not
// give itself the means.
func TestAPolicyGivesARestrictedKeyNoPersons(t *testing.T) {
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
			before, err := w.store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			patch(restricted.Key().Reveal(), body).want(t, 403, auth.InsufficientScope)
			after, err := w.store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("%s changes (-before +after):\n%s", body, d)
			}
		}
	}
	taken := func(key string, bodies ...string) {
		t.Helper()
		for _, body := range bodies {
			if a := patch(key, body); a.Status != http.StatusOK {
				t.Errorf("%s: %d %s", body, a.Status, a.Body)
			}
		}
	}
	const hook = `{"methods":["webhook"],"webhook":{"url":"https://erp.example/b"},"attributes":["dept"]}`

	refused(
		`{"policy":{"methods":["webhook"],"webhook":{"url":"https://thief.example"}},"webhook_secret":"`+secret+`"}`,
		`{"policy":{"webhook":{"url":"https://thief.example"}}}`,
		`{"policy":{"attributes":["salary"]}}`,
	)
	// Its address alone, which an admin set, does not let it be asked.
	taken(all.Key().Reveal(), `{"policy":{"webhook":{"url":"https://erp.example/b"}},"webhook_secret":"`+secret+`"}`)
	refused(`{"policy":{"methods":["webhook"],"webhook":{"url":"https://erp.example/b"}}}`)

	taken(all.Key().Reveal(), `{"policy":`+hook+`}`)
	refused(
		`{"policy":`+strings.Replace(hook, "erp", "thief", 1)+`}`,
		`{"policy":`+strings.Replace(hook, `"dept"`, `"dept","salary"`, 1)+`}`,
	)
	// What is so already may stay, and less is always allowed.
	taken(restricted.Key().Reveal(),
		`{"policy":`+strings.Replace(hook, `["webhook"]`, `["ticket","webhook"]`, 1)+`}`,
		`{"webhook_secret":"`+secret+`"}`,
		`{"policy":{"methods":["ticket"],"self_unbind":true}}`,
	)
	refused(`{"policy":` + hook + `}`)
}

// narrowed is an [auth.AppStore] where another admin changes the app right after it
// was read.
type narrowed struct {
	auth.AppStore
	then func()
}

func (n narrowed) App(ctx context.Context, appID string) (auth.App, error) {
	a, err := n.AppStore.App(ctx, appID)
	n.then()
	return a, err
}

// TestARestrictedKeyBringsNothingBack has a restricted key send the policy that it
// read, while another admin takes the webhook and the attributes out of it.
func TestARestrictedKeyBringsNothingBack(t *testing.T) {
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
				_, err := w.store.UpdateApp(t.Context(), sessiontest.AppID, auth.AppChange{Policy: p, SealedWebhookSecret: []byte("sealed")}, w.Event(auth.AuditAppUpdated))
				if err != nil {
					t.Error(err)
				}
			}
			set(&hook)
			a := binding.NewAdmin(binding.AdminConfig{
				Store: w.store, Facts: w.facts, Sealer: w.Sealer, Clock: w.Clock.Now,
				Apps: narrowed{w.store, func() { set(&auth.Policy{}) }},
			})
			_, err := a.UpdateApp(t.Context(), sessiontest.AppID, binding.AppForm{Policy: &hook}, binding.Caller{
				Apps: []string{sessiontest.AppID}, Actor: auth.ActorCLI,
			})
			if !errors.Is(err, auth.InsufficientScope) {
				t.Errorf("error %v, want insufficient_scope", err)
			}
			app, err := w.store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(auth.Policy{}, app.Policy); d != "" {
				t.Errorf("what was taken from the policy is back (-want +got):\n%s", d)
			}
		})
	}
}
