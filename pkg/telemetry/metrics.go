package telemetry

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics has its own registry, so that no library registers metrics implicitly. It is
// safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	grants   *prometheus.CounterVec
	calls    *prometheus.CounterVec
	latency  *prometheus.HistogramVec

	// known are the series of requests so far: to find them by their labels takes longer
	// than to count.
	mu    sync.RWMutex
	known map[requestLabels]requestSeries
}

// requestLabels are the labels of a request. They are from small fixed sets.
type requestLabels struct {
	route, method, code string
	status              int
}

type requestSeries struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

// NewMetrics returns a registry with the runtime's and the process's metrics,
// build information, and the request metrics.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		known:    map[requestLabels]requestSeries{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "yufu_http_requests_total",
			Help: "Requests by route pattern, method, HTTP status and error code (empty on success).",
		}, []string{"route", "method", "status", "error_code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "yufu_http_request_duration_seconds",
			Help:    "Time to answer, by route pattern and method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		grants: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "yufu_grants_total",
			Help: "Token requests by grant (code, refresh) and outcome: started; rotated, replayed, rolled_back, replay_late, reuse; else the error code.",
		}, []string{"grant", "outcome"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "yufu_platform_calls_total",
			Help: "Calls that went out to a platform, by class of its answer.",
		}, []string{"platform", "class"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "yufu_platform_call_duration_seconds",
			Help:    "Time a platform took to answer.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"platform"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "yufu_build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, m.requests, m.duration, m.grants, m.calls, m.latency,
	)
	return m
}

// ObserveRequest counts a finished request.
func (m *Metrics) ObserveRequest(route, method string, status int, code string, d time.Duration) {
	labels := requestLabels{route: route, method: method, code: code, status: status}
	m.mu.RLock()
	series, known := m.known[labels]
	m.mu.RUnlock()
	if !known {
		series = requestSeries{
			requests: m.requests.WithLabelValues(route, method, strconv.Itoa(status), code),
			duration: m.duration.WithLabelValues(route, method),
		}
		m.mu.Lock()
		m.known[labels] = series
		m.mu.Unlock()
	}
	series.requests.Inc()
	series.duration.Observe(d.Seconds())
}

// ObserveGrant counts a finished token request.
func (m *Metrics) ObserveGrant(grant, outcome string) {
	m.grants.WithLabelValues(grant, outcome).Inc()
}

// ObservePlatformCall counts a call that went out to a platform.
func (m *Metrics) ObservePlatformCall(platform, class string, d time.Duration) {
	m.calls.WithLabelValues(platform, class).Inc()
	m.latency.WithLabelValues(platform).Observe(d.Seconds())
}

// Gauge registers a gauge that is read at each scrape. The labels are fixed; a name may
// be registered again with other values of the same labels.
func (m *Metrics) Gauge(name, help string, labels map[string]string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// Counter is [Metrics.Gauge] for a value that only grows.
func (m *Metrics) Counter(name, help string, labels map[string]string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}
