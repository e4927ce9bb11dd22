package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
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

// keysByScope accepts a service key for each scope. The secret is the name of the scope,
// and for a key that is restricted to an app a dot and the app.
type keysByScope struct{}

func (keysByScope) Authenticate(_ context.Context, presented auth.Secret) (servicekey.Key, error) {
	scope, app, restricted := strings.Cut(presented.Reveal(), ".")
	key := servicekey.Key{Scopes: []servicekey.Scope{servicekey.Scope(scope)}}
	if restricted {
		key.Apps = []string{app}
	}
	return key, nil
}

// access says for every operation that service keys open which keys may use it: those
// that have one of the scopes and no other, the scope of openapi.yaml first. Restricted
// says whether a key that is restricted to apps may, too.
var access = map[string]struct {
	scopes     string
	restricted bool
}{
	"POST /oauth2/introspect": {"service", true},
	"GET /v1/revocations":     {"service", true},

	// More scopes and apps are needed for some targets: see TestRevocationScopes.
	"POST /admin/v1/revocations": {"support admin", true},

	"GET /admin/v1/service-keys":         {"admin", true},
	"POST /admin/v1/service-keys":        {"admin", true},
	"DELETE /admin/v1/service-keys/{id}": {"admin", true},
	"PATCH /admin/v1/service-keys/{id}":  {"admin", false},

	"GET /admin/v1/signing-keys":               {"admin", false},
	"POST /admin/v1/signing-keys/rotate":       {"admin", false},
	"POST /admin/v1/signing-keys/{kid}/retire": {"admin", false},

	"GET /admin/v1/persons":                    {"read support admin", false},
	"GET /admin/v1/persons/{id}":               {"read support admin", false},
	"POST /admin/v1/persons":                   {"persons admin", false},
	"POST /admin/v1/persons/import":            {"persons admin", false},
	"PATCH /admin/v1/persons/{id}":             {"persons admin", false},
	"POST /admin/v1/persons/{id}/bind-tickets": {"persons admin", false},
	"POST /admin/v1/persons/{id}/disable":      {"support admin", false},
	"POST /admin/v1/persons/{id}/enable":       {"support admin", false},

	"GET /admin/v1/identities":                 {"read support admin", true},
	"GET /admin/v1/identities/{uuid}":          {"read support admin", true},
	"GET /admin/v1/identities/{uuid}/sessions": {"read support admin", true},
	"POST /admin/v1/identities/{uuid}/disable": {"support admin", true},
	"POST /admin/v1/identities/{uuid}/enable":  {"support admin", true},
	"POST /admin/v1/identities/{uuid}/bind":    {"support admin", false},
	"POST /admin/v1/identities/{uuid}/unbind":  {"support admin", true},
	"DELETE /admin/v1/identities/{uuid}":       {"admin", true},

	"GET /admin/v1/sessions/{id}":    {"read support admin", true},
	"DELETE /admin/v1/sessions/{id}": {"support admin", true},

	"GET /admin/v1/apps":                  {"read support admin", true},
	"GET /admin/v1/apps/{appid}":          {"read support admin", true},
	"POST /admin/v1/apps":                 {"admin", false},
	"PATCH /admin/v1/apps/{appid}":        {"admin", true}, // within bounds: see TestRestrictedKeyPolicy
	"POST /admin/v1/apps/{appid}/disable": {"admin", true},
	"POST /admin/v1/apps/{appid}/enable":  {"admin", false},

	"GET /admin/v1/binding-delays":         {"read support admin", false},
	"DELETE /admin/v1/binding-delays/{id}": {"support admin", false},

	"GET /admin/v1/audit": {"audit admin", false},
}

func TestAccess(t *testing.T) {
	t.Parallel()
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	var operations []string
	for listener, router := range routers(slog.New(slog.DiscardHandler), keysByScope{}) {
		srv := httptest.NewServer(router)
		t.Cleanup(srv.Close)
		for _, operation := range contract.Operations(listener) {
			needs, err := contract.Scope(listener, operation)
			if first, _, _ := strings.Cut(access[operation].scopes, " "); err != nil || needs != first {
				t.Errorf("%s: openapi.yaml has the scope %q (error %v), want %q", operation, needs, err, first)
			}
			if needs != "" {
				operations = append(operations, operation)
				testAccess(t, srv.URL, operation, contract.Query(listener, operation))
			}
		}
	}
	slices.Sort(operations)
	if d := cmp.Diff(slices.Sorted(maps.Keys(access)), operations); d != "" {
		t.Errorf("operations that service keys open (-want +got):\n%s", d)
	}
}

// testAccess calls an operation with each scope, by keys that are restricted to an app and
// by others.
func testAccess(t *testing.T, url, operation string, query []string) {
	t.Helper()
	var unknown *auth.Error
	errors.As(auth.Unexpected("query", "parameter", "unknown", query), &unknown)
	method, path, _ := strings.Cut(operation, " ")
	target := url + strings.NewReplacer("{", "", "}", "").Replace(path) + "?unknown=1"
	for _, scope := range servicekey.Scopes() {
		for key, restricted := range map[string]bool{string(scope): false, string(scope) + ".wx1": true} {
			may := slices.Contains(strings.Fields(access[operation].scopes), string(scope)) && (access[operation].restricted || !restricted)
			r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+key)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.Body.Close() != nil {
				t.Fatalf("%s: read answer: %v", operation, err)
			}
			if refused := resp.StatusCode == http.StatusForbidden; refused == may || resp.StatusCode == http.StatusUnauthorized {
				t.Errorf("%s with the key %s: status and body = %d %s, want allowed = %t", operation, key, resp.StatusCode, body, may)
			}
			if may && strings.HasPrefix(path, "/admin/") && !strings.Contains(string(body), unknown.Description) {
				t.Errorf("%s: status and body = %d %s, want %q", operation, resp.StatusCode, body, unknown.Description)
			}
		}
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
