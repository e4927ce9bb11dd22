package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/yufu-auth/yufu/api/admin"
	bindingapi "github.com/yufu-auth/yufu/api/binding"
	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/health"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// requestTimeout bounds a request. It is longer than a call to the platform may take, and
// shorter than clients wait.
const requestTimeout = 10 * time.Second

// publicRouter returns the handler of the public listener, which the internet can reach.
func publicRouter(log *slog.Logger, m *telemetry.Metrics, proxies []netip.Prefix, o *oauth.Handler, b *bindingapi.Handler, feed *gate.Handler, v validation) http.Handler {
	r := chi.NewRouter()
	r.Use(gate.AnyRequest)
	r.Use(web.Events(log, func(o web.Observation) {
		m.ObserveRequest(o.Route, o.Method, o.Status, string(o.Code), o.Duration)
		if o.Grant != "" {
			m.ObserveGrant(o.Grant, o.Outcome)
		}
	}, time.Now))
	r.Use(web.ClientIP(proxies, warnUntrusted(log, "YUFU_TRUSTED_PROXIES")))
	r.Use(middleware.GetHead)
	r.NotFound(web.NotFound)
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	timeout := web.Timeout(requestTimeout)
	o.Mount(r, timeout)
	b.Mount(r.With(timeout))
	v.introspection.Mount(r) // no timeout: its reads have timeouts of their own
	v.forwardAuth.Mount(r)   // no timeout: it never waits
	feed.Mount(r)            // no timeout: a stream has no end
	return r
}

// adminRouter returns the handler of the admin listener, which only operators and the back
// end of the business may reach.
func adminRouter(log *slog.Logger, h *health.Checker, m *telemetry.Metrics, proxies []netip.Prefix, a *admin.API) http.Handler {
	r := chi.NewRouter()
	r.Use(web.ClientIP(proxies, warnUntrusted(log, "YUFU_ADMIN_TRUSTED_PROXIES")))
	probes := web.Events(slog.New(errorsOnly{log.Handler()}), func(web.Observation) {}, time.Now)
	calls := web.Events(log, func(o web.Observation) {
		m.ObserveRequest(o.Route, o.Method, o.Status, string(o.Code), o.Duration)
	}, time.Now)
	r.Use(func(next http.Handler) http.Handler {
		probe, call := probes(next), calls(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/admin/") {
				call.ServeHTTP(w, r)
			} else {
				probe.ServeHTTP(w, r)
			}
		})
	})
	r.Use(middleware.GetHead, web.Timeout(requestTimeout))
	r.NotFound(web.NotFound)
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	h.Mount(r)
	r.Method(http.MethodGet, "/metrics", m.Handler())
	a.Mount(r)
	return r
}

// warnUntrusted returns a function that logs that a peer outside the trusted networks sent
// X-Forwarded-For. If the peer is a proxy, the limits count all its users as one client.
func warnUntrusted(log *slog.Logger, setting string) func(netip.Addr) {
	return func(peer netip.Addr) {
		log.Warn("X-Forwarded-For of an untrusted address ignored, logged once; if it is your proxy, add it to "+setting,
			"peer", peer.String())
	}
}

// errorsOnly logs only errors. Probes come every few seconds, and their answers already name
// the problem.
type errorsOnly struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (d errorsOnly) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && d.Handler.Enabled(ctx, level)
}
