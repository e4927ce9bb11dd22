package admin

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// route is one operation of the admin API.
type route struct {
	method, path string
	// scope is the scope that the service key of a request must have.
	scope servicekey.Scope
	// query names the parameters that the operation takes in its query.
	query []string
	serve web.Handler
}

// routes returns all operations. A test compares them with openapi.yaml.
func (a *API) routes() []route {
	const (
		get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
		read, admin           = servicekey.ScopeRead, servicekey.ScopeAdmin
	)
	reason, page := []string{"reason"}, []string{"limit", "cursor"}
	return []route{
		{post, "/admin/v1/revocations", admin, nil, a.createRevocation},

		{get, "/admin/v1/service-keys", read, page, a.listServiceKeys},
		{post, "/admin/v1/service-keys", admin, nil, a.createServiceKey},
		{patch, "/admin/v1/service-keys/{id}", admin, nil, allApps(a.updateServiceKey)},
		{del, "/admin/v1/service-keys/{id}", admin, []string{"descendants", "reason"}, a.revokeServiceKey},

		{get, "/admin/v1/signing-keys", read, page, allApps(a.listSigningKeys)},
		{post, "/admin/v1/signing-keys/rotate", admin, nil, allApps(a.rotateSigningKeys)},
		{post, "/admin/v1/signing-keys/{kid}/retire", admin, nil, allApps(a.retireSigningKey)},

		{get, "/admin/v1/persons", read, append(page, "external_id", "phone", "name"), allApps(a.listPersons)},
		{post, "/admin/v1/persons", admin, nil, allApps(a.createPerson)},
		{post, "/admin/v1/persons/import", admin, []string{"dry_run", "reason"}, allApps(a.importPersons)},
		{get, "/admin/v1/persons/{id}", read, nil, allApps(a.getPerson)},
		{patch, "/admin/v1/persons/{id}", admin, nil, allApps(a.updatePerson)},
		{post, "/admin/v1/persons/{id}/disable", admin, nil, allApps(a.switchPerson((*person.Service).DisablePerson))},
		{post, "/admin/v1/persons/{id}/enable", admin, nil, allApps(a.switchPerson((*person.Service).EnablePerson))},
		{post, "/admin/v1/persons/{id}/bind-tickets", admin, nil, allApps(a.createBindTicket)},

		{get, "/admin/v1/identities", read, append(page, "uuid", "openid", "unionid", "person", "app"), a.listIdentities},
		{get, "/admin/v1/identities/{uuid}", read, nil, a.getIdentity},
		{del, "/admin/v1/identities/{uuid}", admin, reason, a.eraseIdentity},
		{post, "/admin/v1/identities/{uuid}/disable", admin, nil, a.switchIdentity((*person.Service).DisableIdentity)},
		{post, "/admin/v1/identities/{uuid}/enable", admin, nil, a.switchIdentity((*person.Service).EnableIdentity)},
		{post, "/admin/v1/identities/{uuid}/bind", admin, nil, allApps(a.bindIdentity)},
		{post, "/admin/v1/identities/{uuid}/unbind", admin, nil, a.switchIdentity((*person.Service).UnbindIdentity)},
		{get, "/admin/v1/identities/{uuid}/sessions", read, page, a.listIdentitySessions},

		{get, "/admin/v1/sessions/{id}", read, nil, a.getSession},
		{del, "/admin/v1/sessions/{id}", admin, reason, a.endSession},

		{get, "/admin/v1/apps", read, page, a.listApps},
		{get, "/admin/v1/apps/{appid}", read, nil, a.getApp},
		{post, "/admin/v1/apps", admin, nil, allApps(a.createApp)},
		{patch, "/admin/v1/apps/{appid}", admin, nil, a.updateApp},
		{post, "/admin/v1/apps/{appid}/disable", admin, nil, a.switchApp((*app.Service).Disable)},
		{post, "/admin/v1/apps/{appid}/enable", admin, nil, allApps(a.switchApp((*app.Service).Enable))},

		{get, "/admin/v1/binding-delays", read, append(page, "delayed", "uuid", "person", "address"), allApps(a.listBindingDelays)},
		{del, "/admin/v1/binding-delays/{id}", admin, reason, allApps(a.liftBindingDelay)},

		{get, "/admin/v1/audit", admin, append(page, "from", "until", "action", "actor", "app", "uuid", "session", "person", "request_id"), allApps(a.listAudit)},
	}
}

// Mount adds the routes.
func (a *API) Mount(r chi.Router) {
	for _, rt := range a.routes() {
		r.Method(rt.method, rt.path, web.API(func(w http.ResponseWriter, r *http.Request) error {
			key, err := a.c.Guard.Authorize(r, rt.scope)
			if err != nil {
				return err
			}
			web.EventOf(r.Context()).Add(pathTarget(r)...)
			if err := checkQuery(r, rt.query); err != nil {
				return err
			}
			return rt.serve(w, r.WithContext(context.WithValue(r.Context(), keyKey{}, key)))
		}))
	}
}

// allApps refuses keys that are restricted to apps: the operation concerns more
// than apps.
func allApps(h web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if key := keyOf(r.Context()); key.Restricted() {
			return auth.ErrRestricted
		}
		return h(w, r)
	}
}
