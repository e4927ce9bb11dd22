package web

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// Event collects the data of one request: for one structured log line and one
// observation in the metrics. Handlers add to it without a lock, because a request has
// one goroutine.
type Event struct {
	// RequestID is a random id, which is also sent as X-Request-Id.
	RequestID string
	// Code is the error's code, or empty.
	Code auth.Code
	// Err is the error with its cause, only for the log.
	Err error
	// Grant is the grant of a token request ("code", "refresh"), and Outcome its
	// result, for the log and the metrics. Both are from small fixed sets; other
	// requests leave them empty.
	Grant, Outcome string
	// Attrs are the handlers' attributes for the log. They must not contain secrets.
	Attrs []slog.Attr
	// Routine means that an answer with status 200 is logged only at debug: a token was
	// found valid, or a public document was read. There are as many of these requests as
	// requests to back ends, and the metrics count them.
	Routine bool
	// scope is the scope that the request's service key must have; the challenge names it.
	scope servicekey.Scope
	// client is the client's address; see [ClientIP].
	client netip.Addr
	// detachable says that [Events] serves the stream when the handler has returned.
	detachable bool
	stream     *stream
}

// Add adds attributes to the request's log line. It replaces an attribute with the same
// key: a stream is authorised many times and has one service_key.
func (e *Event) Add(attrs ...slog.Attr) {
	if e.Attrs == nil {
		e.Attrs = make([]slog.Attr, 0, 6) // enough for most requests
	}
	for _, a := range attrs {
		i := slices.IndexFunc(e.Attrs, func(existing slog.Attr) bool { return existing.Key == a.Key })
		if i < 0 {
			e.Attrs = append(e.Attrs, a)
		} else {
			e.Attrs[i] = a
		}
	}
}

// AddSubject adds the known ids of a request's subject to its log line.
func (e *Event) AddSubject(s auth.Subject) {
	if s.AppID != "" {
		e.Add(slog.String("app", s.AppID))
	}
	if s.Identity != uuid.Nil {
		e.Add(slog.String("uuid", s.Identity.String()))
	}
	if s.Session != uuid.Nil {
		e.Add(slog.String("session", s.Session.String()))
	}
}

type eventKey struct{}

// eventContext is the context of a request with its event, in one allocation.
type eventContext struct {
	context.Context
	event Event
}

// Value implements [context.Context].
func (c *eventContext) Value(key any) any {
	if key == (eventKey{}) {
		return &c.event
	}
	return c.Context.Value(key)
}

// EventOf returns the event of the request that ctx belongs to. Outside of a request it
// returns a new event, which is not logged.
func EventOf(ctx context.Context) *Event {
	if e, ok := ctx.Value(eventKey{}).(*Event); ok {
		return e
	}
	return &Event{}
}

// withEvent returns the request with an event, and the event: a new one, unless the
// request has one.
func withEvent(r *http.Request) (*http.Request, *Event) {
	if e, ok := r.Context().Value(eventKey{}).(*Event); ok {
		return r, e
	}
	ctx := &eventContext{Context: r.Context()}
	return r.WithContext(ctx), &ctx.event
}

// newRequestID returns 26 random letters and digits. They tell requests apart and protect
// nothing, so they come from the fast generator.
func newRequestID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // not used for security
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // not used for security
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
}

// Observation is the data of one finished request for the metrics. It names no user.
type Observation struct {
	// Route is the pattern, for example "/v1/me", or "unmatched".
	Route  string
	Method string
	Status int
	// Code is the error's code, or empty.
	Code auth.Code
	// Grant and Outcome are those of the event.
	Grant, Outcome string
	Duration       time.Duration
}

// Events is the outermost middleware: it gives the request an id and an event,
// turns a panic into an "internal" answer, and in the end writes the one log
// line and passes the observation to observe. The clock measures the duration.
func Events(log *slog.Logger, observe func(Observation), clock func() time.Time) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := clock()
			r, event := withEvent(r)
			event.RequestID, event.detachable = newRequestID(), true
			// The route context must exist here, to be read afterwards.
			route := chi.RouteContext(r.Context())
			if route == nil {
				route = chi.NewRouteContext()
				r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, route))
			}
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			ww.Header().Set("X-Request-Id", event.RequestID)
			abort := serve(ww, r, next)

			o := Observation{Route: route.RoutePattern(), Method: method(r.Method), Status: ww.Status()}
			if o.Route == "" || event.Code == auth.NotFound && o.Status == http.StatusNotFound {
				o.Route = "unmatched"
			}
			if o.Status == 0 && !abort {
				o.Status = http.StatusOK
			}
			finish := func() {
				o.Code, o.Grant, o.Outcome, o.Duration = event.Code, event.Grant, event.Outcome, clock().Sub(start)
				observe(o)
				logEvent(log, r, event, o)
			}
			if event.stream != nil {
				go event.stream.serve(event, finish)
				return
			}
			finish()
			if abort {
				panic(http.ErrAbortHandler) // how net/http cuts a connection
			}
		})
	}
}

func panicError(v any) error { return fmt.Errorf("panic: %v\n%s", v, debug.Stack()) }

// recovered records a panic after a part of the answer was sent.
func (e *Event) recovered(v any) { e.Code, e.Err = auth.Internal, panicError(v) }

// Timeout is a middleware that gives every request a deadline. A request that waits
// longer for the database is answered with "storage_unavailable".
func Timeout(d time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), d)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// serve calls next and turns a panic into an internal error. It reports whether
// the connection must be cut: when the handler asks for it, and when a part of the
// answer is sent, which must not look like a whole one.
func serve(w middleware.WrapResponseWriter, r *http.Request, next http.Handler) (abort bool) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			abort = true
			return
		}
		if w.Status() != 0 {
			EventOf(r.Context()).recovered(v)
			abort = true
			return
		}
		render(w, r, panicError(v), formOf(r))
	}()
	next.ServeHTTP(w, r)
	return false
}

func logEvent(log *slog.Logger, r *http.Request, event *Event, o Observation) {
	level := slog.LevelInfo
	switch {
	case event.Routine && o.Status == http.StatusOK:
		level = slog.LevelDebug
	case o.Code == auth.RefreshReused:
		level = slog.LevelWarn
	case o.Code == auth.Internal, o.Code == auth.PlatformMisconfigured, o.Status == http.StatusInternalServerError:
		level = slog.LevelError
	case o.Status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	}
	if !log.Enabled(r.Context(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10+len(event.Attrs))
	attrs = append(attrs,
		slog.String("request_id", event.RequestID),
		slog.String("method", o.Method),
		slog.String("route", o.Route),
		slog.Int("status", o.Status),
		slog.Float64("duration_ms", float64(o.Duration.Microseconds())/1000),
	)
	if event.client.IsValid() {
		attrs = append(attrs, slog.String("client", event.client.String()))
	}
	if event.Grant != "" {
		attrs = append(attrs, slog.String("grant", event.Grant))
	}
	if event.Outcome != "" && event.Outcome != string(event.Code) {
		attrs = append(attrs, slog.String("outcome", event.Outcome))
	}
	if event.Code != "" {
		attrs = append(attrs, slog.String("error_code", string(event.Code)))
	}
	// Without a cause, the error's text is only the code.
	if event.Err != nil && event.Err.Error() != string(event.Code) {
		attrs = append(attrs, slog.String("cause", event.Err.Error()))
	}
	log.LogAttrs(r.Context(), level, "request", append(attrs, event.Attrs...)...)
}

// method returns the request's method for the log and the metrics, or "other": clients
// can send any text.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}
