package health

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
)

// database is a database that answers with down.
type database struct{ down error }

func (d *database) Ping(context.Context) error { return d.down }

func TestReadiness(t *testing.T) {
	t.Parallel()
	down := errors.New("no route to postgres://u:hunter2@h/d")
	for name, tc := range map[string]struct {
		down     error
		own      string
		draining bool
		want     string
	}{
		"all is well":                           {},
		"a database that is down":               {down: down, want: "does not take writes"},
		"a reason of its own":                   {own: "YUFU_ISSUER differs", want: "YUFU_ISSUER differs"},
		"a database that is down explains most": {down: down, own: "the database has not answered recently", want: "does not take writes"},
		"draining":                              {down: down, own: "YUFU_ISSUER differs", draining: true, want: "shutting down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := New(&database{tc.down}, func() string { return tc.own })
			if tc.draining {
				c.Drain()
			}
			r := chi.NewRouter()
			c.Mount(r)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil))
			want := 200
			if tc.want != "" {
				want = 503
			}
			if w.Code != want || !strings.Contains(w.Body.String(), tc.want) || strings.Contains(w.Body.String(), "hunter2") {
				t.Errorf("/readyz: status %d %s, want %d with %q", w.Code, w.Body, want, tc.want)
			}
			w = httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
			if w.Code != 200 {
				t.Errorf("/healthz: status %d, want 200", w.Code)
			}
		})
	}
}
