// Package health answers the two probes of an orchestrator: is the process alive, and should
// it get requests.
//
// It owns the reasons for which a replica is not ready: it is shutting down, the database
// does not take writes, or the program has a reason of its own. It does not own what the
// orchestrator does about it. A database check that does not answer within 2 s counts as not
// ready.
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

// Database is the part of the store that readiness depends on.
type Database interface {
	// Ping returns nil when the database takes writes.
	Ping(ctx context.Context) error
}

// Checker checks one replica. It is safe for concurrent use.
type Checker struct {
	db       Database
	reason   func() string
	draining atomic.Bool
}

// New returns a checker of the database. Reason returns why this replica should get no
// requests although the database answers, or "".
func New(db Database, reason func() string) *Checker {
	return &Checker{db: db, reason: reason}
}

// Drain makes the replica not ready for good, so that load balancers stop sending requests
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

// live answers that the process runs. It does not check the database: a restart of this
// process does not repair the database.
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

// Unready returns why this replica should get no requests, or "".
func (c *Checker) Unready(ctx context.Context) string {
	if c.draining.Load() {
		return "shutting down"
	}
	if err := c.db.Ping(ctx); err != nil {
		return "the database does not take writes: " + telemetry.Redact(err.Error())
	}
	return c.reason()
}
