package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func personQuery() person.Query { return person.Query{Limit: 10} }

func TestIdentities(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": a user is found, bound, unbound, disabled, enabled and erased", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin openid")
			g := w.Login("alice")
			id := g.Session.Identity
			p := w.person(t, c, "1001")
			got, err := c.Identity(t.Context(), id)
			i := succeed(t, got, err)
			if i.UUID != id || i.App != sessiontest.AppID || i.OpenID == "" || i.Person != nil || i.Disabled || i.ErasedAt != nil {
				t.Fatalf("Identity() = %+v, want a live, unbound identity", got)
			}
			bound, err := c.BindIdentity(t.Context(), id, adminclient.BindIdentityRequest{Person: p.ID, Reason: "工单"})
			if b := succeed(t, bound, err); b.Person == nil || *b.Person != p.ID || *b.BoundBy != "admin" || b.BoundAt == nil {
				t.Errorf("BindIdentity() = %+v, want it bound to %s by admin", bound, p.ID)
			}
			for name, query := range map[string]adminclient.IdentityQuery{
				"uuid": {UUID: &id}, "openid": {OpenID: &i.OpenID}, "person": {Person: &p.ID}, "app": {App: ptr(sessiontest.AppID)},
				"two": {UUID: &id, Person: &p.ID},
			} {
				resp, err := c.ListIdentities(t.Context(), query)
				if d := cmp.Diff([]adminclient.Identity{*bound}, succeed(t, resp, err).Identities); d != "" {
					t.Errorf("found by %s (-want +got):\n%s", name, d)
				}
			}
			for name, query := range map[string]adminclient.IdentityQuery{
				"uuid": {UUID: &p.ID}, "unionid": {UnionID: ptr("u")}, "two that differ": {UUID: &id, Person: &id}, "another app": {App: ptr(sessiontest.OtherAppID)},
			} {
				resp, err := c.ListIdentities(t.Context(), query)
				if n := len(succeed(t, resp, err).Identities); n != 0 {
					t.Errorf("the query by %s finds %d identities, want 0", name, n)
				}
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("the token from before the binding: error = %v, want session_revoked", err)
			}
			next, err := w.Refresh(g.RefreshToken)
			if err != nil || next.Session.Person == nil || next.Session.Person.ID != p.ID {
				t.Fatalf("got %v, error %v", next.Session.Person, err)
			}
			unbound, err := c.UnbindIdentity(t.Context(), id, "")
			if u := succeed(t, unbound, err); u.Person != nil || u.BoundBy != nil {
				t.Errorf("UnbindIdentity() = %+v, want it unbound", unbound)
			}
			if next, err = w.Refresh(next.RefreshToken); err != nil || next.Session.Person != nil {
				t.Fatalf("got %v, error %v", next.Session.Person, err)
			}
			disabled, err := c.DisableIdentity(t.Context(), id, "")
			if !succeed(t, disabled, err).Disabled {
				t.Errorf("DisableIdentity() = %+v, want it disabled", disabled)
			}
			if _, err := w.Refresh(next.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("Refresh() error = %v", err)
			}
			enabled, err := c.EnableIdentity(t.Context(), id, "")
			if succeed(t, enabled, err).Disabled {
				t.Errorf("EnableIdentity() = %+v, want it enabled", enabled)
			}
			w.Login("alice")
			for range 2 {
				if err := c.EraseIdentity(t.Context(), id, "用户注销"); err != nil {
					t.Errorf("EraseIdentity() error = %v", err)
				}
			}
			got, err = c.Identity(t.Context(), id)
			if i := succeed(t, got, err); i.OpenID != "" || i.ErasedAt == nil {
				t.Errorf("Identity() = %+v, want it erased, without an openid", got)
			}
			_, err = c.DisableIdentity(t.Context(), id, "")
			failed(t, err, 404, auth.NotFound)
			if w.Login("alice").Session.Identity == id {
				t.Error("the erased account keeps its uuid after a new login")
			}
			// Enabling makes no cutoff.
			if w.CaughtUp.Load() != 5 {
				t.Errorf("the catch-up hook was called %d times", w.CaughtUp.Load())
			}
		})
		t.Run(kind+": a binding follows the app's policy", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			p := w.person(t, c, "1001")
			bind := func(id uuid.UUID) error {
				_, err := c.BindIdentity(t.Context(), id, adminclient.BindIdentityRequest{Person: p.ID})
				return err
			}
			first, second := w.Login("alice").Session.Identity, w.Login("bob").Session.Identity
			if err := bind(first); err != nil {
				t.Fatal(err)
			}
			failed(t, bind(second), 409, auth.PersonTaken)
			updated, err := c.UpdateApp(t.Context(), sessiontest.AppID, adminclient.AppUpdate{
				Policy: &adminclient.BindingPolicy{SecondIdentity: adminclient.SecondIdentityReplace},
			})
			succeed(t, updated, err)
			if err := bind(second); err != nil {
				t.Fatal(err)
			}
			got, err := c.Identity(t.Context(), first)
			if succeed(t, got, err).Person != nil {
				t.Errorf("Identity() = %+v, want it unbound", got)
			}
			_, err = c.BindIdentity(t.Context(), first, adminclient.BindIdentityRequest{Person: first})
			failed(t, err, 404, auth.NotFound)
			disabled, err := c.DisablePerson(t.Context(), p.ID, "")
			succeed(t, disabled, err)
			failed(t, bind(first), 403, auth.PersonDisabled)
		})
		t.Run(kind+": a user's sessions are listed and ended", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			var ids []uuid.UUID
			g := w.Login("alice")
			for range 3 {
				ids = append(ids, g.Session.ID)
				g = w.Login("alice")
			}
			ended, err := c.EndSession(t.Context(), ids[0], "")
			if r := succeed(t, ended, err); r.SessionsRevoked != 1 || r.CutoffID == nil {
				t.Errorf("EndSession() = %+v, want 1 session and a cutoff", ended)
			}
			one, err := c.Session(t.Context(), ids[0])
			if s := succeed(t, one, err); s.Live || s.EndedAt == nil || s.EndReason == nil || *s.EndReason != "revoked" || s.UUID != g.Session.Identity {
				t.Errorf("Session() = %+v, want it revoked, of the same user", one)
			}
			got := collect(t, c.Sessions(t.Context(), g.Session.Identity, adminclient.Page{Limit: 3}))
			if len(got) != 4 || got[0].ID != g.Session.ID || !got[0].Live || got[3].ID != ids[0] || got[3].Live {
				t.Errorf("Sessions() = %+v, want 4, the first live and the last ended", got)
			}
			_, err = c.Session(t.Context(), g.Session.Identity)
			failed(t, err, 404, auth.NotFound)
			_, err = c.EndSession(t.Context(), g.Session.Identity, "")
			failed(t, err, 404, auth.NotFound)
		})
		t.Run(kind+": a key that is restricted to apps sees only these apps", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			g := w.Login("alice")
			here, elsewhere := w.client(t, "admin openid", sessiontest.AppID), w.client(t, "admin openid", sessiontest.OtherAppID)
			p := w.person(t, w.client(t, "admin"), "1001")
			id := g.Session.Identity
			for name, call := range map[string]func(c *adminclient.Client) (any, error){
				"get": func(c *adminclient.Client) (any, error) {
					return c.Identity(t.Context(), id)
				},
				"sessions": func(c *adminclient.Client) (any, error) {
					return c.ListSessions(t.Context(), id, adminclient.Page{})
				},
				"session": func(c *adminclient.Client) (any, error) {
					return c.Session(t.Context(), g.Session.ID)
				},
				"app": func(c *adminclient.Client) (any, error) {
					return c.App(t.Context(), sessiontest.AppID)
				},
				"policy": func(c *adminclient.Client) (any, error) {
					return c.UpdateApp(t.Context(), sessiontest.AppID, adminclient.AppUpdate{Policy: &adminclient.BindingPolicy{}})
				},
				"unbind": func(c *adminclient.Client) (any, error) {
					return c.UnbindIdentity(t.Context(), id, "")
				},
				"disable": func(c *adminclient.Client) (any, error) {
					return c.DisableIdentity(t.Context(), id, "")
				},
				"enable": func(c *adminclient.Client) (any, error) {
					return c.EnableIdentity(t.Context(), id, "")
				},
			} {
				if _, err := call(elsewhere); adminclient.CodeOf(err) != adminclient.CodeNotFound {
					t.Errorf("%s with a key of another app: error = %v, want not_found", name, err)
				}
				if _, err := call(here); err != nil {
					t.Errorf("%s with a key of the app: error = %v", name, err)
				}
			}
			for name, c := range map[string]*adminclient.Client{"elsewhere": elsewhere, "here": here} {
				_, err := c.BindIdentity(t.Context(), id, adminclient.BindIdentityRequest{Person: p.ID})
				if adminclient.CodeOf(err) != adminclient.CodeInsufficientScope {
					t.Errorf("bind with a restricted key (%s): error = %v, want insufficient_scope", name, err)
				}
			}
			failed(t, elsewhere.EraseIdentity(t.Context(), id, ""), 404, auth.NotFound)
			list, err := elsewhere.ListIdentities(t.Context(), adminclient.IdentityQuery{})
			if n := len(succeed(t, list, err).Identities); n != 0 {
				t.Errorf("the key of another app lists %d users, want 0", n)
			}
			apps, err := elsewhere.ListApps(t.Context(), adminclient.Page{})
			if all := succeed(t, apps, err).Apps; len(all) != 1 || all[0].AppID != sessiontest.OtherAppID {
				t.Errorf("the list of apps is %+v, want only the key's app", all)
			}
		})
	}
}

func TestOpenIDScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	g := w.Login("alice")
	for _, scopes := range []string{"admin", "read", "read openid"} {
		c := w.client(t, scopes)
		may := strings.Contains(scopes, "openid")
		got, err := c.Identity(t.Context(), g.Session.Identity)
		if i := succeed(t, got, err); (i.OpenID != "") != may {
			t.Errorf("%s: Identity() = %+v, want an openid = %t", scopes, got, may)
		}
		for _, query := range []adminclient.IdentityQuery{{OpenID: ptr("x")}, {UnionID: ptr("x")}} {
			resp, err := c.ListIdentities(t.Context(), query)
			if may {
				succeed(t, resp, err)
			} else {
				failed(t, err, 403, auth.InsufficientScope)
			}
		}
	}
}

// TestPersonalIDs reads everything that the admin API shows about a person and a user.
func TestPersonalIDs(t *testing.T) {
	t.Parallel()
	const phone, masked = "+8613800001001", "+86138****1001"
	w := newWorld(t, stores["sqlite"])
	g := w.Login("alice")
	i, err := w.Store.Identity(t.Context(), g.Session.Identity, nil)
	if err != nil || i.OpenID() == "" {
		t.Fatalf("Identity() = %+v, error %v, want an openid", i, err)
	}
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, scopes := range []string{"admin", "read", "support", "persons"} {
		for _, scopes := range []string{scopes, scopes + " openid"} {
			keys[scopes] = w.key(t, scopes).Key().Reveal()
		}
	}
	var p adminclient.Person
	// called calls an operation for the person and the user, and returns the answer.
	called := func(scopes, method, path, body string) string {
		t.Helper()
		resource := map[bool]string{true: p.ID.String(), false: g.Session.ID.String()}[strings.Contains(path, "/persons")]
		path = strings.NewReplacer("{id}", resource, "{uuid}", g.Session.Identity.String(), "{appid}", g.Session.AppID).Replace(path)
		a := w.do(t, method, path, keys[scopes], "application/json", body)
		if a.Status >= http.StatusMultipleChoices {
			t.Fatalf("%s %s: status and body = %d %s, want success", method, path, a.Status, a.Body)
		}
		return a.Body
	}
	wantPhone := func(scopes, method, path, body string) {
		t.Helper()
		for with, want := range map[string]string{scopes: masked, scopes + " openid": phone} {
			if got := called(with, method, path, body); !strings.Contains(got, `"phone":"`+want+`"`) {
				t.Errorf("%s %s with %s: body = %s, want the phone %s", method, path, with, got, want)
			}
		}
	}
	created := called("persons", http.MethodPost, "/admin/v1/persons", liLei)
	if err := json.Unmarshal([]byte(created), &p); err != nil || p.Phone == nil || *p.Phone != masked {
		t.Errorf("createPerson answers %s, error %v, want the phone %s", created, err, masked)
	}
	wantPhone("persons", http.MethodPatch, "/admin/v1/persons/{id}", `{"phone":"13800001001"}`)
	wantPhone("support", http.MethodPost, "/admin/v1/persons/{id}/disable", "{}")
	wantPhone("support", http.MethodPost, "/admin/v1/persons/{id}/enable", "{}")
	wantPhone("read", http.MethodGet, "/admin/v1/persons/{id}", "")
	wantPhone("read", http.MethodGet, "/admin/v1/persons?phone=13800001001", "")
	called("support", http.MethodPost, "/admin/v1/identities/{uuid}/bind", `{"person":"`+p.ID.String()+`"}`)
	w.do(t, http.MethodPatch, "/admin/v1/persons/"+p.ID.String(), keys["persons"], "application/json",
		`{"phone":"`+masked+`"}`).want(t, 400, auth.InvalidRequest)

	for _, op := range contract.Operations(apitest.Admin) {
		if method, path, _ := strings.Cut(op, " "); method == http.MethodGet && strings.HasPrefix(path, "/admin/") {
			body := called("admin", method, path, "")
			for _, hidden := range []string{phone, phone[len("+86"):], i.OpenID()} {
				if strings.Contains(body, hidden) {
					t.Errorf("%s shows %s to a key without the scope openid: %s", op, hidden, body)
				}
			}
		}
	}
}

func TestApps(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": a policy and a webhook secret are set, and no answer has the secret", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			key, c := w.key(t, "admin"), w.client(t, "admin")
			path := "/admin/v1/apps/" + sessiontest.AppID
			patch := func(body string) answer {
				return w.do(t, http.MethodPatch, path, key.Key().Reveal(), "application/json", body)
			}
			const policy = `{"methods":["facts","webhook"],"facts":{"lookup":"no","check":["name"]},"webhook":{"url":"https://erp.example/b"},"second_identity":"join","self_unbind":true,"attributes":["dept"]}`
			patch(`{"policy":`+policy+`}`).want(t, 400, auth.InvalidRequest) // no secret yet
			secret := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
			a := patch(`{"policy":` + policy + `,"webhook_secret":"` + secret + `","reason":"r"}`)
			if a.Status != http.StatusOK || strings.Contains(a.Body, secret) || !strings.Contains(a.Body, `"webhook_secret_set":true`) {
				t.Fatalf("PATCH /admin/v1/apps/{app}: status and body = %d %s, want 200", a.Status, a.Body)
			}
			stored, err := w.Store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			want, err := auth.ParsePolicy([]byte(policy))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, stored.Policy); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
			opened, err := w.Sealer.Open(stored.SealedWebhookSecret, app.WebhookSecretAAD(stored.ID))
			if err != nil || string(opened) != secret {
				t.Errorf("the stored secret differs from the one that was set (error %v)", err)
			}
			got, err := c.App(t.Context(), sessiontest.AppID)
			if p := succeed(t, got, err).Policy; p.SecondIdentity != adminclient.SecondIdentityJoin || len(p.Methods) != 2 || p.Methods[0] != adminclient.BindingMethodFacts {
				t.Errorf("App() = %+v, want the policy that was set", got)
			}
			before := stored.UpdatedAt
			w.Clock.Advance(time.Minute)
			if a := patch(`{}`); a.Status != http.StatusOK {
				t.Errorf("PATCH /admin/v1/apps/{app}: status and body = %d %s, want 200", a.Status, a.Body)
			}
			if again, err := w.Store.App(t.Context(), sessiontest.AppID); err != nil || !again.UpdatedAt.Equal(before) {
				t.Errorf("an empty change changes the app (error %v)", err)
			}
			for name, body := range map[string]string{
				"an unknown member":                `{"epoch":1}`,
				"a policy's unknown member":        `{"policy":{"method":["facts"]}}`,
				"a nested unknown member":          `{"policy":{"facts":{"look_up":"no"}}}`,
				"a policy that contradicts itself": `{"policy":{"methods":["facts"]}}`,
				"an unknown method":                `{"policy":{"methods":["sms"]}}`,
				"a policy of null":                 `{"policy":null}`,
				"a policy that is a text":          `{"policy":"facts"}`,
				"a malformed secret":               `{"webhook_secret":"hunter2"}`,
				"a reason of control bytes":        `{"policy":{},"reason":"\u0007"}`,
				"a webhook on plain http":          `{"policy":{"webhook":{"url":"http://erp.example"}}}`,
				"a webhook at a private address":   `{"policy":{"webhook":{"url":"https://10.1.2.3/yufu"}}}`,
				"a truncated policy":               `{"policy":[`,
				"an attribute without a name":      `{"policy":{"attributes":[""]}}`,
			} {
				if a := patch(body); a.Status != http.StatusBadRequest {
					t.Errorf("%s: PATCH /admin/v1/apps/{app}: status and body = %d %s, want 400", name, a.Status, a.Body)
				}
			}
			w.do(t, http.MethodPatch, "/admin/v1/apps/wx404", key.Key().Reveal(), "application/json", `{}`).want(t, 404, auth.NotFound)
			w.do(t, http.MethodGet, "/admin/v1/apps/wx404", key.Key().Reveal(), "", "").want(t, 404, auth.NotFound)
			first := w.do(t, http.MethodGet, "/admin/v1/apps?limit=1", key.Key().Reveal(), "", "")
			if apps, _ := first.members(t)["apps"].([]any); len(apps) != 1 || first.members(t)["next"] == nil || strings.Contains(first.Body, "secret\":\"") {
				t.Fatalf("the first page is %s", first.Body)
			}
			all := collect(t, c.Apps(t.Context(), adminclient.Page{Limit: 1}))
			if len(all) != 2 || all[1].AppID != sessiontest.OtherAppID {
				t.Fatalf("the pages contain %+v, want two apps", all)
			}
			list, err := c.ListApps(t.Context(), adminclient.Page{Cursor: all[0].AppID})
			if page := succeed(t, list, err); len(page.Apps) != 1 || page.Apps[0].AppID != sessiontest.OtherAppID || page.Next != nil {
				t.Errorf("ListApps() = %+v, want only the second app and no next page", list)
			}
		})
	}
}

func TestBindingDelays(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": delays are listed and lifted", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			id := w.Login("alice").Session.Identity
			event := w.Event(auth.AuditBindingDelayed)
			for _, keys := range [][]auth.AttemptKey{
				{auth.IdentityAttempts(id), auth.AddressAttempts("2001:db8::/64", sessiontest.AppID), auth.AddressAttempts("192.0.2.1/32", sessiontest.AppID)},
			} {
				for range 5 {
					if _, err := w.Store.Reserve(t.Context(), keys, w.Clock.Now(), event); err != nil {
						t.Fatal(err)
					}
				}
			}
			list := func(p adminclient.DelayQuery) []adminclient.BindingDelay {
				t.Helper()
				resp, err := c.ListBindingDelays(t.Context(), p)
				return succeed(t, resp, err).BindingDelays
			}
			if n := len(list(adminclient.DelayQuery{})); n != 3 {
				t.Errorf("%d delays are listed, want 3", n)
			}
			delayed := list(adminclient.DelayQuery{Delayed: true})
			if len(delayed) != 1 || delayed[0].UUID == nil || *delayed[0].UUID != id || delayed[0].Failures != 5 || delayed[0].DelayedUntil == nil {
				t.Fatalf("ListDelays() = %+v, want one delayed user with 5 failures", delayed)
			}
			for address, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::7": "2001:db8::/64"} {
				if got := list(adminclient.DelayQuery{Address: &address}); len(got) != 1 || *got[0].Address != want || *got[0].App != sessiontest.AppID || got[0].DelayedUntil != nil {
					t.Errorf("%s: ListDelays() = %+v, want one of %s without a delay", address, got, want)
				}
			}
			if got := list(adminclient.DelayQuery{UUID: &id}); len(got) != 1 {
				t.Errorf("ListDelays() = %+v, want 1", got)
			}
			first, err := c.ListBindingDelays(t.Context(), adminclient.DelayQuery{Page: adminclient.Page{Limit: 2}})
			next := succeed(t, first, err).Next
			if next == nil {
				t.Fatal("there is no second page")
			}
			rest, err := c.ListBindingDelays(t.Context(), adminclient.DelayQuery{Page: adminclient.Page{Cursor: *next}})
			if n := len(succeed(t, rest, err).BindingDelays); n != 1 {
				t.Errorf("the second page has %d delays, want 1", n)
			}
			if all := collect(t, c.BindingDelays(t.Context(), adminclient.DelayQuery{Page: adminclient.Page{Limit: 2}})); len(all) != 3 {
				t.Errorf("the pages hold %d delays, want 3", len(all))
			}
			if err := c.LiftBindingDelay(t.Context(), delayed[0].ID, "user called"); err != nil {
				t.Errorf("LiftBindingDelay() error = %v", err)
			}
			failed(t, c.LiftBindingDelay(t.Context(), delayed[0].ID, ""), 404, auth.NotFound)
			if r, err := w.Store.Reserve(t.Context(), []auth.AttemptKey{auth.IdentityAttempts(id)}, w.Clock.Now(), event); err != nil || r.Wait != 0 {
				t.Errorf("after the lift the next attempt waits %s, error %v", r.Wait, err)
			}
			for _, raw := range []string{"value", "x:y", "identity:\x00", ""} {
				failed(t, c.LiftBindingDelay(t.Context(), base64.RawURLEncoding.EncodeToString([]byte(raw+"!")), ""), 404, auth.NotFound)
			}
			key := w.key(t, "read").Key().Reveal()
			for _, query := range []string{"address=x", "address=fe80::1%25eth0", "cursor=x", "uuid=1", fmt.Sprintf("uuid=%s&address=192.0.2.1", id)} {
				w.do(t, http.MethodGet, "/admin/v1/binding-delays?"+query, key, "", "").want(t, 400, auth.InvalidRequest)
			}
		})
	}
}
