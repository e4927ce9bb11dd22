package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func get(t *testing.T, target string) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	t.Run("a request is one log line and one observation", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/v1/things/{id}", func(w http.ResponseWriter, r *http.Request) {
			h.clock.Advance(1500 * time.Millisecond)
			web.EventOf(r.Context()).Add(slog.String("app", "wx1"))
			w.WriteHeader(http.StatusAccepted)
		})
		r := get(t, "/v1/things/7?page=SECRET")
		r.RemoteAddr = "192.0.2.7:4711"
		r.Header.Set("Authorization", "Bearer SECRET")
		r.Header.Set("Cookie", "a=SECRET")
		w := h.do(r)
		line := h.log.one(t)
		delete(line, "time")
		if d := cmp.Diff(map[string]any{
			"level": "INFO", "msg": "request", "request_id": w.Header().Get("X-Request-Id"), "method": "GET",
			"route": "/v1/things/{id}", "status": 202.0, "duration_ms": 1500.0, "client": "192.0.2.7", "app": "wx1",
		}, line); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]web.Observation{{Route: "/v1/things/{id}", Method: "GET", Status: 202, Duration: 1500 * time.Millisecond}}, h.observations()); d != "" {
			t.Error(d)
		}
	})
	t.Run("the request id is ours, random, and not the client's", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		seen := map[string]bool{}
		for range 50 {
			r := get(t, "/nowhere")
			r.Header.Set("X-Request-Id", "the-clients")
			id := h.do(r).Header().Get("X-Request-Id")
			if len(id) < 20 || id == "the-clients" || seen[id] {
				t.Fatalf("%q", id)
			}
			seen[id] = true
		}
	})
	t.Run("a handler that writes nothing has answered 200", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/", func(http.ResponseWriter, *http.Request) {})
		h.do(get(t, "/"))
		if got := h.log.one(t)["status"]; got != 200.0 {
			t.Errorf("status %v", got)
		}
	})
	t.Run("addresses that do not exist share one route", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/v1/me", func(http.ResponseWriter, *http.Request) {})
		h.Route("/console", func(r chi.Router) { r.Get("/apps", func(http.ResponseWriter, *http.Request) {}) })
		for _, target := range []string{"/", "/v1", "/v1/me/", "/wp-login.php", "/console/wp-login.php", "/v1/01900000-0000-7c00-8000-000000000001", "/%00"} {
			w := h.do(get(t, target))
			if w.Code != http.StatusNotFound || members(t, w)["code"] != "not_found" {
				t.Errorf("%s: %d %s", target, w.Code, w.Body)
			}
		}
		for _, o := range h.observations() {
			if o.Route != "unmatched" || o.Code != auth.NotFound {
				t.Errorf("%+v", o)
			}
		}
	})
	t.Run("an invented method shows neither in the log nor in the metrics", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/x", func(http.ResponseWriter, *http.Request) {})
		h.do(httptest.NewRequestWithContext(t.Context(), "STRANGE", "/x", nil))
		if got := h.log.one(t)["method"]; got != "other" {
			t.Errorf("method %q", got)
		}
		if o := h.observations(); o[0].Method != "other" {
			t.Errorf("%+v", o)
		}
	})
	t.Run("as a middleware of the router it leaves the router's own context alone", func(t *testing.T) {
		t.Parallel()
		var observed []web.Observation
		r := chi.NewRouter()
		r.Use(web.Events(slog.New(slog.DiscardHandler), func(o web.Observation) { observed = append(observed, o) }, time.Now))
		r.Use(middleware.GetHead) // looks at the routes before they are taken
		r.NotFound(web.NotFound)
		r.Get("/v1/{id}", func(http.ResponseWriter, *http.Request) {})
		for target, want := range map[string]int{"/v1/7": http.StatusOK, "/nowhere": http.StatusNotFound} {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, target, nil))
			if w.Code != want {
				t.Errorf("%s: %d, want %d", target, w.Code, want)
			}
		}
		slices.SortFunc(observed, func(a, b web.Observation) int { return a.Status - b.Status })
		if len(observed) != 2 || observed[0].Route != "/v1/{id}" || observed[1].Route != "unmatched" {
			t.Errorf("%+v", observed)
		}
	})
	t.Run("outside of a request there is an event that nobody reads", func(t *testing.T) {
		t.Parallel()
		web.EventOf(context.Background()).Add(slog.String("a", "b"))
		if e := web.EventOf(context.Background()); len(e.Attrs) != 0 || e.RequestID != "" {
			t.Errorf("%+v", e)
		}
	})
	t.Run("a log that is switched off costs nothing but still counts", func(t *testing.T) {
		t.Parallel()
		observed := 0
		handler := web.Events(slog.New(slog.DiscardHandler), func(web.Observation) { observed++ }, time.Now)(http.NotFoundHandler())
		handler.ServeHTTP(httptest.NewRecorder(), get(t, "/"))
		if observed != 1 {
			t.Errorf("%d observations", observed)
		}
	})
}

func TestLogLevels(t *testing.T) {
	t.Parallel()
	for code, want := range map[auth.Code]string{
		auth.CodeInvalid:           "INFO",
		auth.AppUnknown:            "INFO",
		auth.RateLimited:           "INFO",
		auth.RefreshReused:         "WARN",
		auth.StorageUnavailable:    "WARN",
		auth.PlatformUnavailable:   "WARN",
		auth.PlatformMisconfigured: "ERROR",
		auth.Internal:              "ERROR",
	} {
		_, h := fail(t, web.OAuth, code)
		line := h.log.one(t)
		if line["level"] != want || line["error_code"] != string(code) {
			t.Errorf("%s: %v", code, line)
		}
		if _, ok := line["cause"]; ok {
			t.Errorf("%s: the cause says nothing new: %v", code, line)
		}
	}
	t.Run("a description or a cause is in the log", func(t *testing.T) {
		t.Parallel()
		_, h := fail(t, web.OAuth, &auth.Error{Code: auth.StorageUnavailable, Err: errors.New("connection refused")})
		if got := h.log.one(t)["cause"]; got != "storage_unavailable: connection refused" {
			t.Errorf("cause %q", got)
		}
	})
}

func TestPanic(t *testing.T) {
	t.Parallel()
	// serveOver runs the harness as a real server, so that a connection can be
	// cut.
	serveOver := func(t *testing.T, h *harness, path string) (*http.Response, []byte, error) {
		t.Helper()
		srv := httptest.NewServer(h.handler)
		t.Cleanup(srv.Close)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			return nil, nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp, body, err
	}
	t.Run("becomes an internal error that says nothing, and is logged once with its stack", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/x", func(http.ResponseWriter, *http.Request) { panic("the works are 10.1.2.3") })
		w := h.do(get(t, "/x"))
		if m := members(t, w); w.Code != 500 || m["code"] != "internal" || strings.Contains(w.Body.String(), "10.1.2.3") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		line := h.log.one(t)
		cause, _ := line["cause"].(string)
		if line["level"] != "ERROR" || line["error_code"] != "internal" || !strings.Contains(cause, "the works are 10.1.2.3") || !strings.Contains(cause, "event_test.go") {
			t.Errorf("%v", line)
		}
	})
	t.Run("at an OAuth endpoint is answered as OAuth does", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/oauth2/x", web.OAuth(func(http.ResponseWriter, *http.Request) error { panic(errors.New("x")) }))
		w := h.do(get(t, "/oauth2/x"))
		if m := members(t, w); w.Code != 500 || m["error"] != "server_error" || m["error_code"] != "internal" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	t.Run("after half an answer cuts the connection and is logged as a defect", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/x", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"half":`)
			_ = http.NewResponseController(w).Flush()
			panic("x")
		})
		if _, body, err := serveOver(t, h, "/x"); err == nil {
			t.Errorf("half an answer looks whole: %q", body)
		}
		if line := h.log.one(t); line["level"] != "ERROR" || line["error_code"] != "internal" {
			t.Errorf("%v", line)
		}
	})
	t.Run("that asks to abort cuts the connection, and the request is logged all the same", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/x", func(http.ResponseWriter, *http.Request) { panic(fmt.Errorf("y: %w", http.ErrAbortHandler)) })
		if resp, _, err := serveOver(t, h, "/x"); err == nil {
			t.Errorf("answered %d", resp.StatusCode)
		}
		if line := h.log.one(t); line["route"] != "/x" || line["status"] != 0.0 {
			t.Errorf("%v", line)
		}
	})
	t.Run("the server goes on", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Get("/x", func(http.ResponseWriter, *http.Request) { panic("x") })
		h.Get("/y", func(http.ResponseWriter, *http.Request) {})
		h.do(get(t, "/x"))
		if w := h.do(get(t, "/y")); w.Code != http.StatusOK {
			t.Errorf("%d", w.Code)
		}
	})
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	h := newHarness()
	h.Get("/x", web.API(func(_ http.ResponseWriter, r *http.Request) error {
		return fmt.Errorf("query: %w", r.Context().Err())
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := h.do(httptest.NewRequestWithContext(ctx, http.MethodGet, "/x", nil))
	if w.Body.Len() != 0 {
		t.Errorf("an answer to nobody: %s", w.Body)
	}
	if line := h.log.one(t); line["error_code"] != "client_gone" || line["status"] != 499.0 || line["level"] != "INFO" {
		t.Errorf("%v", line)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	t.Run("what waits longer for storage answers storage_unavailable", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Use(web.Timeout(time.Nanosecond))
		h.Get("/x", web.API(func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return fmt.Errorf("query: %w", r.Context().Err())
		}))
		w := h.do(get(t, "/x"))
		if m := members(t, w); w.Code != 503 || m["code"] != "storage_unavailable" || w.Header().Get("Retry-After") == "" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	t.Run("what is in time has a deadline and is not disturbed", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Use(web.Timeout(time.Hour))
		h.Get("/x", web.API(func(w http.ResponseWriter, r *http.Request) error {
			if _, ok := r.Context().Deadline(); !ok {
				t.Error("no deadline")
			}
			return web.JSON(w, http.StatusOK, struct{}{})
		}))
		if w := h.do(get(t, "/x")); w.Code != http.StatusOK {
			t.Errorf("%d", w.Code)
		}
	})
}
