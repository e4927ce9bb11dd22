package health

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
)

// database is one whose answers the test decides, and whose answer takes a
// while by the replica's clock.
type database struct {
	down      error
	now       time.Time
	clockless error
	while     func()
}

func (d *database) Ping(context.Context) error { return d.down }

func (d *database) Now(context.Context) (time.Time, error) {
	if d.while != nil {
		d.while()
	}
	return d.now, d.clockless
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		db       database
		draining bool
		conflict string
		slow     time.Duration
		want     string
	}{
		"all is well":                               {db: database{now: now}},
		"a clock 2 s ahead will do":                 {db: database{now: now.Add(-2 * time.Second)}},
		"a clock 2 s behind will do":                {db: database{now: now.Add(2 * time.Second)}},
		"a clock further ahead is not ready":        {db: database{now: now.Add(-2500 * time.Millisecond)}, want: "2.5s ahead"},
		"a clock further behind is not ready":       {db: database{now: now.Add(3 * time.Second)}, want: "3s behind"},
		"a slow answer is not taken for a bad time": {db: database{now: now.Add(3 * time.Second)}, slow: 3 * time.Second},
		"a database that is down":                   {db: database{down: errors.New("no route to postgres://u:hunter2@h/d")}, want: "does not take writes"},
		"a database that does not tell its time":    {db: database{now: now, clockless: errors.New("postgres://u:hunter2@h/d went away")}, want: "does not tell its time"},
		"a conflict with another replica":           {db: database{now: now}, conflict: "YUFU_ISSUER differs", want: "YUFU_ISSUER differs"},
		"draining":                                  {db: database{now: now}, draining: true, want: "shutting down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := now
			db := tc.db
			db.while = func() { at = at.Add(tc.slow) }
			c := New(&db, func() time.Time { return at }, func() string { return tc.conflict })
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
				t.Errorf("%d %s, want %d with %q", w.Code, w.Body, want, tc.want)
			}
			w = httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
			if w.Code != 200 {
				t.Errorf("/healthz: %d", w.Code)
			}
		})
	}
}
