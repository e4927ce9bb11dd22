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
	// apps says which keys may use the operation.
	apps apps
	// query names the parameters that the operation takes in its query.
	query []string
	serve web.Handler
}

// apps says whether an operation is open to keys that are restricted to apps.
type apps bool

const (
	// own: a restricted key sees and changes only what belongs to its apps.
	own apps = false
	// all: the operation concerns more than apps, and refuses restricted keys.
	all apps = true
)

// routes returns all operations. A test compares them with openapi.yaml.
func (a *API) routes() []route {
	const (
		get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete

		read, support, persons = servicekey.ScopeRead, servicekey.ScopeSupport, servicekey.ScopePersons
		audit, admin           = servicekey.ScopeAudit, servicekey.ScopeAdmin
	)
	reason, page := []string{"reason"}, []string{"limit", "cursor"}
	return []route{
		// To end the sessions of an app or of all apps, the key also needs admin.
		{post, "/admin/v1/revocations", support, own, nil, a.createRevocation},

		{get, "/admin/v1/service-keys", admin, own, page, a.listServiceKeys},
		{post, "/admin/v1/service-keys", admin, own, nil, a.createServiceKey},
		{patch, "/admin/v1/service-keys/{id}", admin, all, nil, a.updateServiceKey},
		{del, "/admin/v1/service-keys/{id}", admin, own, []string{"descendants", "reason"}, a.revokeServiceKey},

		{get, "/admin/v1/signing-keys", admin, all, page, a.listSigningKeys},
		{post, "/admin/v1/signing-keys/rotate", admin, all, nil, a.rotateSigningKeys},
		{post, "/admin/v1/signing-keys/{kid}/retire", admin, all, nil, a.retireSigningKey},

		{get, "/admin/v1/persons", read, all, append(page, "external_id", "phone", "name"), a.listPersons},
		{post, "/admin/v1/persons", persons, all, nil, a.createPerson},
		{post, "/admin/v1/persons/import", persons, all, []string{"dry_run", "reason"}, a.importPersons},
		{get, "/admin/v1/persons/{id}", read, all, nil, a.getPerson},
		{patch, "/admin/v1/persons/{id}", persons, all, nil, a.updatePerson},
		{post, "/admin/v1/persons/{id}/disable", support, all, nil, a.switchPerson((*person.Service).DisablePerson)},
		{post, "/admin/v1/persons/{id}/enable", support, all, nil, a.switchPerson((*person.Service).EnablePerson)},
		{post, "/admin/v1/persons/{id}/bind-tickets", persons, all, nil, a.createBindTicket},

		{get, "/admin/v1/identities", read, own, append(page, "uuid", "openid", "unionid", "person", "app"), a.listIdentities},
		{get, "/admin/v1/identities/{uuid}", read, own, nil, a.getIdentity},
		{del, "/admin/v1/identities/{uuid}", admin, own, reason, a.eraseIdentity},
		{post, "/admin/v1/identities/{uuid}/disable", support, own, nil, a.switchIdentity((*person.Service).DisableIdentity)},
		{post, "/admin/v1/identities/{uuid}/enable", support, own, nil, a.switchIdentity((*person.Service).EnableIdentity)},
		{post, "/admin/v1/identities/{uuid}/bind", support, all, nil, a.bindIdentity},
		{post, "/admin/v1/identities/{uuid}/unbind", support, own, nil, a.switchIdentity((*person.Service).UnbindIdentity)},
		{get, "/admin/v1/identities/{uuid}/sessions", read, own, page, a.listIdentitySessions},

		{get, "/admin/v1/sessions/{id}", read, own, nil, a.getSession},
		{del, "/admin/v1/sessions/{id}", support, own, reason, a.endSession},

		{get, "/admin/v1/apps", read, own, page, a.listApps},
		{get, "/admin/v1/apps/{appid}", read, own, nil, a.getApp},
		{post, "/admin/v1/apps", admin, all, nil, a.createApp},
		{patch, "/admin/v1/apps/{appid}", admin, own, nil, a.updateApp},
		{post, "/admin/v1/apps/{appid}/disable", admin, own, nil, a.switchApp((*app.Service).Disable)},
		{post, "/admin/v1/apps/{appid}/enable", admin, all, nil, a.switchApp((*app.Service).Enable)},

		{get, "/admin/v1/binding-delays", read, all, append(page, "delayed", "uuid", "person", "address"), a.listBindingDelays},
		{del, "/admin/v1/binding-delays/{id}", support, all, reason, a.liftBindingDelay},

		{get, "/admin/v1/audit", audit, all, append(page, "from", "until", "action", "actor", "app", "uuid", "session", "person", "request_id"), a.listAudit},
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
			if rt.apps == all && key.Restricted() {
				return auth.ErrRestricted
			}
			if err := checkQuery(r, rt.query); err != nil {
				return err
			}
			return rt.serve(w, r.WithContext(context.WithValue(r.Context(), keyKey{}, key)))
		}))
	}
}
