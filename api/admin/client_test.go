package admin_test

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// recorder answers every request with an empty object, and records the requests.
type recorder struct{ asked []string }

// RoundTrip implements [http.RoundTripper].
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.asked = append(r.asked, req.Method+" "+req.URL.Path)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{}`)), Request: req,
	}, nil
}

// callAll calls a method of the client with arbitrary arguments, and reads the
// iterator that it returns.
func callAll(ctx context.Context, method reflect.Value) {
	args := make([]reflect.Value, method.Type().NumIn())
	for i := range args {
		switch in := method.Type().In(i); in {
		case reflect.TypeFor[context.Context]():
			args[i] = reflect.ValueOf(ctx)
		case reflect.TypeFor[io.Reader]():
			args[i] = reflect.ValueOf(strings.NewReader(`{}`))
		case reflect.TypeFor[uuid.UUID]():
			args[i] = reflect.ValueOf(uuid.New())
		case reflect.TypeFor[string]():
			args[i] = reflect.ValueOf("x")
		default:
			args[i] = reflect.Zero(in)
		}
	}
	if out := method.Call(args)[0]; out.Kind() == reflect.Func {
		out.Call([]reflect.Value{reflect.MakeFunc(out.Type().In(0), func([]reflect.Value) []reflect.Value {
			return []reflect.Value{reflect.ValueOf(true)}
		})})
	}
}

// TestClientOperations calls every method of the Go client, and expects exactly one
// method for each operation of openapi.yaml.
func TestClientOperations(t *testing.T) {
	t.Parallel()
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for _, op := range contract.Operations(apitest.Admin) {
		if strings.Contains(op, " /admin/") {
			called[op] = false
		}
	}
	parameter := regexp.MustCompile(`\\\{[a-z]+\\\}`)
	seen := &recorder{}
	c, err := adminclient.New(adminclient.Config{URL: "http://admin.invalid", ServiceKey: "yfk_x", HTTPClient: &http.Client{Transport: seen}})
	if err != nil {
		t.Fatal(err)
	}
	client := reflect.ValueOf(c)
	for i := range client.NumMethod() {
		name := client.Type().Method(i).Name
		seen.asked = nil
		callAll(t.Context(), client.Method(i))
		if len(seen.asked) != 1 {
			t.Errorf("%s makes the requests %q, want one", name, seen.asked)
			continue
		}
		var ops []string
		for op := range called {
			if regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(op), "[^/]+") + "$").MatchString(seen.asked[0]) {
				ops = append(ops, op)
			}
		}
		if len(ops) != 1 {
			t.Errorf("%s sends %s, which matches the operations %q of openapi.yaml, want one", name, seen.asked[0], ops)
			continue
		}
		called[ops[0]] = true
	}
	var missing []string
	for op, ok := range called {
		if !ok {
			missing = append(missing, op)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("the client has no method for %q", missing)
	}
}
