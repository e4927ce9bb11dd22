package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/admin"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// readKeys accepts every service key, with the scope read.
type readKeys struct{}

func (readKeys) Authenticate(context.Context, auth.Secret) (servicekey.Key, error) {
	return servicekey.Key{Scopes: []servicekey.Scope{servicekey.ScopeRead}}, nil
}

// noSessions is a store without sessions.
type noSessions struct{}

func (noSessions) Session(context.Context, uuid.UUID) (session.State, error) {
	return session.State{}, auth.SessionRevoked
}

func TestTargetInLog(t *testing.T) {
	t.Parallel()
	const id = "01a215fe-b7bb-705a-a2d8-392d76d52251"
	for name, c := range map[string]struct{ path, logged string }{
		"a canonical id":       {id, id},
		"an id in upper case":  {"01A215FE-B7BB-705A-A2D8-392D76D52251", id},
		"a percent-encoded id": {"%301a215fe-b7bb-705a-a2d8-392d76d52251", id},
		"an id in braces":      {"%7B" + id + "%7D", id},
		"an id as a URN":       {"urn:uuid:" + id, id},
		"an id without hyphens, which looks like an AppSecret": {"01a215feb7bb705aa2d8392d76d52251", ""},
		"a text that is not an id":                             {"yfs_1234", ""},
		"a malformed escape":                                   {"%zz", ""},
		"an id with text after it":                             {id + "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			r := chi.NewRouter()
			r.Use(web.Events(slog.New(slog.NewJSONHandler(&log, nil)), func(web.Observation) {}, time.Now))
			admin.New(admin.Config{Guard: web.NewGuard(readKeys{}), Sessions: noSessions{}}).Mount(r)
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/admin/v1/sessions/x", nil)
			req.URL.Path, req.URL.RawPath = "/admin/v1/sessions/"+c.path, "/admin/v1/sessions/"+c.path
			req.Header.Set("Authorization", "Bearer key")
			r.ServeHTTP(httptest.NewRecorder(), req)
			var line struct {
				Session string `json:"session"`
			}
			if err := json.Unmarshal(log.Bytes(), &line); err != nil {
				t.Fatalf("the log is not one JSON line: %v\n%s", err, &log)
			}
			if line.Session != c.logged {
				t.Errorf("session in the log line = %q, want %q", line.Session, c.logged)
			}
		})
	}
}
