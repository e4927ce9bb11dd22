package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

var appTests = []test{
	{"an added app is read back unchanged", func(t *testing.T, f *fixture) {
		a := auth.App{
			ID: "wx1", Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: {0, 1, 255}},
			Audiences: []string{"https://b.example", "https://a.example"}, Epoch: 7, SigningAlg: "EdDSA",
			Policy: auth.Policy{
				Methods: auth.BindingMethods(), Facts: auth.FactsPolicy{Lookup: "employee_no", Check: []string{"name"}},
				Phone: auth.PhonePolicy{Create: true}, Webhook: auth.WebhookPolicy{URL: "https://erp.example/bind?a=<b>&c"},
				SecondIdentity: auth.SecondJoins, SelfUnbind: true, Attributes: []string{"部门", "class"},
			},
			SealedWebhookSecret: []byte{255, 0},
		}
		f.addApp(t, a)
		a.CreatedAt, a.UpdatedAt = t0, t0
		got, err := f.Store.App(t.Context(), "wx1")
		wantCode(t, err, "")
		wantEqual(t, "app", got, a)
	}},
	{"a policy change replaces the policy and nothing else", func(t *testing.T, f *fixture) {
		want, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		later := t0.Add(time.Hour)
		for _, p := range []auth.Policy{{Methods: []auth.BindingMethod{auth.BindTicket}, SelfUnbind: true}, {}} {
			want.Policy, want.SealedWebhookSecret, want.UpdatedAt = p, []byte("sealed"), later
			got, err := f.Store.UpdateApp(t.Context(), appA, app.Change{Policy: &p, SealedWebhookSecret: []byte("sealed")}, event(auth.AuditAppUpdated, later))
			wantCode(t, err, "")
			wantEqual(t, "result", got, want)
			got, err = f.Store.App(t.Context(), appA)
			wantCode(t, err, "")
			wantEqual(t, "app", got, want)
		}
	}},
	{"a change of one credential keeps the others", func(t *testing.T, f *fixture) {
		f.addApp(t, auth.App{ID: "wx1", Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{
			auth.CredentialAppSecret: []byte("secret"), "rsa_key": {0, 255},
		}})
		got, err := f.Store.UpdateApp(t.Context(), "wx1", app.Change{SealedCredentials: map[string][]byte{
			"aes_key": []byte("new"), auth.CredentialAppSecret: []byte("changed"), "rsa_key": nil, "no_key": {},
		}}, event(auth.AuditAppUpdated, t0))
		wantCode(t, err, "")
		wantEqual(t, "credentials", got.SealedCredentials, map[string][]byte{
			"aes_key": []byte("new"), auth.CredentialAppSecret: []byte("changed"), "rsa_key": {0, 255},
		})
		read, err := f.Store.App(t.Context(), "wx1")
		wantCode(t, err, "")
		wantEqual(t, "app", read, got)
		wantEqual(t, "audit rows that name both", f.number(t, `select count(*) from audit where appid = 'wx1' and cast(detail as text) like '%aes_key%app_secret%'`), 1)
	}},
	{"an app without audiences has nil audiences", func(t *testing.T, f *fixture) {
		f.addApp(t, auth.App{ID: "wx1", Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}, Audiences: []string{}})
		got, err := f.Store.App(t.Context(), "wx1")
		wantCode(t, err, "")
		if got.Audiences != nil {
			t.Errorf("Audiences = %#v, want nil", got.Audiences)
		}
	}},
	{"adding writes one audit event and no cutoff", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		f.addApp(t, auth.App{ID: "wx1", Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}})
		f.wantCounts(t, before, counts{Apps: 1, Audit: 1})
		wantEqual(t, "audit rows of the app",
			f.number(t, `select count(*) from audit where appid = ? and action = ? and actor = ? and reason = ? and request_id = ?`,
				"wx1", string(auth.AuditAppAdded), auth.ActorCLI, "because", "req-1"), 1)
	}},
	{"adding a registered app is refused and changes nothing", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		err := f.Store.AddApp(t.Context(), auth.App{ID: appA, Platform: "other", SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("new")}}, event(auth.AuditAppAdded, t0))
		wantCode(t, err, auth.AppExists)
		f.wantCounts(t, before, counts{})
		got, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		wantEqual(t, "secret", string(got.SealedCredentials[auth.CredentialAppSecret]), "sealed "+appA)
	}},
	{"every method refuses an unknown app", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		_, err := f.Store.App(t.Context(), "wxnone")
		wantCode(t, err, auth.AppUnknown)
		_, err = f.Store.UpdateApp(t.Context(), "wxnone", app.Change{SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}}, event(auth.AuditAppUpdated, t0))
		wantCode(t, err, auth.AppUnknown)
		_, err = f.Store.DisableApp(t.Context(), "wxnone", event(auth.AuditAppDisabled, t0))
		wantCode(t, err, auth.AppUnknown)
		_, err = f.Store.EnableApp(t.Context(), "wxnone", event(auth.AuditAppEnabled, t0))
		wantCode(t, err, auth.AppUnknown)
		f.wantCounts(t, before, counts{})
	}},
	{"appids are case sensitive and listed in byte order", func(t *testing.T, f *fixture) {
		for _, id := range []string{"wxB", "wxa", "WXa", "wxb"} {
			f.addApp(t, auth.App{ID: id, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}})
		}
		apps, err := f.Store.Apps(t.Context())
		wantCode(t, err, "")
		var ids []string
		for _, a := range apps {
			ids = append(ids, a.ID)
		}
		wantEqual(t, "ids", ids, []string{"WXa", "wxB", "wxa", appA, "wxb", appB})
	}},
	{"the state of the apps is that which the follower gets", func(t *testing.T, f *fixture) {
		for _, change := range []func(){
			func() {},
			func() {
				f.addApp(t, auth.App{ID: "wxnew", Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}})
			},
			func() {
				_, err := f.Store.DisableApp(t.Context(), "wxnew", event(auth.AuditAppDisabled, t0.Add(time.Hour)))
				wantCode(t, err, "")
			},
		} {
			change()
			version, apps, err := f.Store.AppsState(t.Context())
			wantCode(t, err, "")
			batch, err := f.Store.Cutoffs(t.Context(), 0, 1)
			wantCode(t, err, "")
			wantEqual(t, "state", version, batch.Apps)
			listed, err := f.Store.Apps(t.Context())
			wantCode(t, err, "")
			wantEqual(t, "apps", apps, listed)
		}
	}},
	{"an update changes only the given fields", func(t *testing.T, f *fixture) {
		later := t0.Add(time.Hour)
		want := auth.App{
			ID: appA, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("new")},
			Audiences: []string{"https://" + appA + ".example"}, SigningAlg: "ES256", CreatedAt: t0, UpdatedAt: later,
		}
		before := f.counts(t)
		got, err := f.Store.UpdateApp(t.Context(), appA, app.Change{SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("new")}}, event(auth.AuditAppUpdated, later))
		wantCode(t, err, "")
		wantEqual(t, "after the secret", got, want)
		want.Audiences = []string{"x"}
		got, err = f.Store.UpdateApp(t.Context(), appA, app.Change{Audiences: &[]string{"x"}}, event(auth.AuditAppUpdated, later))
		wantCode(t, err, "")
		wantEqual(t, "after the audiences", got, want)
		want.Audiences = nil
		got, err = f.Store.UpdateApp(t.Context(), appA, app.Change{Audiences: &[]string{}}, event(auth.AuditAppUpdated, later))
		wantCode(t, err, "")
		wantEqual(t, "after no audiences", got, want)
		want.SigningAlg = "RS256"
		got, err = f.Store.UpdateApp(t.Context(), appA, app.Change{SigningAlg: "RS256"}, event(auth.AuditAppUpdated, later))
		wantCode(t, err, "")
		wantEqual(t, "after the algorithm", got, want)
		read, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		wantEqual(t, "as read", read, want)
		f.wantCounts(t, before, counts{Audit: 4})
	}},
	{"an update is checked against the current app", func(t *testing.T, f *fixture) {
		want, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		before := f.counts(t)
		change := app.Change{Audiences: &[]string{"x"}, Check: func(a auth.App) error {
			wantEqual(t, "app passed to check", a, want)
			return auth.InsufficientScope
		}}
		_, err = f.Store.UpdateApp(t.Context(), appA, change, event(auth.AuditAppUpdated, t0.Add(time.Hour)))
		wantCode(t, err, auth.InsufficientScope)
		got, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		wantEqual(t, "app after the refusal", got, want)
		f.wantCounts(t, before, counts{})

		change.Check = func(auth.App) error { return nil }
		got, err = f.Store.UpdateApp(t.Context(), appA, change, event(auth.AuditAppUpdated, t0.Add(time.Hour)))
		wantCode(t, err, "")
		wantEqual(t, "audiences", got.Audiences, []string{"x"})
	}},
	{"concurrent changes are all kept", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		policy := auth.Policy{SelfUnbind: true}
		// A check sees the changes before it: each call finds one more changed field
		// than the call before.
		var mu sync.Mutex
		seen := map[int]int{}
		check := func(a auth.App) error {
			n := 0
			for _, is := range []bool{
				string(a.SealedCredentials[auth.CredentialAppSecret]) == "new", len(a.Audiences) == 2, a.SigningAlg == "EdDSA", a.Policy.SelfUnbind,
				a.SealedWebhookSecret != nil,
			} {
				if is {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			seen[n]++
			return nil
		}
		changes := []app.Change{
			{SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("new")}},
			{Audiences: &[]string{"x", "y"}},
			{SigningAlg: "EdDSA"},
			{Policy: &policy},
			{SealedWebhookSecret: []byte("sealed")},
		}
		errs := make(chan error, len(changes))
		for _, change := range changes {
			change.Check = check
			go func() {
				_, err := f.Store.UpdateApp(t.Context(), appA, change, event(auth.AuditAppUpdated, t0))
				errs <- err
			}()
		}
		for range changes {
			wantCode(t, <-errs, "")
		}
		wantEqual(t, "values that the checks saw", seen, map[int]int{0: 1, 1: 1, 2: 1, 3: 1, 4: 1})
		got, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		wantEqual(t, "app", got, auth.App{
			ID: appA, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("new")}, Audiences: []string{"x", "y"},
			SigningAlg: "EdDSA", Policy: policy, SealedWebhookSecret: []byte("sealed"), CreatedAt: t0, UpdatedAt: t0,
		})
		f.wantCounts(t, before, counts{Audit: len(changes)})
		for _, member := range []string{"app_secret", "audiences", "signing_alg", "policy", "webhook_secret"} {
			wantEqual(t, "audit events of "+member,
				f.number(t, `select count(*) from audit where action = ? and cast(detail as text) like ?`, string(auth.AuditAppUpdated), `%["`+member+`"]%`), 1)
		}
	}},
	{"an unknown signing algorithm is refused", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		_, err := f.Store.UpdateApp(t.Context(), appA, app.Change{SigningAlg: "none"}, event(auth.AuditAppUpdated, t0))
		wantCode(t, err, auth.Internal)
		f.wantCounts(t, before, counts{})
	}},
	{"a new signing algorithm applies from the change on", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		_, err := f.Store.UpdateApp(t.Context(), appA, app.Change{SigningAlg: "EdDSA"}, event(auth.AuditAppUpdated, t0))
		wantCode(t, err, "")
		for i, verdict := range []session.Verdict{session.Rotate, session.Replay} {
			g, err := f.refresh(t.Context(), s.ID, 1, t0)
			wantCode(t, err, "")
			wantEqual(t, "verdict", g.Verdict, verdict)
			wantEqual(t, fmt.Sprintf("algorithm after refresh %d", i), g.SigningAlg, "EdDSA")
		}
		g, err := f.refresh(t.Context(), s.ID, 5, t0)
		wantCode(t, err, "")
		wantEqual(t, "algorithm of what was rolled back", g.SigningAlg, "EdDSA")
		g, err = f.Store.Exchange(t.Context(), params(appA, "o-2", t0))
		wantCode(t, err, "")
		wantEqual(t, "algorithm of a log-in", g.SigningAlg, "EdDSA")
	}},
	{"disabling raises the epoch with a cutoff, and enabling raises it again", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		a, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
		wantCode(t, err, "")
		if !a.Disabled || a.Epoch != 1 {
			t.Fatalf("after DisableApp: disabled %v, epoch %d; want true, 1", a.Disabled, a.Epoch)
		}
		f.wantCounts(t, before, counts{Audit: 1, Cutoffs: 1})
		a, err = f.Store.EnableApp(t.Context(), appA, event(auth.AuditAppEnabled, t0))
		wantCode(t, err, "")
		if a.Disabled || a.Epoch != 2 {
			t.Fatalf("after EnableApp: disabled %v, epoch %d; want false, 2", a.Disabled, a.Epoch)
		}
		f.wantCounts(t, before, counts{Audit: 2, Cutoffs: 2})
		wantEqual(t, "cutoffs of the app with the required expiry",
			f.number(t, `select count(*) from cutoffs where kind = 'app' and appid = ? and epoch in (1, 2) and expires_at = ?`,
				appA, f.Time(t0.Add(auth.CutoffRetention))), 2)
	}},
	{"disabling or enabling twice has no further effect", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		_, err := f.Store.EnableApp(t.Context(), appA, event(auth.AuditAppEnabled, t0))
		wantCode(t, err, "")
		f.wantCounts(t, before, counts{})
		for range 2 {
			a, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
			wantCode(t, err, "")
			wantEqual(t, "epoch", a.Epoch, 1)
		}
		f.wantCounts(t, before, counts{Audit: 1, Cutoffs: 1})
	}},
}
