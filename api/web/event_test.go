package web_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api/web"
)

func TestEventAdd(t *testing.T) {
	t.Parallel()
	var e web.Event
	e.Add(slog.String("service_key", "a"), slog.String("app", "wx1"))
	for range 1000 { // as a stream that lives for days
		e.Add(slog.String("service_key", "b"))
	}
	if len(e.Attrs) != 2 || e.Attrs[0].Value.String() != "b" || e.Attrs[1].Value.String() != "wx1" {
		t.Errorf("%v", e.Attrs)
	}
}

func TestTheLineIsOfTheTimeAtWhichTheRequestEnded(t *testing.T) {
	t.Parallel()
	h := newHarness()
	h.Get("/x", web.API(func(w http.ResponseWriter, r *http.Request) error {
		h.clock.Advance(1500 * time.Millisecond)
		web.EventOf(r.Context()).Add(slog.String("app", "wx1"), slog.String("session", "s1"))
		return web.NoContent(w)
	}))
	w := h.do(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil))
	want := map[string]any{
		"time": "2026-07-01T12:00:01.5Z", "level": "INFO", "msg": "request",
		"request_id": w.Header().Get("X-Request-Id"), "method": "GET", "route": "/x", "status": 204.0, "duration_ms": 1500.0,
		"client": "192.0.2.1", "app": "wx1", "session": "s1",
	}
	if d := cmp.Diff(want, h.log.one(t)); d != "" {
		t.Error(d)
	}
}
