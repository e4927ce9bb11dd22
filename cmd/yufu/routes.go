package main

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/binding"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// requestTimeout bounds a request: longer than the platform may take, shorter
// than a client waits.
const requestTimeout = 10 * time.Second

// publicRouter is everything the internet may reach.
func publicRouter(log *slog.Logger, m *telemetry.Metrics, o *oauth.Handler, b *binding.Handler) http.Handler {
	r := chi.NewRouter()
	r.Use(web.Events(log, func(o web.Observation) {
		m.ObserveRequest(o.Route, o.Method, o.Status, string(o.Code), o.Duration)
	}, time.Now))
	r.Use(web.Timeout(requestTimeout))
	r.NotFound(web.NotFound)
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	o.Mount(r)
	b.Mount(r)
	return r
}

// adminRouter is for operators alone.
func adminRouter(h *health, m *telemetry.Metrics) http.Handler {
	r := chi.NewRouter()
	r.NotFound(web.NotFound)
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	r.Get("/healthz", h.live)
	r.Get("/readyz", h.ready)
	r.Method(http.MethodGet, "/metrics", m.Handler())
	return r
}

// health answers the questions of an orchestrator.
type health struct {
	store interface {
		Ping(ctx context.Context) error
	}
	draining atomic.Bool
}

// readyTimeout bounds the check behind /readyz.
const readyTimeout = 2 * time.Second

// drain makes the replica not ready; load balancers then stop sending to it.
func (h *health) drain() { h.draining.Store(true) }

// live says that the process runs. A dead database is no reason to kill it.
func (h *health) live(w http.ResponseWriter, _ *http.Request) {
	_ = web.SecretJSON(w, http.StatusOK, healthAnswer{Status: "ok"})
}

// ready says whether this replica should get requests.
func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	if reason := h.unready(r.Context()); reason != "" {
		_ = web.SecretJSON(w, http.StatusServiceUnavailable, healthAnswer{Status: "not ready", Reason: reason})
		return
	}
	_ = web.SecretJSON(w, http.StatusOK, healthAnswer{Status: "ready"})
}

func (h *health) unready(ctx context.Context) string {
	if h.draining.Load() {
		return "shutting down"
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := h.store.Ping(ctx); err != nil {
		return "the database does not take writes: " + telemetry.Redact(err.Error())
	}
	return ""
}

type healthAnswer struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}
