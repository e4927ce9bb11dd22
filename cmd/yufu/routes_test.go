package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api/admin"
	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/api/binding"
	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/health"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// routers returns the routers of the program. Only service keys work.
func routers(log *slog.Logger, keys web.ServiceKeys) map[apitest.Listener]http.Handler {
	m := telemetry.NewMetrics("test")
	guard := web.NewGuard(keys)
	feed := func(r *http.Request, scope servicekey.Scope) (servicekey.Key, error) {
		if key, err := guard.Authorize(r, scope); err != nil {
			return key, err
		}
		return servicekey.Key{}, auth.StorageUnavailable
	}
	return map[apitest.Listener]http.Handler{
		apitest.Public: publicRouter(log, m, nil, oauth.New("https://auth.example.com", nil, nil, nil, 5*time.Minute), binding.New(nil, nil), gate.New(nil, feed),
			validation{introspection: oauth.NewIntrospection(guard, nil, knownApps{answering: func() bool { return false }}, nil, nil), forwardAuth: gate.NewForwardAuth(nil, nil, "")}),
		apitest.Admin: adminRouter(log, health.New(brokenDatabase{}, func() string { return "" }), m, nil, admin.New(admin.Config{Guard: guard})),
	}
}

// brokenDatabase is a database whose Ping panics, as a defect does.
type brokenDatabase struct{ health.Database }

func (brokenDatabase) Ping(context.Context) error { panic("the database is a defect") }

func TestRoutes(t *testing.T) {
	t.Parallel()
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for listener, router := range routers(slog.New(slog.DiscardHandler), nil) {
		t.Run("routes of the "+string(listener)+" listener are those of openapi.yaml", func(t *testing.T) {
			t.Parallel()
			var routes []string
			err := chi.Walk(router.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
				routes = append(routes, method+" "+route)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(routes)
			if d := cmp.Diff(contract.Operations(listener), routes); d != "" {
				t.Errorf("-openapi.yaml +router:\n%s", d)
			}
			if len(routes) < 3 {
				t.Errorf("the walk found %d routes, want 3 or more", len(routes))
			}
		})
	}
}

// keysByScope accepts one service key for each scope. The secret is the name of the scope.
type keysByScope struct{}

func (keysByScope) Authenticate(_ context.Context, presented auth.Secret) (servicekey.Key, error) {
	return servicekey.Key{Scopes: []servicekey.Scope{servicekey.Scope(presented.Reveal())}}, nil
}

func TestRouteScopes(t *testing.T) {
	t.Parallel()
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	operations := 0
	for listener, router := range routers(slog.New(slog.DiscardHandler), keysByScope{}) {
		for _, operation := range contract.Operations(listener) {
			needs, err := contract.Scope(listener, operation)
			if err != nil {
				t.Error(err)
			}
			if needs == "" {
				continue
			}
			operations++
			method, path, _ := strings.Cut(operation, " ")
			for _, scope := range servicekey.Scopes() {
				w := httptest.NewRecorder()
				r := httptest.NewRequestWithContext(t.Context(), method, path+"?unknown=1", nil)
				r.Header.Set("Authorization", "Bearer "+string(scope))
				router.ServeHTTP(w, r)
				may := string(scope) == needs || scope == servicekey.ScopeAdmin && needs == string(servicekey.ScopeRead)
				if refused := w.Code == http.StatusForbidden; refused == may || w.Code == http.StatusUnauthorized {
					t.Errorf("%s answers a key of scope %s with %d %s; openapi.yaml says it needs %s", operation, scope, w.Code, w.Body, needs)
				}
				if !may || !strings.HasPrefix(path, "/admin/") {
					continue
				}
				var want *auth.Error
				errors.As(auth.Unexpected("query", "parameter", "unknown", contract.Query(listener, operation)), &want)
				if !strings.Contains(w.Body.String(), want.Description) {
					t.Errorf("%s answers an unknown parameter with %d %s, want %q", operation, w.Code, w.Body, want.Description)
				}
			}
		}
	}
	if operations < 30 {
		t.Errorf("service keys open %d operations, want 30 or more", operations)
	}
}

func TestAdminLog(t *testing.T) {
	t.Parallel()
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	admin := routers(slog.New(slog.NewJSONHandler(&log, nil)), nil)[apitest.Admin]
	get := func(t *testing.T, path string, status int) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		admin.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%s answers %d, want %d", path, w.Code, status)
		}
		if err := contract.Check(apitest.Admin, r, nil, w.Result(), w.Body.Bytes()); err != nil {
			t.Errorf("%s: the answer differs from openapi.yaml: %v", path, err)
		}
	}
	t.Run("the log has no line for a probe or an unknown path", func(t *testing.T) {
		get(t, "/healthz", http.StatusOK)
		get(t, "/metrics", http.StatusOK)
		get(t, "/v1/me", http.StatusNotFound)
		if log.Len() > 0 {
			t.Errorf("the log has %s, want no line", &log)
		}
	})
	t.Run("the log has a line for a defect", func(t *testing.T) {
		get(t, "/readyz", http.StatusInternalServerError)
		if !strings.Contains(log.String(), "the database is a defect") || !strings.Contains(log.String(), `"level":"ERROR"`) {
			t.Errorf("the log has %s, want an error that names the defect", &log)
		}
	})
}

func TestUntrustedProxy(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	for listener, router := range routers(slog.New(slog.NewTextHandler(&lines, nil)), nil) {
		setting := map[apitest.Listener]string{apitest.Public: "YUFU_TRUSTED_PROXIES", apitest.Admin: "YUFU_ADMIN_TRUSTED_PROXIES"}[listener]
		lines.Reset()
		for range 3 {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/nowhere", nil)
			r.Header.Set("X-Forwarded-For", "203.0.113.5")
			router.ServeHTTP(httptest.NewRecorder(), r)
		}
		if n := strings.Count(lines.String(), setting); n != 1 {
			t.Errorf("%s: the log names %s %d times, want once: %s", listener, setting, n, lines.String())
		}
	}
}
