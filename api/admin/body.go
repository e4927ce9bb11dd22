package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// bodies reads the body of each operation that has one.
var bodies = map[string]func(http.ResponseWriter, *http.Request) ([]byte, error){
	"POST /admin/v1/revocations":  readBody[RevocationRequest],
	"POST /admin/v1/service-keys": readBody[ServiceKeyRequest],

	"PATCH /admin/v1/service-keys/{id}":        readPin,
	"POST /admin/v1/signing-keys/rotate":       readBody[RotationRequest],
	"POST /admin/v1/signing-keys/{kid}/retire": readBody[RetirementRequest],
	"POST /admin/v1/persons":                   readBody[PersonRequest],
	"POST /admin/v1/persons/import":            readLines,
	"PATCH /admin/v1/persons/{id}":             readBody[PersonUpdate],
	"POST /admin/v1/persons/{id}/disable":      readOptional[ReasonRequest],
	"POST /admin/v1/persons/{id}/enable":       readOptional[ReasonRequest],
	"POST /admin/v1/persons/{id}/bind-tickets": readOptional[BindTicketRequest],
	"POST /admin/v1/identities/{uuid}/disable": readOptional[ReasonRequest],
	"POST /admin/v1/identities/{uuid}/enable":  readOptional[ReasonRequest],
	"POST /admin/v1/identities/{uuid}/bind":    readBody[BindIdentityRequest],
	"POST /admin/v1/identities/{uuid}/unbind":  readOptional[ReasonRequest],
	"PATCH /admin/v1/apps/{appid}":             readAppUpdate,
}

// queries are the parameters that the operations take in the query.
var queries = map[string]map[string]bool{
	"GET /admin/v1/service-keys": formNames[ListServiceKeysParams](),

	"DELETE /admin/v1/service-keys/{id}": formNames[RevokeServiceKeyParams](),

	"GET /admin/v1/signing-keys": formNames[ListSigningKeysParams](),

	"GET /admin/v1/persons":                    formNames[ListPersonsParams](),
	"POST /admin/v1/persons/import":            formNames[ImportPersonsParams](),
	"GET /admin/v1/identities":                 formNames[ListIdentitiesParams](),
	"DELETE /admin/v1/identities/{uuid}":       formNames[EraseIdentityParams](),
	"GET /admin/v1/identities/{uuid}/sessions": formNames[ListIdentitySessionsParams](),
	"DELETE /admin/v1/sessions/{id}":           formNames[EndSessionByAdminParams](),
	"GET /admin/v1/apps":                       formNames[ListAppsParams](),
	"GET /admin/v1/binding-delays":             formNames[ListBindingDelaysParams](),
	"DELETE /admin/v1/binding-delays/{id}":     formNames[LiftBindingDelayParams](),
}

// formNames returns the names that the fields of a struct have in a query.
func formNames[T any]() map[string]bool {
	names := map[string]bool{}
	for f := range reflect.TypeFor[T]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("form"), ",")
		names[name] = true
	}
	return names
}

func readBody[T any](w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var v T
	if err := web.ReadJSON(w, r, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// readOptional is readBody where no body at all is an empty object.
func readOptional[T any](w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Type") == "" {
		if n, err := r.Body.Read(make([]byte, 1)); n == 0 && errors.Is(err, io.EOF) {
			return []byte("{}"), nil
		}
	}
	return readBody[T](w, r) // which wants to know what it is
}

// readPin is readBody that demands the member pinned_app: an empty one takes the pin
// away, and a missing one must not.
func readPin(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var v struct {
		PinnedApp *string `json:"pinned_app"`
		Reason    *string `json:"reason,omitempty"`
	}
	if err := web.ReadJSON(w, r, &v); err != nil {
		return nil, err
	}
	if v.PinnedApp == nil {
		return nil, auth.Invalid("pinned_app is missing: the appid to pin the key to, or an empty string for none")
	}
	return json.Marshal(v)
}

// readAppUpdate is readBody with a look into the policy: the generated type would
// take unknown members in it, and one that is misspelt leaves a door open or
// shut.
func readAppUpdate(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var v struct {
		Policy        json.RawMessage `json:"policy,omitempty"`
		WebhookSecret *string         `json:"webhook_secret,omitempty"`
		Reason        *string         `json:"reason,omitempty"`
	}
	if err := web.ReadJSON(w, r, &v); err != nil {
		return nil, err
	}
	if v.Policy != nil {
		if _, err := auth.ParsePolicy(v.Policy); err != nil {
			return nil, err
		}
	}
	return json.Marshal(v)
}

// strictBody reads bodies as they must be, and hands on what it read: the
// generated code would take unknown members, repeated ones, and any length. Nor
// does it let parameters pass that the operation does not have: a dry run that is
// misspelt would be none.
func strictBody(next http.Handler) http.Handler {
	return web.API(func(w http.ResponseWriter, r *http.Request) error {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		operation := method + " " + chi.RouteContext(r.Context()).RoutePattern()
		for name, values := range r.URL.Query() {
			switch {
			case !queries[operation][name]:
				return auth.Unexpected("query", "parameter", name, slices.Collect(maps.Keys(queries[operation])))
			case name != "reason" && slices.Contains(values, ""):
				return auth.Invalid("The parameter " + name + " is empty; leave it out.")
			}
		}
		read, ok := bodies[operation]
		switch {
		case ok:
			b, err := read(w, r)
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
		case method != http.MethodGet && method != http.MethodDelete:
			return errors.New("admin: an operation whose body nobody checks")
		}
		next.ServeHTTP(w, r)
		return nil
	})
}
