package web_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// order is a body that the tests send.
type order struct {
	Name  *string   `json:"name,omitempty"`
	Count *int      `json:"count,omitempty"`
	Apps  *[]string `json:"apps,omitempty"`
}

func readJSON(t testing.TB, contentType, body string) (order, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	var v order
	err := web.ReadJSON(httptest.NewRecorder(), r, &v)
	return v, err
}

func TestReadJSON(t *testing.T) {
	t.Parallel()
	name, count := "张三", 2
	for what, tc := range map[string]struct {
		contentType, body string
		want              order
	}{
		"an object":             {"application/json", `{"name":"张三","count":2}`, order{Name: &name, Count: &count}},
		"an empty object":       {"application/json", ` { } `, order{}},
		"a charset":             {"application/json; charset=UTF-8", `{"count":2}`, order{Count: &count}},
		"a member that is null": {"application/json", `{"count":2,"name":null}`, order{Count: &count}},
	} {
		t.Run(what+" is read", func(t *testing.T) {
			t.Parallel()
			got, err := readJSON(t, tc.contentType, tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
		})
	}
	const js = "application/json"
	for what, tc := range map[string]struct {
		contentType, body string
		want              auth.Code
	}{
		"an empty body":            {js, ``, auth.InvalidRequest},
		"null":                     {js, `null`, auth.InvalidRequest},
		"an array":                 {js, `[{}]`, auth.InvalidRequest},
		"a string":                 {js, `"x"`, auth.InvalidRequest},
		"a malformed object":       {js, `{name:1}`, auth.InvalidRequest},
		"a truncated object":       {js, `{"name":"x"`, auth.InvalidRequest},
		"a member of another kind": {js, `{"count":"secret-value"}`, auth.InvalidRequest},
		"a list of another kind":   {js, `{"apps":[{"secret-value":1}]}`, auth.InvalidRequest},
		"an unknown member":        {js, `{"secret-value-of-25-letters":1}`, auth.InvalidRequest},
		"a member in upper case":   {js, `{"NAME":"x"}`, auth.InvalidRequest},
		"a repeated member":        {js, `{"name":"x","name":"y"}`, auth.InvalidRequest},
		"two objects":              {js, `{}{}`, auth.InvalidRequest},
		"text after the object":    {js, `{} x`, auth.InvalidRequest},
		"a NUL":                    {js, "{\"name\":\"\x00\"}", auth.InvalidRequest},
		"invalid UTF-8":            {js, "{\"name\":\"\xff\"}", auth.InvalidRequest},
		"a form":                   {"application/x-www-form-urlencoded", `name=x`, auth.UnsupportedMediaType},
		"no Content-Type":          {"", `{}`, auth.UnsupportedMediaType},
		"a malformed Content-Type": {";", `{}`, auth.UnsupportedMediaType},
		"another charset":          {"application/json; charset=gbk", `{}`, auth.UnsupportedMediaType},
		"a body that is too large": {js, `{"name":"` + strings.Repeat("x", web.MaxJSONBody) + `"}`, auth.BodyTooLarge},
	} {
		t.Run(what+" is refused", func(t *testing.T) {
			t.Parallel()
			_, err := readJSON(t, tc.contentType, tc.body)
			if auth.CodeOf(err) != tc.want {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret-value") {
				t.Errorf("the error quotes the body: %v", err)
			}
		})
	}
	t.Run("a body that ends early is refused", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader("{"), broken{}))
		r.Header.Set("Content-Type", js)
		var v order
		if err := web.ReadJSON(httptest.NewRecorder(), r, &v); auth.CodeOf(err) != auth.InvalidRequest {
			t.Errorf("error %v", err)
		}
	})
}

// delivery is an order with another member.
type delivery struct {
	order
	Address string `json:"address"`
}

func TestReadJSONIntoEmbeddedStructs(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]auth.Code{
		`{"name":"x","count":2,"address":"y"}`: "",
		`{"name":"x","order":{}}`:              auth.InvalidRequest,
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		var got delivery
		err := web.ReadJSON(httptest.NewRecorder(), r, &got)
		if err == nil && (got.Name == nil || *got.Name != "x" || got.Address != "y") {
			t.Errorf("ReadJSON(%s) reads %+v", body, got)
		}
		if want == "" && err != nil || want != "" && auth.CodeOf(err) != want {
			t.Errorf("ReadJSON(%s) error = %v, want code %q", body, err, want)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzReadJSON checks that an accepted body has the same value in encoding/json, and that
// errors quote no input.
func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"name":"x","count":1,"apps":["a"]}`, `{"name":1}`, `{"name":"x","name":"y"}`, `{"a":{"b":[`, `{"count":1e3}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := readJSON(t, "application/json", body)
		if err != nil {
			if code := auth.CodeOf(err); code != auth.InvalidRequest && code != auth.BodyTooLarge {
				t.Fatalf("body %q: error = %v, want invalid_request or body_too_large", body, err)
			}
			return
		}
		var want order
		if err := json.Unmarshal([]byte(body), &want); err != nil {
			t.Fatalf("ReadJSON() accepts %q, json.Unmarshal has the error %v", body, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("mismatch (-want +got):\n%s", d)
		}
	})
}

func TestErrorsNameMembers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"colour":1}`:                 "The body has an unknown member colour. Allowed members: apps, count, name.",
		`{"count":"x"}`:                "The member count has the wrong type.",
		`{"name":"x","count":1e999}`:   "The member count",
		`{"name":"x","name":"y"}`:      "The member name is repeated.",
		`{"eyJhbGciOiJFUzI1NiJ9.x":1}`: "The body has an unknown member.",
		`{"13800001002":1}`:            "The body has an unknown member.",
		`{"a b":1}`:                    "The body has an unknown member.",
	} {
		_, err := readJSON(t, "application/json", body)
		var e *auth.Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Description, want) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
}
