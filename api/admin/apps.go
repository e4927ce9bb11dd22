package admin

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

// appOf is an app as answers show it.
func appOf(app *auth.App) (AppRecord, error) {
	answer := AppRecord{
		AppID: app.ID, Platform: app.Platform, Audiences: append([]string{}, app.Audiences...), Epoch: app.Epoch,
		Disabled: app.Disabled, WebhookSecretSet: len(app.SealedWebhookSecret) > 0,
		CreatedAt: app.CreatedAt.UTC(), UpdatedAt: app.UpdatedAt.UTC(),
	}
	return answer, convert(app.Policy, &answer.Policy)
}

// convert turns a policy from the form of the domain into that of the generated
// code, or back: their JSON is the same.
func convert(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// ListApps implements [StrictServerInterface].
func (a *API) ListApps(ctx context.Context, r ListAppsRequestObject) (ListAppsResponseObject, error) {
	limit, err := limitOf(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	apps, err := a.c.Persons.Apps(ctx, caller(ctx, nil))
	if err != nil {
		return nil, err
	}
	// There are tens of them: a page is cut out of them all.
	if cursor := r.Params.Cursor; cursor != nil {
		if !auth.ValidAppID(*cursor) {
			return nil, errCursor
		}
		apps = slices.DeleteFunc(apps, func(app auth.App) bool { return app.ID <= *cursor })
	}
	answer := ListApps200JSONResponse{Apps: []AppRecord{}}
	apps, answer.Next = cut(apps, limit, func(app auth.App) string { return app.ID })
	for i := range apps {
		one, err := appOf(&apps[i])
		if err != nil {
			return nil, err
		}
		answer.Apps = append(answer.Apps, one)
	}
	return answer, nil
}

// GetApp implements [StrictServerInterface].
func (a *API) GetApp(ctx context.Context, r GetAppRequestObject) (GetAppResponseObject, error) {
	app, err := a.c.Persons.App(ctx, r.Appid, caller(ctx, nil))
	if err != nil {
		return nil, err
	}
	answer, err := appOf(&app)
	return GetApp200JSONResponse(answer), err
}

// UpdateApp implements [StrictServerInterface].
func (a *API) UpdateApp(ctx context.Context, r UpdateAppRequestObject) (UpdateAppResponseObject, error) {
	var form binding.AppForm
	if r.Body.Policy != nil {
		form.Policy = &auth.Policy{}
		if err := convert(r.Body.Policy, form.Policy); err != nil {
			return nil, err
		}
		if url := form.Policy.Webhook.URL; url != "" {
			if err := a.c.CheckWebhookURL(url); err != nil {
				return nil, err
			}
		}
	}
	if r.Body.WebhookSecret != nil {
		secret := auth.Secret(*r.Body.WebhookSecret)
		if err := a.c.CheckWebhookSecret(secret); err != nil {
			return nil, err
		}
		form.WebhookSecret = &secret
	}
	app, err := a.c.Persons.UpdateApp(ctx, r.Appid, form, caller(ctx, r.Body.Reason))
	if err != nil {
		return nil, err
	}
	answer, err := appOf(&app)
	return UpdateApp200JSONResponse(answer), err
}
