package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/admin"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// anyKey accepts every service key, with all scopes of this API.
type anyKey struct{}

func (anyKey) Authenticate(context.Context, auth.Secret) (servicekey.Key, error) {
	return servicekey.Key{Scopes: []servicekey.Scope{servicekey.ScopeRead, servicekey.ScopeAdmin}}, nil
}

// noSessions is a store without sessions.
type noSessions struct{}

func (noSessions) Session(context.Context, uuid.UUID) (session.State, error) {
	return session.State{}, auth.SessionRevoked
}

// noApps is a store without apps.
type noApps struct{ app.Store }

func (noApps) App(context.Context, string) (auth.App, error) { return auth.App{}, auth.AppUnknown }

func TestTargetInLog(t *testing.T) {
	t.Parallel()
	const id = "01a215fe-b7bb-705a-a2d8-392d76d52251"
	const secret = "01a215feb7bb705aa2d8392d76d52251" // as WeChat issues them
	for name, c := range map[string]struct{ path, logged string }{
		"a canonical id":                             {"sessions/" + id, id},
		"an appid":                                   {"apps/wx0123456789abcdef", "wx0123456789abcdef"},
		"a key's kid":                                {"signing-keys/k-1/retire", "k-1"},
		"a service key's id":                         {"service-keys/k-1", "k-1"},
		"an AppSecret instead of an appid":           {"apps/" + secret, ""},
		"an AppSecret instead of a kid":              {"signing-keys/" + secret + "/retire", ""},
		"an AppSecret instead of a service key's id": {"service-keys/" + secret, ""},
		"a percent-encoded AppSecret":                {"apps/%30" + secret[1:], ""},
		"an id in upper case":                        {"sessions/01A215FE-B7BB-705A-A2D8-392D76D52251", id},
		"a percent-encoded id":                       {"sessions/%301a215fe-b7bb-705a-a2d8-392d76d52251", id},
		"an id in braces":                            {"sessions/%7B" + id + "%7D", id},
		"an id as a URN":                             {"sessions/urn:uuid:" + id, id},
		"an id without hyphens, which looks like an AppSecret": {"sessions/" + secret, ""},
		"a text that is not an id":                             {"sessions/yfs_1234", ""},
		"a malformed escape":                                   {"sessions/%zz", ""},
		"an id with text after it":                             {"sessions/" + id + "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			r := chi.NewRouter()
			r.Use(web.Events(slog.New(slog.NewJSONHandler(&log, nil)), func(web.Observation) {}, time.Now))
			admin.New(admin.Config{
				Guard: web.NewGuard(anyKey{}), Sessions: noSessions{}, Apps: app.NewService(app.Config{Store: noApps{}}),
			}).Mount(r)
			// A change without a body is refused after the target is known.
			method := http.MethodGet
			if strings.HasPrefix(c.path, "signing-keys/") {
				method = http.MethodPost
			} else if strings.HasPrefix(c.path, "service-keys/") {
				method = http.MethodPatch
			}
			req := httptest.NewRequestWithContext(t.Context(), method, "/admin/v1/sessions/x", nil)
			req.URL.Path, req.URL.RawPath = "/admin/v1/"+c.path, "/admin/v1/"+c.path
			req.Header.Set("Authorization", "Bearer key")
			r.ServeHTTP(httptest.NewRecorder(), req)
			var line struct{ Session, App, Kid, Key string }
			if err := json.Unmarshal(log.Bytes(), &line); err != nil {
				t.Fatalf("the log is not one JSON line: %v\n%s", err, &log)
			}
			if logged := line.Session + line.App + line.Kid + line.Key; logged != c.logged {
				t.Errorf("target in the log line = %q, want %q", logged, c.logged)
			}
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log has the AppSecret:\n%s", &log)
			}
		})
	}
}
