package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
)

// bodies reads the body of each operation that has one.
var bodies = map[string]func(http.ResponseWriter, *http.Request) ([]byte, error){
	"POST /admin/v1/revocations":  readBody[RevocationRequest],
	"POST /admin/v1/service-keys": readBody[ServiceKeyRequest],

	"POST /admin/v1/signing-keys/rotate":       readBody[RotationRequest],
	"POST /admin/v1/signing-keys/{kid}/retire": readBody[RetirementRequest],
}

func readBody[T any](w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var v T
	if err := web.ReadJSON(w, r, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// strictBody reads bodies as they must be, and hands on what it read: the
// generated code would take unknown members, repeated ones, and any length.
func strictBody(next http.Handler) http.Handler {
	return web.API(func(w http.ResponseWriter, r *http.Request) error {
		read, ok := bodies[r.Method+" "+chi.RouteContext(r.Context()).RoutePattern()]
		switch {
		case ok:
			b, err := read(w, r)
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
		case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodDelete:
			return errors.New("admin: an operation whose body nobody checks")
		}
		next.ServeHTTP(w, r)
		return nil
	})
}
