package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Handler is an HTTP handler that returns its error instead of writing it. It
// must not have written anything when it returns one.
type Handler func(w http.ResponseWriter, r *http.Request) error

// OAuth renders a handler's errors as in RFC 6749 §5.2.
func OAuth(h Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			render(w, r, err, writeOAuthError)
		}
	}
}

// API renders a handler's errors as RFC 9457 problem details, with the
// challenges of RFC 6750.
func API(h Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			render(w, r, err, writeProblem)
		}
	}
}

// JSON writes v with the given status.
func JSON(w http.ResponseWriter, status int, v any) error {
	writeJSON(w, "application/json", status, v)
	return nil
}

// SecretJSON is [JSON] for answers that contain tokens or data of one user: no cache
// may store them (RFC 6749 §5.1).
func SecretJSON(w http.ResponseWriter, status int, v any) error {
	noStore(w)
	return JSON(w, status, v)
}

// NoContent answers a successful request with 204.
func NoContent(w http.ResponseWriter) error {
	noStore(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

func writeJSON(w http.ResponseWriter, contentType string, status int, v any) {
	body := newBuffer()
	defer freeBuffer(body)
	if err := json.NewEncoder(body).Encode(v); err != nil {
		// Only a bug gets here: our answers are plain structs.
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"error":"server_error","error_code":"internal"}` + "\n")
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client may be gone
}

// NotFound answers requests for addresses that do not exist.
var NotFound = API(func(http.ResponseWriter, *http.Request) error { return errNoAddress })

var errNoAddress = &auth.Error{Code: auth.NotFound, Description: "This address does not exist."}

// MethodNotAllowed answers requests with a method that the address does not support, and
// lists the supported ones. For an unknown address it answers as [NotFound]: the router
// calls it for methods that it does not know, before it looks at the address.
func MethodNotAllowed(routes chi.Routes) http.HandlerFunc {
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	return func(w http.ResponseWriter, r *http.Request) {
		allowed := slices.DeleteFunc(slices.Clone(methods), func(m string) bool {
			return !routes.Match(chi.NewRouteContext(), m, r.URL.Path)
		})
		if len(allowed) == 0 {
			NotFound(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		render(w, r, auth.MethodNotAllowed, formOf(r))
	}
}
