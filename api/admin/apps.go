package admin

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// appOf returns an app as answers show it.
func appOf(app *auth.App) (adminclient.App, error) {
	answer := adminclient.App{
		AppID: app.ID, Platform: app.Platform, Audiences: append([]string{}, app.Audiences...), Epoch: app.Epoch,
		Disabled: app.Disabled, WebhookSecretSet: len(app.SealedWebhookSecret) > 0,
		CreatedAt: app.CreatedAt.UTC(), UpdatedAt: app.UpdatedAt.UTC(),
	}
	// The policy of the domain and that of the contract have the same JSON.
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
	apps, answer.Next = cut(apps, limit, func(app auth.App) string { return app.ID })
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

// appUpdate is the body of updateApp. The policy is parsed by its own rules, which
// refuse members that it does not have: one that is misspelt would leave a door
// open or shut.
type appUpdate struct {
	Policy        json.RawMessage `json:"policy"`
	WebhookSecret *auth.Secret    `json:"webhook_secret"`
	Reason        string          `json:"reason"`
}

func (a *API) updateApp(w http.ResponseWriter, r *http.Request) error {
	appID, err := pathText(r, "appid")
	if err != nil {
		return err
	}
	body, err := readBody[appUpdate](w, r)
	if err != nil {
		return err
	}
	form := app.Form{WebhookSecret: body.WebhookSecret}
	if body.Policy != nil {
		policy, err := auth.ParsePolicy(body.Policy)
		if err != nil {
			return err
		}
		form.Policy = &policy
	}
	done, err := a.c.Apps.Update(r.Context(), appID, form, caller(r, body.Reason))
	if err != nil {
		return err
	}
	return a.writeApp(w, &done.App)
}
