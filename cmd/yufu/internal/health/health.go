// Package health answers an orchestrator's two questions: is the process
// alive, and should it get requests.
//
// It owns what makes a replica not ready: shutting down, a database that does not
// take writes, a reason that the program has. It does not own what is done about it.
package health

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// timeout bounds the check behind /readyz.
const timeout = 2 * time.Second

// Database is what readiness depends on.
type Database interface {
	// Ping returns nil when the database takes writes.
	Ping(ctx context.Context) error
}

// Checker answers for one replica. It is safe for concurrent use.
type Checker struct {
	db       Database
	reason   func() string
	draining atomic.Bool
}

// New returns a checker of the database. The function reason returns why this replica
// should get no requests although the database answers, or "".
func New(db Database, reason func() string) *Checker {
	return &Checker{db: db, reason: reason}
}

// Drain makes the replica not ready for good; load balancers then stop sending
// to it.
func (c *Checker) Drain() { c.draining.Store(true) }

// Mount adds /healthz and /readyz.
func (c *Checker) Mount(r chi.Router) {
	r.Get("/healthz", c.live)
	r.Get("/readyz", c.ready)
}

type answer struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// live says that the process runs. A dead database is no reason to kill it.
func (c *Checker) live(w http.ResponseWriter, _ *http.Request) {
	_ = web.SecretJSON(w, http.StatusOK, answer{Status: "ok"})
}

func (c *Checker) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	if reason := c.Unready(ctx); reason != "" {
		_ = web.SecretJSON(w, http.StatusServiceUnavailable, answer{Status: "not ready", Reason: reason})
		return
	}
	_ = web.SecretJSON(w, http.StatusOK, answer{Status: "ready"})
}

// Unready says why this replica should get no requests, or returns "".
func (c *Checker) Unready(ctx context.Context) string {
	if c.draining.Load() {
		return "shutting down"
	}
	if err := c.db.Ping(ctx); err != nil {
		return "the database does not take writes: " + telemetry.Redact(err.Error())
	}
	return c.reason()
}
