package web_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestMethodNotAllowed(t *testing.T) {
	t.Parallel()
	newRoutes := func() *harness {
		h := newHarness()
		ok := web.API(func(w http.ResponseWriter, _ *http.Request) error { return web.JSON(w, http.StatusOK, struct{}{}) })
		h.Post("/oauth2/token", ok)
		h.Get("/v1/me", ok)
		h.Get("/v1/binding", ok)
		h.Post("/v1/binding", ok)
		h.Delete("/v1/binding", ok)
		return h
	}
	for _, tc := range []struct{ method, path, allow string }{
		{http.MethodGet, "/oauth2/token", "POST"},
		{http.MethodHead, "/oauth2/token", "POST"},
		{http.MethodOptions, "/oauth2/token", "POST"},
		{http.MethodPut, "/oauth2/token", "POST"},
		{http.MethodPost, "/v1/me", "GET"},
		{http.MethodOptions, "/v1/me", "GET"},
		{http.MethodTrace, "/v1/me", "GET"},
		{"STRANGE", "/v1/me", "GET"},
		{http.MethodPut, "/v1/binding", "GET, POST, DELETE"},
	} {
		t.Run(tc.method+" "+tc.path+" lists the allowed methods", func(t *testing.T) {
			t.Parallel()
			h := newRoutes()
			w := h.do(httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, nil))
			if w.Code != http.StatusMethodNotAllowed {
				t.Errorf("status = %d", w.Code)
			}
			if got := w.Header().Values("Allow"); !cmp.Equal(got, []string{tc.allow}) {
				t.Errorf("Allow = %q, want %q", got, tc.allow)
			}
			m := members(t, w)
			if tc.path == "/oauth2/token" {
				if m["error"] != "invalid_request" || m["error_code"] != "method_not_allowed" {
					t.Errorf("members = %v, want invalid_request and method_not_allowed", m)
				}
			} else if m["code"] != "method_not_allowed" || m["status"] != 405.0 {
				t.Errorf("members = %v, want 405 method_not_allowed", m)
			}
			if line := h.log.one(t); line["error_code"] != "method_not_allowed" {
				t.Errorf("log line = %v, want the error_code method_not_allowed", line)
			}
		})
	}
	t.Run("an unknown method of an unknown address is not found", func(t *testing.T) {
		t.Parallel()
		h := newRoutes()
		w := h.do(httptest.NewRequestWithContext(t.Context(), "STRANGE", "/nowhere", nil))
		if w.Code != http.StatusNotFound || w.Header().Get("Allow") != "" || members(t, w)["code"] != "not_found" {
			t.Errorf("STRANGE /nowhere: status, headers and body = %d %v %s, want 404 not_found without Allow", w.Code, w.Header(), w.Body)
		}
	})
	t.Run("matching in a new context does not change the route context", func(t *testing.T) {
		t.Parallel()
		h := newRoutes()
		h.do(httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/v1/binding", nil))
		if w := h.do(httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/v1/binding", nil)); w.Code != http.StatusOK {
			t.Errorf("DELETE /v1/binding: status = %d, want 200", w.Code)
		}
	})
}

func TestJSON(t *testing.T) {
	t.Parallel()
	answer := func(t *testing.T, write func(http.ResponseWriter, int, any) error, v any) *httptest.ResponseRecorder {
		t.Helper()
		w := httptest.NewRecorder()
		if err := write(w, http.StatusCreated, v); err != nil {
			t.Fatal(err)
		}
		return w
	}
	t.Run("the body is one line of JSON", func(t *testing.T) {
		t.Parallel()
		w := answer(t, web.JSON, map[string]int{"a": 1})
		if w.Code != http.StatusCreated || w.Body.String() != "{\"a\":1}\n" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("status, headers and body = %d %v %q, want 201, application/json and one line", w.Code, w.Header(), w.Body)
		}
		if w.Header().Get("Cache-Control") != "" {
			t.Errorf("Cache-Control = %q", w.Header().Get("Cache-Control"))
		}
	})
	t.Run("answers with secrets are not cacheable", func(t *testing.T) {
		t.Parallel()
		w := answer(t, web.SecretJSON, map[string]int{"a": 1})
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Pragma") != "no-cache" {
			t.Errorf("headers = %v, want no-store and no-cache", w.Header())
		}
	})
	t.Run("a value that cannot be encoded is answered with a complete 500", func(t *testing.T) {
		t.Parallel()
		w := answer(t, web.JSON, math.NaN())
		if m := members(t, w); w.Code != http.StatusInternalServerError || m["error_code"] != "internal" {
			t.Errorf("status and body = %d %s, want 500 internal", w.Code, w.Body)
		}
	})
}

func TestPersonOf(t *testing.T) {
	t.Parallel()
	if p := web.PersonOf(&auth.Session{}); p != nil {
		t.Errorf("PersonOf() of an unbound session = %+v, want nil", p)
	}
	id := uuid.Must(uuid.NewV7())
	got := web.PersonOf(&auth.Session{Person: &auth.Person{ID: id, ExternalID: "E-4711", Name: "张三"}})
	if d := cmp.Diff(&web.Person{ID: id, ExternalID: "E-4711", Name: "张三"}, got); d != "" {
		t.Errorf("mismatch (-want +got):\n%s", d)
	}
}
