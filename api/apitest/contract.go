// Package apitest checks real HTTP traffic against the contract, openapi.yaml. Only
// tests import it.
//
// It owns the rules that follow from the document. The document must describe every
// answer for its listener, path, method and status. A request that succeeds must follow
// the document; other requests need not, because many tests send malformed ones.
// Unknown addresses must answer as the document's x-not-found says, unknown methods as
// the 405 of their path. [Transport] applies the rules to the traffic of an HTTP
// client, [SameMembers] those of the examples.
//
// It does not own the document, nor the meaning of values: the test checks that an
// answer is the right one.
//
// A violation fails the test and changes nothing else: the client gets the answer
// unchanged.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/yufu-auth/yufu/api"
)

// Listener is one of the two listeners of the program.
type Listener string

// The listeners.
const (
	Public Listener = "public"
	Admin  Listener = "admin"
)

// listeners are all listeners.
var listeners = []Listener{Public, Admin}

// notFound is the extension of the document that refers to the response of unknown
// addresses.
const notFound = "x-not-found"

// Contract is the document as rules. It is safe for concurrent use.
type Contract struct {
	listeners map[Listener]listener
	notFound  *openapi3.Operation
	schemas   schemas
}

// listener is the part of the document that one listener serves.
type listener struct {
	doc    *openapi3.T
	router routers.Router
}

// Load returns the contract. It reads the document once.
var Load = sync.OnceValues(func() (*Contract, error) { return parse(api.OpenAPI()) })

func parse(document []byte) (*Contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("apitest: %w", err)
	}
	c := &Contract{listeners: map[Listener]listener{}}
	if c.notFound, err = unknownAddress(doc); err != nil {
		return nil, err
	}
	if c.schemas, err = compile(doc); err != nil {
		return nil, fmt.Errorf("apitest: %w", err)
	}
	for _, l := range listeners {
		if c.listeners[l], err = part(doc, l); err != nil {
			return nil, fmt.Errorf("apitest: the %s listener: %w", l, err)
		}
	}
	return c, nil
}

// unknownAddress returns the operation of unknown addresses: its only answer is 404.
func unknownAddress(doc *openapi3.T) (*openapi3.Operation, error) {
	ref, _ := doc.Extensions[notFound].(map[string]any)
	name, _ := ref["$ref"].(string)
	response := doc.Components.Responses[strings.TrimPrefix(name, "#/components/responses/")]
	if response == nil {
		return nil, fmt.Errorf("apitest: the document's %s refers to no response", notFound)
	}
	return &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(http.StatusNotFound, response))}, nil
}

// part returns the part of the document that one listener serves: paths with their own
// servers belong to the admin listener. The test knows the listener's address.
func part(doc *openapi3.T, l Listener) (listener, error) {
	served := *doc
	served.Servers, served.Paths = nil, openapi3.NewPaths()
	for path, item := range doc.Paths.Map() {
		if (len(item.Servers) > 0) == (l == Admin) {
			copied := *item
			copied.Servers = nil
			served.Paths.Set(path, &copied)
		}
	}
	router, err := legacy.NewRouter(&served, openapi3.IsOpenAPI31OrLater())
	return listener{&served, router}, err
}

// Operations returns the operations of a listener, each as a method and a path:
// "GET /v1/me".
func (c *Contract) Operations(l Listener) []string {
	var all []string
	for path, item := range c.listeners[l].doc.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// Scope returns the scope of a service key that opens an operation, or "" when
// service keys do not open it.
func (c *Contract) Scope(l Listener, operation string) (string, error) {
	var found []string
	if security := c.operation(l, operation).Security; security != nil {
		for _, alternative := range *security {
			for scheme, scopes := range alternative {
				if scope := strings.Join(scopes, " "); strings.HasPrefix(scheme, "serviceKey") && !slices.Contains(found, scope) {
					found = append(found, scope)
				}
			}
		}
	}
	if len(found) > 1 {
		return "", fmt.Errorf("%s needs a service key of more than one scope: %q", operation, found)
	}
	return strings.Join(found, ""), nil
}

// Query returns the names of the parameters that an operation takes in the query.
func (c *Contract) Query(l Listener, operation string) []string {
	var names []string
	for _, p := range c.operation(l, operation).Parameters {
		if p.Value.In == openapi3.ParameterInQuery {
			names = append(names, p.Value.Name)
		}
	}
	slices.Sort(names)
	return names
}

// operation returns one of [Contract.Operations].
func (c *Contract) operation(l Listener, name string) *openapi3.Operation {
	method, path, _ := strings.Cut(name, " ")
	return c.listeners[l].doc.Paths.Value(path).GetOperation(method)
}

// Check returns an error if a request or its answer violates the contract.
// The bodies are the complete bodies of the two messages.
func (c *Contract) Check(l Listener, req *http.Request, reqBody []byte, resp *http.Response, body []byte) error {
	route, params, err := c.route(l, req, resp.StatusCode)
	if err != nil {
		return err
	}
	ask := req.Clone(context.Background())
	if ask.Method == http.MethodHead {
		ask.Method = http.MethodGet // HEAD answers as GET, without the body
	}
	request := &openapi3filter.RequestValidationInput{
		Request: ask, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: authenticated, ExcludeRequestBody: true, SkipSettingDefaults: true},
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		err := openapi3filter.ValidateRequest(ask.Context(), request)
		if err == nil {
			err = c.schemas.request(route.Operation, req.Header.Get("Content-Type"), reqBody)
		}
		if err != nil {
			return fmt.Errorf("the request succeeded but does not follow the document: %w", err)
		}
	}
	err = openapi3filter.ValidateResponse(ask.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request,
		Status:                 resp.StatusCode,
		Header:                 resp.Header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: true},
	})
	if err == nil && req.Method != http.MethodHead {
		err = c.schemas.response(route.Operation.Responses.Status(resp.StatusCode).Value, resp.Header.Get("Content-Type"), body)
	}
	if err != nil {
		return fmt.Errorf("the document does not describe the answer: %w", err)
	}
	return consistent(resp, body)
}

// route returns the operation of a request. For an unknown method it is the operation
// of the path that describes the 405, for an unknown path that of unknown addresses.
func (c *Contract) route(l Listener, req *http.Request, status int) (*routers.Route, map[string]string, error) {
	part, ok := c.listeners[l]
	if !ok {
		return nil, nil, fmt.Errorf("unknown listener %q", l)
	}
	find := func(method string) (*routers.Route, map[string]string) {
		r := &http.Request{Method: method, URL: req.URL}
		route, params, err := part.router.FindRoute(r)
		if err != nil {
			return nil, nil
		}
		return route, params
	}
	if route, params := find(req.Method); route != nil {
		return route, params, nil
	}
	if req.Method == http.MethodHead && status != http.StatusMethodNotAllowed {
		if route, params := find(http.MethodGet); route != nil {
			return route, params, nil
		}
	}
	for _, other := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if route, params := find(other); route != nil {
			if status != http.StatusMethodNotAllowed {
				return nil, nil, fmt.Errorf("unknown method of a known path: the status must be 405")
			}
			return route, params, nil
		}
	}
	if status != http.StatusNotFound {
		return nil, nil, errors.New("unknown path: the status must be 404")
	}
	return &routers.Route{Spec: part.doc, PathItem: &openapi3.PathItem{}, Operation: c.notFound}, nil, nil
}

// authenticated checks only the scheme of a request: the server has verified the
// credentials.
func authenticated(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	scheme, _, _ := strings.Cut(in.RequestValidationInput.Request.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, in.SecurityScheme.Scheme) {
		return in.NewError(fmt.Errorf("the Authorization header does not have the scheme %s", in.SecurityScheme.Scheme))
	}
	return nil
}
