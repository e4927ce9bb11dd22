package admin_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestCreateApp(t *testing.T) {
	t.Parallel()
	const appID, secret = "wxcreated00000001", "a-secret-of-forty-two"
	for kind, open := range stores {
		t.Run(kind+": an app is registered, and its AppSecret is in no answer", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			key := w.key(t, "admin")
			body := `{"appid":"` + appID + `","app_secret":"` + secret + `","audiences":["shop"],"signing_alg":"EdDSA","policy":{"methods":["ticket"]},"reason":"r"}`
			a := w.post(t, "/admin/v1/apps", key, body)
			if a.Status != http.StatusCreated || strings.Contains(a.Body, secret) {
				t.Fatalf("the answer is %d %s, want 201 without the AppSecret", a.Status, a.Body)
			}
			var got adminclient.AppOutcome
			if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
				t.Fatal(err)
			}
			if got.App.AppID != appID || got.App.Platform != "wechat" || got.App.SigningAlg != adminclient.SigningAlgEdDSA || len(got.App.Audiences) != 1 || got.App.Disabled {
				t.Errorf("the answer has the app %+v, want the registered one", got.App)
			}
			if got.SignsFrom == nil || !got.SignsFrom.After(w.Clock.Now()) {
				t.Errorf("signs_from = %v, want a later time: no back end has the new key yet", got.SignsFrom)
			}
			stored, err := w.Store.App(t.Context(), appID)
			if err != nil {
				t.Fatal(err)
			}
			if opened, err := w.Sealer.Open(stored.SealedCredentials[auth.CredentialAppSecret], app.CredentialAAD(appID, auth.CredentialAppSecret)); err != nil || string(opened) != secret {
				t.Errorf("the stored AppSecret opens as %q (%v), want the one that was sent", opened, err)
			}
			w.post(t, "/admin/v1/apps", key, body).want(t, 409, auth.AppExists)
		})
	}

	t.Run("a wrong member is named, and nothing is registered", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		key := w.key(t, "admin")
		for name, tc := range map[string]struct{ body, names string }{
			"no appid":                  {`{"app_secret":"s"}`, "appid"},
			"an appid with a dash":      {`{"appid":"wx-1","app_secret":"s"}`, "appid"},
			"no AppSecret":              {`{"appid":"` + appID + `"}`, "app_secret"},
			"an AppSecret of two words": {`{"appid":"` + appID + `","app_secret":"a b"}`, "app_secret"},
			"a long AppSecret":          {`{"appid":"` + appID + `","app_secret":"` + strings.Repeat("s", app.MaxSecretLen+1) + `"}`, "app_secret"},
			"another platform":          {`{"appid":"` + appID + `","app_secret":"s","platform":"douyin"}`, "platform"},
			"an unknown algorithm":      {`{"appid":"` + appID + `","app_secret":"s","signing_alg":"HS256"}`, "signing_alg"},
			"an empty audience":         {`{"appid":"` + appID + `","app_secret":"s","audiences":[""]}`, "audiences"},
			"a policy's misspelt member": {`{"appid":"` + appID + `","app_secret":"s","policy":{"method":[]}}`,
				"member method;"},
			"a webhook without a secret": {`{"appid":"` + appID + `","app_secret":"s","policy":{"methods":["webhook"],"webhook":{"url":"https://erp.example/b"}}}`,
				"webhook_secret"},
			"an unknown member":     {`{"appid":"` + appID + `","app_secret":"s","epoch":4}`, "epoch"},
			"a repeated member":     {`{"appid":"` + appID + `","appid":"wx2","app_secret":"s"}`, "appid"},
			"a number as AppSecret": {`{"appid":"` + appID + `","app_secret":5}`, "member app_secret has"},
			"a policy of null":      {`{"appid":"` + appID + `","app_secret":"s","policy":null}`, "policy"},
			"a reason of a bell":    {`{"appid":"` + appID + `","app_secret":"s","reason":"\u0007"}`, "reason"},
		} {
			a := w.post(t, "/admin/v1/apps", key, tc.body)
			a.want(t, 400, auth.InvalidRequest)
			if detail, _ := a.members(t)["detail"].(string); !strings.Contains(detail, tc.names) {
				t.Errorf("%s: detail = %q, want the name %s in it", name, detail, tc.names)
			}
		}
		if _, err := w.Store.App(t.Context(), appID); auth.CodeOf(err) != auth.AppUnknown {
			t.Errorf("App() error = %v, want %v", err, auth.AppUnknown)
		}
	})
}

func TestUpdateApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	c := w.client(t, "admin")
	audiences := []string{"shop"}
	done, err := c.UpdateApp(t.Context(), sessiontest.AppID, adminclient.AppUpdate{
		AppSecret: "another", Audiences: &audiences, SigningAlg: adminclient.SigningAlgRS256, Reason: "r",
	})
	got := succeed(t, done, err)
	if len(got.Changed) != 3 || got.SignsFrom == nil || got.App.SigningAlg != adminclient.SigningAlgRS256 || len(got.App.Audiences) != 1 {
		t.Errorf("UpdateApp() = %+v, want three changes", got)
	}
	stored, err := w.Store.App(t.Context(), sessiontest.AppID)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := w.Sealer.Open(stored.SealedCredentials[auth.CredentialAppSecret], app.CredentialAAD(stored.ID, auth.CredentialAppSecret)); err != nil || string(opened) != "another" {
		t.Errorf("the stored AppSecret opens as %q (%v), want the new one", opened, err)
	}
	none := []string{}
	done, err = c.UpdateApp(t.Context(), sessiontest.AppID, adminclient.AppUpdate{Audiences: &none})
	if got := succeed(t, done, err); len(got.App.Audiences) != 0 || len(got.Changed) != 1 {
		t.Errorf("UpdateApp() = %+v, want no audiences", got)
	}
	done, err = c.UpdateApp(t.Context(), sessiontest.AppID, adminclient.AppUpdate{})
	if got := succeed(t, done, err); len(got.Changed) != 0 || got.SignsFrom != nil {
		t.Errorf("UpdateApp() = %+v, want no change", got)
	}

	restricted := w.client(t, "admin", sessiontest.AppID)
	for name, u := range map[string]adminclient.AppUpdate{
		"an audience":       {Audiences: &audiences},
		"another algorithm": {SigningAlg: adminclient.SigningAlgEdDSA},
	} {
		t.Run("a restricted key does not set "+name, func(t *testing.T) {
			_, err := restricted.UpdateApp(t.Context(), sessiontest.AppID, u)
			failed(t, err, 403, auth.InsufficientScope)
		})
	}
}

func TestDisableApp(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": disabling an app refuses its tokens before the answer", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			all, restricted := w.client(t, "admin"), w.client(t, "admin", sessiontest.AppID)
			alice := w.Login("alice")
			if _, err := w.Verifier.Verify(t.Context(), alice.AccessToken.Reveal()); err != nil {
				t.Fatal(err)
			}
			got, err := restricted.DisableApp(t.Context(), sessiontest.AppID, "a leak")
			if a := succeed(t, got, err); !a.Disabled {
				t.Errorf("DisableApp() = %+v, want it disabled", a)
			}
			if _, err := w.Verifier.Verify(t.Context(), alice.AccessToken.Reveal()); err == nil {
				t.Error("the replica accepts a token of the disabled app")
			}
			if _, err := w.Refresh(alice.RefreshToken); auth.CodeOf(err) != auth.AppDisabled {
				t.Errorf("Refresh() error = %v, want %v", err, auth.AppDisabled)
			}
			_, err = restricted.EnableApp(t.Context(), sessiontest.AppID, "")
			failed(t, err, 403, auth.InsufficientScope)
			w.Clock.Advance(time.Second)
			got, err = all.EnableApp(t.Context(), sessiontest.AppID, "mended")
			if a := succeed(t, got, err); a.Disabled {
				t.Errorf("EnableApp() = %+v, want it enabled", a)
			}
			if _, err := w.Refresh(alice.RefreshToken); auth.CodeOf(err) != auth.SessionRevoked {
				t.Errorf("Refresh() error = %v, want %v: the session stays ended", err, auth.SessionRevoked)
			}
			w.Login("alice")
		})
	}

	t.Run("other apps are not found", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		all, restricted := w.client(t, "admin"), w.client(t, "admin", sessiontest.AppID)
		for name, call := range map[string]func() (*adminclient.App, error){
			"an unknown app":           func() (*adminclient.App, error) { return all.DisableApp(t.Context(), "wx404", "") },
			"an unknown app to enable": func() (*adminclient.App, error) { return all.EnableApp(t.Context(), "wx404", "") },
			"another app than the key's": func() (*adminclient.App, error) {
				return restricted.DisableApp(t.Context(), sessiontest.OtherAppID, "")
			},
		} {
			t.Log(name)
			_, err := call()
			failed(t, err, 404, auth.NotFound)
		}
		if other, err := w.Store.App(t.Context(), sessiontest.OtherAppID); err != nil || other.Disabled {
			t.Errorf("the other app is disabled: %t (%v)", other.Disabled, err)
		}
	})
}
