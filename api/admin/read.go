package admin

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// checkQuery refuses a query with a parameter that is unknown, repeated or empty: with
// a misspelt dry_run, an import would write. Only a reason may be empty.
func checkQuery(r *http.Request, names []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return auth.Invalid("The query is not validly URL-encoded.") // the error quotes it
	}
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			return auth.Unexpected("query", "parameter", name, names)
		case len(values) > 1:
			return auth.Invalid("The parameter " + name + " is repeated.")
		case name != "reason" && values[0] == "":
			return auth.Invalid("The parameter " + name + " is empty; leave it out.")
		}
	}
	return nil
}

// queryText returns a parameter of the query, or "" when it is missing.
func queryText(r *http.Request, name string) string { return r.URL.Query().Get(name) }

// queryValue returns a parameter of the query, or nil when it is missing.
func queryValue[T any](r *http.Request, name string, parse func(string) (T, error)) (*T, error) {
	query := r.URL.Query()
	if !query.Has(name) {
		return nil, nil
	}
	v, err := parse(query.Get(name))
	if err != nil {
		return nil, errForm(name)
	}
	return &v, nil
}

// pathText returns a parameter of the path.
func pathText(r *http.Request, name string) (string, error) {
	text := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return text, nil
	}
	// With a RawPath, the router matches the path before unescaping.
	text, err := url.PathUnescape(text)
	if err != nil {
		return "", errForm(name)
	}
	return text, nil
}

// pathID returns a parameter of the path that is a UUID.
func pathID(r *http.Request, name string) (uuid.UUID, error) {
	text, err := pathText(r, name)
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, errForm(name)
	}
	return id, nil
}

// errForm says which parameter is malformed. It does not quote the value.
func errForm(name string) error {
	return auth.Invalid("The parameter " + name + " has an invalid value.")
}

// readBody reads a JSON body; see [web.ReadJSON].
func readBody[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var v T
	err := web.ReadJSON(w, r, &v)
	return v, err
}

// readOptional is readBody that accepts a missing body as an empty object.
func readOptional[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	if r.Header.Get("Content-Type") == "" {
		if n, err := r.Body.Read(make([]byte, 1)); n == 0 && errors.Is(err, io.EOF) {
			var empty T
			return empty, nil
		}
	}
	return readBody[T](w, r) // refuses a body without a Content-Type
}
