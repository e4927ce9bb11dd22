package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// appOf returns an app for an answer.
func appOf(app *auth.App) (adminclient.App, error) {
	answer := adminclient.App{
		AppID: app.ID, Platform: app.Platform, Audiences: append([]string{}, app.Audiences...),
		SigningAlg: adminclient.SigningAlg(cmp.Or(app.SigningAlg, auth.DefaultSigningAlg)), Epoch: app.Epoch,
		Disabled: app.Disabled, WebhookSecretSet: len(app.SealedWebhookSecret) > 0,
		CreatedAt: app.CreatedAt.UTC(), UpdatedAt: app.UpdatedAt.UTC(),
	}
	// The policies of the domain and of the contract have the same JSON.
	policy, err := json.Marshal(app.Policy)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(policy, &answer.Policy)
}

func (a *API) writeApp(w http.ResponseWriter, app *auth.App) error {
	answer, err := appOf(app)
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

func (a *API) listApps(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	apps, err := a.c.Apps.Apps(r.Context(), caller(r, ""))
	if err != nil {
		return err
	}
	// There are tens of apps: a page is cut from all of them.
	if cursor := queryText(r, "cursor"); cursor != "" {
		if !auth.ValidAppID(cursor) {
			return errCursor
		}
		apps = slices.DeleteFunc(apps, func(app auth.App) bool { return app.ID <= cursor })
	}
	answer := adminclient.AppList{Apps: []adminclient.App{}}
	apps, answer.Next = cutPage(apps, limit, func(app auth.App) string { return app.ID })
	for i := range apps {
		one, err := appOf(&apps[i])
		if err != nil {
			return err
		}
		answer.Apps = append(answer.Apps, one)
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

func (a *API) getApp(w http.ResponseWriter, r *http.Request) error {
	appID, err := pathText(r, "appid")
	if err != nil {
		return err
	}
	app, err := a.c.Apps.App(r.Context(), appID, caller(r, ""))
	if err != nil {
		return err
	}
	return a.writeApp(w, &app)
}

// appForm is the part of a body that createApp and updateApp share. The policy is parsed
// by its own rules, which refuse unknown members: a misspelt member would allow or
// forbid something by accident.
type appForm struct {
	AppSecret     *auth.Secret    `json:"app_secret"`
	Audiences     *[]string       `json:"audiences"`
	SigningAlg    string          `json:"signing_alg"`
	Policy        json.RawMessage `json:"policy"`
	WebhookSecret *auth.Secret    `json:"webhook_secret"`
	Reason        string          `json:"reason"`
}

// form returns the form for the use cases.
func (f *appForm) form() (app.Form, error) {
	form := app.Form{Secret: f.AppSecret, Audiences: f.Audiences, SigningAlg: f.SigningAlg, WebhookSecret: f.WebhookSecret}
	if f.Policy == nil {
		return form, nil
	}
	policy, err := auth.ParsePolicy(f.Policy)
	if err != nil {
		return form, err
	}
	form.Policy = &policy
	return form, nil
}

func (a *API) createApp(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody[struct {
		AppID    string `json:"appid"`
		Platform string `json:"platform"`
		appForm
	}](w, r)
	if err != nil {
		return err
	}
	form, err := body.form()
	if err != nil {
		return err
	}
	done, err := a.c.Apps.Register(r.Context(), app.Registration{
		ID: body.AppID, Platform: cmp.Or(body.Platform, auth.PlatformWeChat), Form: form,
	}, caller(r, body.Reason))
	if err != nil {
		return err
	}
	logTarget(r.Context(), &session.Target{AppID: done.App.ID})
	return writeOutcome(w, http.StatusCreated, &done)
}

func (a *API) updateApp(w http.ResponseWriter, r *http.Request) error {
	appID, err := pathText(r, "appid")
	if err != nil {
		return err
	}
	body, err := readBody[appForm](w, r)
	if err != nil {
		return err
	}
	form, err := body.form()
	if err != nil {
		return err
	}
	done, err := a.c.Apps.Update(r.Context(), appID, form, caller(r, body.Reason))
	if err != nil {
		return err
	}
	return writeOutcome(w, http.StatusOK, &done)
}

func writeOutcome(w http.ResponseWriter, status int, done *app.Outcome) error {
	one, err := appOf(&done.App)
	if err != nil {
		return err
	}
	return web.SecretJSON(w, status, adminclient.AppOutcome{
		App: one, Changed: append([]string{}, done.Changed...), SignsFrom: timeOrNull(done.SignsFrom),
	})
}

// switchApp serves disableApp and enableApp.
func (a *API) switchApp(change func(*app.Service, context.Context, string, auth.Caller) (auth.App, error)) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		appID, err := pathText(r, "appid")
		if err != nil {
			return err
		}
		body, err := readOptional[adminclient.ReasonRequest](w, r)
		if err != nil {
			return err
		}
		app, err := change(a.c.Apps, r.Context(), appID, caller(r, body.Reason))
		if err != nil {
			return err
		}
		return a.writeApp(w, &app)
	}
}
