package admin_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

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
			got, err := c.GetIdentityWithResponse(t.Context(), id)
			i := succeed(t, got, err).JSON200
			if i.UUID != id || i.App != sessiontest.AppID || i.OpenID == nil || i.Person != nil || i.Disabled || i.ErasedAt != nil {
				t.Fatalf("%s", got.Body)
			}
			bound, err := c.BindIdentityWithResponse(t.Context(), id, adminclient.BindIdentityRequest{Person: p.ID, Reason: ptr("工单")})
			if b := succeed(t, bound, err).JSON200; b.Person == nil || *b.Person != p.ID || *b.BoundBy != "admin" || b.BoundAt == nil {
				t.Errorf("%s", bound.Body)
			}
			for name, query := range map[string]adminclient.ListIdentitiesParams{
				"uuid": {UUID: &id}, "openid": {Openid: i.OpenID}, "person": {Person: &p.ID}, "app": {App: ptr(sessiontest.AppID)},
				"two": {UUID: &id, Person: &p.ID},
			} {
				resp, err := c.ListIdentitiesWithResponse(t.Context(), &query)
				if d := cmp.Diff([]adminclient.IdentityRecord{*bound.JSON200}, succeed(t, resp, err).JSON200.Identities); d != "" {
					t.Errorf("found by %s: %s", name, d)
				}
			}
			for name, query := range map[string]adminclient.ListIdentitiesParams{
				"uuid": {UUID: &p.ID}, "unionid": {Unionid: ptr("u")}, "two that differ": {UUID: &id, Person: &id}, "another app": {App: ptr(sessiontest.OtherAppID)},
			} {
				resp, err := c.ListIdentitiesWithResponse(t.Context(), &query)
				if n := len(succeed(t, resp, err).JSON200.Identities); n != 0 {
					t.Errorf("%s finds %d", name, n)
				}
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("the token from before: %v", err)
			}
			next, err := w.Refresh(g.RefreshToken)
			if err != nil || next.Session.Person == nil || next.Session.Person.ID != p.ID {
				t.Fatalf("%v, %v", next.Session.Person, err)
			}
			unbound, err := c.UnbindIdentityWithResponse(t.Context(), id, adminclient.ReasonRequest{})
			if u := succeed(t, unbound, err).JSON200; u.Person != nil || u.BoundBy != nil {
				t.Errorf("%s", unbound.Body)
			}
			if next, err = w.Refresh(next.RefreshToken); err != nil || next.Session.Person != nil {
				t.Fatalf("%v, %v", next.Session.Person, err)
			}
			disabled, err := c.DisableIdentityWithResponse(t.Context(), id, adminclient.ReasonRequest{})
			if !succeed(t, disabled, err).JSON200.Disabled {
				t.Errorf("%s", disabled.Body)
			}
			if _, err := w.Refresh(next.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("refresh: %v", err)
			}
			enabled, err := c.EnableIdentityWithResponse(t.Context(), id, adminclient.ReasonRequest{})
			if succeed(t, enabled, err).JSON200.Disabled {
				t.Errorf("%s", enabled.Body)
			}
			w.Login("alice")
			for range 2 {
				erased, err := c.EraseIdentityWithResponse(t.Context(), id, &adminclient.EraseIdentityParams{Reason: ptr("用户注销")})
				if succeed(t, erased, err).StatusCode() != http.StatusNoContent {
					t.Errorf("%d", erased.StatusCode())
				}
			}
			got, err = c.GetIdentityWithResponse(t.Context(), id)
			if i := succeed(t, got, err).JSON200; i.OpenID != nil || i.ErasedAt == nil {
				t.Errorf("%s", got.Body)
			}
			again, err := c.DisableIdentityWithResponse(t.Context(), id, adminclient.ReasonRequest{})
			failed(t, again, err, 404, auth.NotFound)
			if w.Login("alice").Session.Identity == id {
				t.Error("the account has its old uuid")
			}
			if w.applied.Load() != 6 {
				t.Errorf("the hook was called %d times", w.applied.Load())
			}
		})
		t.Run(kind+": a binding follows the app's policy", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			p := w.person(t, c, "1001")
			bind := func(id uuid.UUID) answered {
				t.Helper()
				resp, err := c.BindIdentityWithResponse(t.Context(), id, adminclient.BindIdentityRequest{Person: p.ID})
				if err != nil {
					t.Fatal(err)
				}
				return resp
			}
			first, second := w.Login("alice").Session.Identity, w.Login("bob").Session.Identity
			succeed(t, bind(first), nil)
			failed(t, bind(second), nil, 409, auth.PersonTaken)
			updated, err := c.UpdateAppWithResponse(t.Context(), sessiontest.AppID, adminclient.AppUpdate{
				Policy: &adminclient.BindingPolicy{SecondIdentity: ptr(adminclient.SecondReplaces)},
			})
			succeed(t, updated, err)
			succeed(t, bind(second), nil)
			got, err := c.GetIdentityWithResponse(t.Context(), first)
			if succeed(t, got, err).JSON200.Person != nil {
				t.Errorf("%s", got.Body)
			}
			none, err := c.BindIdentityWithResponse(t.Context(), first, adminclient.BindIdentityRequest{Person: first})
			failed(t, none, err, 404, auth.NotFound)
			disabled, err := c.DisablePersonWithResponse(t.Context(), p.ID, adminclient.ReasonRequest{})
			succeed(t, disabled, err)
			failed(t, bind(first), nil, 403, auth.PersonDisabled)
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
			ended, err := c.EndSessionByAdminWithResponse(t.Context(), ids[0], nil)
			if r := succeed(t, ended, err).JSON200; r.SessionsRevoked != 1 || r.CutoffID == nil {
				t.Errorf("%s", ended.Body)
			}
			one, err := c.GetSessionWithResponse(t.Context(), ids[0])
			if s := succeed(t, one, err).JSON200; s.Live || s.EndedAt == nil || s.EndReason == nil || *s.EndReason != "revoked" || s.UUID != g.Session.Identity {
				t.Errorf("%s", one.Body)
			}
			var (
				got    []adminclient.SessionRecord
				cursor *string
			)
			for {
				resp, err := c.ListIdentitySessionsWithResponse(t.Context(), g.Session.Identity, &adminclient.ListIdentitySessionsParams{Limit: ptr(3), Cursor: cursor})
				page := succeed(t, resp, err).JSON200
				got = append(got, page.Sessions...)
				if cursor = page.Next; cursor == nil {
					break
				}
			}
			if len(got) != 4 || got[0].ID != g.Session.ID || !got[0].Live || got[3].ID != ids[0] || got[3].Live {
				t.Errorf("%+v", got)
			}
			none, err := c.GetSessionWithResponse(t.Context(), g.Session.Identity)
			failed(t, none, err, 404, auth.NotFound)
			noEnd, err := c.EndSessionByAdminWithResponse(t.Context(), g.Session.Identity, nil)
			failed(t, noEnd, err, 404, auth.NotFound)
		})
		t.Run(kind+": a key that is restricted to apps sees theirs alone", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			g := w.Login("alice")
			here, elsewhere := w.client(t, "admin openid", sessiontest.AppID), w.client(t, "admin openid", sessiontest.OtherAppID)
			p := w.person(t, w.client(t, "admin"), "1001")
			id := g.Session.Identity
			for name, call := range map[string]func(c *adminclient.ClientWithResponses) (answered, error){
				"get": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.GetIdentityWithResponse(t.Context(), id)
				},
				"sessions": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.ListIdentitySessionsWithResponse(t.Context(), id, nil)
				},
				"session": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.GetSessionWithResponse(t.Context(), g.Session.ID)
				},
				"app": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.GetAppWithResponse(t.Context(), sessiontest.AppID)
				},
				"policy": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.UpdateAppWithResponse(t.Context(), sessiontest.AppID, adminclient.AppUpdate{Policy: &adminclient.BindingPolicy{}})
				},
				"unbind": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.UnbindIdentityWithResponse(t.Context(), id, adminclient.ReasonRequest{})
				},
				"disable": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.DisableIdentityWithResponse(t.Context(), id, adminclient.ReasonRequest{})
				},
				"enable": func(c *adminclient.ClientWithResponses) (answered, error) {
					return c.EnableIdentityWithResponse(t.Context(), id, adminclient.ReasonRequest{})
				},
			} {
				a, err := call(elsewhere)
				if a.StatusCode() != http.StatusNotFound {
					t.Errorf("%s elsewhere: %d, %v", name, a.StatusCode(), err)
				}
				a, err = call(here)
				if a.StatusCode() != http.StatusOK {
					t.Errorf("%s here: %d %s, %v", name, a.StatusCode(), a.GetBody(), err)
				}
			}
			for name, c := range map[string]*adminclient.ClientWithResponses{"elsewhere": elsewhere, "here": here} {
				bound, err := c.BindIdentityWithResponse(t.Context(), id, adminclient.BindIdentityRequest{Person: p.ID})
				if err != nil || bound.StatusCode() != http.StatusForbidden {
					t.Errorf("bind %s: %d %s, %v; want 403", name, bound.StatusCode(), bound.Body, err)
				}
			}
			erased, err := elsewhere.EraseIdentityWithResponse(t.Context(), id, nil)
			failed(t, erased, err, 404, auth.NotFound)
			list, err := elsewhere.ListIdentitiesWithResponse(t.Context(), nil)
			if n := len(succeed(t, list, err).JSON200.Identities); n != 0 {
				t.Errorf("it lists %d users", n)
			}
			apps, err := elsewhere.ListAppsWithResponse(t.Context(), nil)
			if all := succeed(t, apps, err).JSON200.Apps; len(all) != 1 || all[0].AppID != sessiontest.OtherAppID {
				t.Errorf("it lists %+v", all)
			}
		})
	}
}

type answered = interface {
	StatusCode() int
	GetBody() []byte
}

func TestOpenIDsNeedTheirScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	g := w.Login("alice")
	for _, scopes := range []string{"admin", "read", "read openid"} {
		c := w.client(t, scopes)
		may := strings.Contains(scopes, "openid")
		got, err := c.GetIdentityWithResponse(t.Context(), g.Session.Identity)
		if i := succeed(t, got, err).JSON200; (i.OpenID != nil) != may {
			t.Errorf("%s: %s", scopes, got.Body)
		}
		for _, query := range []adminclient.ListIdentitiesParams{{Openid: ptr("x")}, {Unionid: ptr("x")}} {
			resp, err := c.ListIdentitiesWithResponse(t.Context(), &query)
			if may {
				succeed(t, resp, err)
			} else {
				failed(t, resp, err, 403, auth.InsufficientScope)
			}
		}
	}
}

func TestApps(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": a policy and a webhook's secret are set, and the secret is never told", func(t *testing.T) {
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
			if a.Status != http.StatusOK || strings.Contains(a.Body, secret) || a.members(t)["webhook_secret_set"] != true {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
			stored, err := w.store.App(t.Context(), sessiontest.AppID)
			if err != nil {
				t.Fatal(err)
			}
			want, err := auth.ParsePolicy([]byte(policy))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, stored.Policy); d != "" {
				t.Error(d)
			}
			opened, err := w.Sealer.Open(stored.SealedWebhookSecret, app.WebhookSecretAAD(stored.ID))
			if err != nil || string(opened) != secret {
				t.Errorf("the secret is not what was set: %v", err)
			}
			got, err := c.GetAppWithResponse(t.Context(), sessiontest.AppID)
			if p := succeed(t, got, err).JSON200.Policy; p.SecondIdentity == nil || *p.SecondIdentity != adminclient.SecondJoins || (*p.Methods)[0] != adminclient.BindFacts {
				t.Errorf("%s", got.Body)
			}
			before := stored.UpdatedAt
			w.Clock.Advance(time.Minute)
			if a := patch(`{}`); a.Status != http.StatusOK {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			if again, err := w.store.App(t.Context(), sessiontest.AppID); err != nil || !again.UpdatedAt.Equal(before) {
				t.Errorf("a change of nothing changes the app: %v", err)
			}
			for name, body := range map[string]string{
				"an unknown member":           `{"epoch":1}`,
				"a policy's unknown member":   `{"policy":{"method":["facts"]}}`,
				"a nested unknown member":     `{"policy":{"facts":{"look_up":"no"}}}`,
				"a policy against itself":     `{"policy":{"methods":["facts"]}}`,
				"an unknown method":           `{"policy":{"methods":["sms"]}}`,
				"a policy that is a text":     `{"policy":"facts"}`,
				"a secret that is none":       `{"webhook_secret":"hunter2"}`,
				"a reason of control bytes":   `{"policy":{},"reason":"\u0007"}`,
				"a webhook on plain http":     `{"policy":{"webhook":{"url":"http://erp.example"}}}`,
				"a webhook that is not asked": `{"policy":{"webhook":{"url":"https://10.1.2.3/yufu"}}}`,
				"a policy of nothing but [":   `{"policy":[`,
				"an attribute without a name": `{"policy":{"attributes":[""]}}`,
			} {
				if a := patch(body); a.Status != http.StatusBadRequest {
					t.Errorf("%s: %d %s", name, a.Status, a.Body)
				}
			}
			w.do(t, http.MethodPatch, "/admin/v1/apps/wx404", key.Key().Reveal(), "application/json", `{}`).want(t, 404, auth.NotFound)
			w.do(t, http.MethodGet, "/admin/v1/apps/wx404", key.Key().Reveal(), "", "").want(t, 404, auth.NotFound)
			list, err := c.ListAppsWithResponse(t.Context(), &adminclient.ListAppsParams{Limit: ptr(1)})
			page := succeed(t, list, err).JSON200
			if len(page.Apps) != 1 || page.Next == nil || strings.Contains(string(list.Body), "secret\":\"") {
				t.Fatalf("%s", list.Body)
			}
			list, err = c.ListAppsWithResponse(t.Context(), &adminclient.ListAppsParams{Cursor: page.Next})
			if page := succeed(t, list, err).JSON200; len(page.Apps) != 1 || page.Apps[0].AppID != sessiontest.OtherAppID || page.Next != nil {
				t.Errorf("%s", list.Body)
			}
		})
	}
}

func TestBindingDelays(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": delays are seen and lifted", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			id := w.Login("alice").Session.Identity
			event := w.Event(auth.AuditBindingDelayed)
			for _, keys := range [][]auth.AttemptKey{
				{auth.IdentityAttempts(id), auth.AddressAttempts("2001:db8::/64", sessiontest.AppID), auth.AddressAttempts("192.0.2.1/32", sessiontest.AppID)},
			} {
				for range 5 {
					if _, err := w.store.Reserve(t.Context(), keys, w.Clock.Now(), event); err != nil {
						t.Fatal(err)
					}
				}
			}
			list := func(p adminclient.ListBindingDelaysParams) []adminclient.BindingDelay {
				t.Helper()
				resp, err := c.ListBindingDelaysWithResponse(t.Context(), &p)
				return succeed(t, resp, err).JSON200.BindingDelays
			}
			if n := len(list(adminclient.ListBindingDelaysParams{})); n != 3 {
				t.Errorf("%d delays", n)
			}
			delayed := list(adminclient.ListBindingDelaysParams{Delayed: ptr(true)})
			if len(delayed) != 1 || delayed[0].UUID == nil || *delayed[0].UUID != id || delayed[0].Failures != 5 || delayed[0].DelayedUntil == nil {
				t.Fatalf("%+v", delayed)
			}
			for address, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::7": "2001:db8::/64"} {
				if got := list(adminclient.ListBindingDelaysParams{Address: &address}); len(got) != 1 || *got[0].Address != want || *got[0].App != sessiontest.AppID || got[0].DelayedUntil != nil {
					t.Errorf("%s: %+v", address, got)
				}
			}
			if got := list(adminclient.ListBindingDelaysParams{UUID: &id}); len(got) != 1 {
				t.Errorf("%+v", got)
			}
			first, err := c.ListBindingDelaysWithResponse(t.Context(), &adminclient.ListBindingDelaysParams{Limit: ptr(2)})
			rest, err2 := c.ListBindingDelaysWithResponse(t.Context(), &adminclient.ListBindingDelaysParams{Cursor: succeed(t, first, err).JSON200.Next})
			if n := len(succeed(t, rest, err2).JSON200.BindingDelays); n != 1 {
				t.Errorf("the second page has %d", n)
			}
			lifted, err := c.LiftBindingDelayWithResponse(t.Context(), delayed[0].ID, &adminclient.LiftBindingDelayParams{Reason: ptr("user called")})
			succeed(t, lifted, err)
			again, err := c.LiftBindingDelayWithResponse(t.Context(), delayed[0].ID, nil)
			failed(t, again, err, 404, auth.NotFound)
			if r, err := w.store.Reserve(t.Context(), []auth.AttemptKey{auth.IdentityAttempts(id)}, w.Clock.Now(), event); err != nil || r.Wait != 0 {
				t.Errorf("the next attempt waits %s, %v", r.Wait, err)
			}
			for _, raw := range []string{"value", "x:y", "identity:\x00", ""} {
				resp, err := c.LiftBindingDelayWithResponse(t.Context(), base64.RawURLEncoding.EncodeToString([]byte(raw+"!")), nil)
				failed(t, resp, err, 404, auth.NotFound)
			}
			key := w.key(t, "read").Key().Reveal()
			for _, query := range []string{"address=x", "address=fe80::1%25eth0", "cursor=x", "uuid=1", fmt.Sprintf("uuid=%s&address=192.0.2.1", id)} {
				w.do(t, http.MethodGet, "/admin/v1/binding-delays?"+query, key, "", "").want(t, 400, auth.InvalidRequest)
			}
		})
	}
}
