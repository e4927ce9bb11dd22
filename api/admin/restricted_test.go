package admin_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/apitest"
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

// restrictedOperations says for every operation whether a key that is restricted to
// apps may use it for its apps. The test calls the others with the body.
var restrictedOperations = map[string]struct {
	may  bool
	body string
}{
	"POST /admin/v1/revocations": {may: true}, // but neither a person nor all

	"GET /admin/v1/service-keys":         {may: true},
	"POST /admin/v1/service-keys":        {may: true}, // a subset of its own scopes and apps
	"DELETE /admin/v1/service-keys/{id}": {may: true},
	"PATCH /admin/v1/service-keys/{id}":  {body: `{"pinned_app":"` + sessiontest.AppID + `"}`},

	"GET /admin/v1/signing-keys":               {},
	"POST /admin/v1/signing-keys/rotate":       {body: `{}`},
	"POST /admin/v1/signing-keys/{kid}/retire": {body: `{}`},

	"GET /admin/v1/persons":                    {},
	"POST /admin/v1/persons":                   {body: `{"external_id":"1001"}`},
	"POST /admin/v1/persons/import":            {body: `{"external_id":"1001"}`},
	"GET /admin/v1/persons/{id}":               {},
	"PATCH /admin/v1/persons/{id}":             {body: `{"name":"x"}`},
	"POST /admin/v1/persons/{id}/disable":      {body: `{}`},
	"POST /admin/v1/persons/{id}/enable":       {body: `{}`},
	"POST /admin/v1/persons/{id}/bind-tickets": {body: `{"app":"` + sessiontest.AppID + `"}`},

	"GET /admin/v1/identities":                 {may: true},
	"GET /admin/v1/identities/{uuid}":          {may: true},
	"DELETE /admin/v1/identities/{uuid}":       {may: true},
	"POST /admin/v1/identities/{uuid}/disable": {may: true},
	"POST /admin/v1/identities/{uuid}/enable":  {may: true},
	"POST /admin/v1/identities/{uuid}/bind":    {body: `{"person":"PERSON"}`},
	"POST /admin/v1/identities/{uuid}/unbind":  {may: true},
	"GET /admin/v1/identities/{uuid}/sessions": {may: true},
	"GET /admin/v1/sessions/{id}":              {may: true},
	"DELETE /admin/v1/sessions/{id}":           {may: true},

	"GET /admin/v1/apps":                   {may: true},
	"POST /admin/v1/apps":                  {body: `{"appid":"` + sessiontest.AppID + `","app_secret":"x"}`},
	"GET /admin/v1/apps/{appid}":           {may: true},
	"PATCH /admin/v1/apps/{appid}":         {may: true}, // within bounds, see above
	"POST /admin/v1/apps/{appid}/disable":  {may: true},
	"POST /admin/v1/apps/{appid}/enable":   {body: `{}`},
	"GET /admin/v1/binding-delays":         {},
	"DELETE /admin/v1/binding-delays/{id}": {},
	"GET /admin/v1/audit":                  {},
}

// TestRestrictedKeyOperations calls every operation that concerns more than the apps of
// a key, for an existing person and user. All apps share persons: a restricted key that
// bound one of its users to a person would be that person in the other apps.
func TestRestrictedKeyOperations(t *testing.T) {
	t.Parallel()
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, stores["sqlite"])
	person := w.person(t, w.client(t, "admin"), "1001")
	user := w.Login("alice").Session.Identity
	restricted := w.key(t, "admin service openid decrypt", sessiontest.AppID)
	for _, op := range contract.Operations(apitest.Admin) {
		method, path, _ := strings.Cut(op, " ")
		if !strings.HasPrefix(path, "/admin/") {
			continue
		}
		o, known := restrictedOperations[op]
		switch {
		case !known:
			t.Errorf("%s is missing in restrictedOperations: may a key that is restricted to apps use it?", op)
		case !o.may:
			path = strings.NewReplacer("{id}", person.ID.String(), "{uuid}", user.String(), "{kid}", "k", "{appid}", sessiontest.AppID).Replace(path)
			contentType := "application/json"
			if strings.HasSuffix(path, "/import") {
				contentType = "application/x-ndjson"
			}
			body := strings.Replace(o.body, "PERSON", person.ID.String(), 1)
			a := w.do(t, method, path, restricted.Key().Reveal(), contentType, body)
			if a.Status != http.StatusForbidden {
				t.Errorf("%s: %d %s, want 403", op, a.Status, a.Body)
			}
		}
	}
	i, err := w.Store.Identity(t.Context(), user, nil)
	if err != nil || i.Person != uuid.Nil {
		t.Errorf("the user is bound to %v (error %v), want no person", i.Person, err)
	}
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
