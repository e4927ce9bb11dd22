package web_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
)

// harness is a router behind the event middleware, with its log and observations.
type harness struct {
	chi.Router
	handler http.Handler
	clock   *clock
	log     *logBuffer

	mu       sync.Mutex
	observed []web.Observation
}

// clock is a clock that the test advances.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines returns the log lines, each as its attributes.
func (b *logBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

// one returns the only log line.
func (b *logBuffer) one(t *testing.T) map[string]any {
	t.Helper()
	lines := b.lines(t)
	if len(lines) != 1 {
		t.Fatalf("the log has %d lines, want one: %s", len(lines), b.String())
	}
	return lines[0]
}

func newHarness() *harness {
	h := &harness{
		Router: chi.NewRouter(),
		clock:  &clock{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)},
		log:    &logBuffer{},
	}
	h.NotFound(web.NotFound)
	h.MethodNotAllowed(web.MethodNotAllowed(h.Router))
	h.handler = web.ClientIP(nil, nil)(web.Events(slog.New(slog.NewJSONHandler(h.log, nil)), func(o web.Observation) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.observed = append(h.observed, o)
	}, h.clock.Now)(h.Router))
	return h
}

// observations returns the observations for the metrics.
func (h *harness) observations() []web.Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.observed)
}

// do serves one request.
func (h *harness) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w
}

// fail serves a request whose handler returns err.
func fail(t *testing.T, render func(web.Handler) http.HandlerFunc, err error) (*httptest.ResponseRecorder, *harness) {
	t.Helper()
	h := newHarness()
	h.Get("/x", render(func(http.ResponseWriter, *http.Request) error { return err }))
	return h.do(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil)), h
}

// members decodes a JSON object.
func members(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
		t.Fatalf("body %q: %v", w.Body, err)
	}
	return m
}
