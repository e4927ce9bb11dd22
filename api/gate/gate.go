// Package gate serves the programs that protect other back ends: the revocation feed
// for validators, and forward-auth for proxies.
//
// It owns GET /v1/revocations: the access to it, its two forms (server-sent events
// for listeners, JSON pages for pollers), and the lifetime of a stream. It does not own
// the feed's content and order (pkg/cutoffs) or the encoding (pkg/bearer/cutoff).
//
// It owns GET /v1/verify ([ForwardAuth]): where the token is read, what a proxy may
// require of it, and the headers for the back end. It does not own the verification of
// the token (pkg/bearer).
// Answers come from memory; when that is too old, the answer is 503.
//
// A stream ends when the client goes, when it is too slow, when its service key
// expires, is revoked or pinned to another app, and when the replica shuts
// down. In every case the client reconnects with the last id it received and misses
// nothing.
package gate

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

const (
	// writeTimeout is how long a subscriber may take to accept a write. A slower one
	// is dropped, so that it holds no memory here.
	writeTimeout = 10 * time.Second
	// recheck is how often a stream's service key is checked again.
	recheck = 30 * time.Second
	// pageSize is the maximum number of cutoffs in a page.
	pageSize = 1000
)

// Feed is the stream of cutoffs. Implemented by [cutoffs.Follower].
type Feed interface {
	Subscribe(lastEventID string, who cutoffs.Subscriber) *cutoffs.Subscription
	Page(after string, limit int, who cutoffs.Subscriber) cutoff.Page
	// Now returns the time by the database's clock, by which service keys expire.
	Now() time.Time
}

// Authorize returns the service key of a request, with its pin decided, if the key
// has the scope and may follow the feed, and otherwise the error to answer.
type Authorize func(r *http.Request, scope servicekey.Scope) (servicekey.Key, error)

// Handler serves the endpoints.
type Handler struct {
	feed      Feed
	authorize Authorize
}

// New returns the handler.
func New(feed Feed, authorize Authorize) *Handler {
	return &Handler{feed: feed, authorize: authorize}
}

// Mount adds the routes. They must not have a request timeout: a stream has no end.
func (h *Handler) Mount(r chi.Router) {
	r.Get("/v1/revocations", web.API(h.revocations))
}

func (h *Handler) revocations(w http.ResponseWriter, r *http.Request) error {
	key, err := h.authorize(r, servicekey.ScopeService)
	if err != nil {
		return err
	}
	who := subscriberOf(&key, r)
	w.Header().Add("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return web.SecretJSON(w, http.StatusOK, h.feed.Page(r.URL.Query().Get("after"), pageSize, who))
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return nil
	}
	h.stream(w, r, who, key.ExpiresAt)
	return nil
}

// subscriberOf returns the subscriber for a service key and a request.
func subscriberOf(k *servicekey.Key, r *http.Request) cutoffs.Subscriber {
	return cutoffs.Subscriber{
		Pinned: k.Pinned(), Apps: k.Apps, Kinds: cutoff.ParseKinds(r.URL.Query().Get(cutoff.QueryKinds)),
	}
}

// stream writes events until one side ends it. A write error means that
// the client is gone or too slow, so stream does not report it.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, who cutoffs.Subscriber, expires time.Time) {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	// Without it, proxies hold events back to fill a buffer.
	header.Set("X-Accel-Buffering", "no")
	web.Stream(w, r, writeTimeout, func(ctx context.Context, send func([]byte) error) {
		h.follow(r.WithContext(ctx), who, expires, send)
	})
}

// follow sends events until the client has gone, is too slow or may not follow the feed any
// longer, or the replica shuts down.
func (h *Handler) follow(r *http.Request, who cutoffs.Subscriber, expires time.Time, send func([]byte) error) {
	sub := h.feed.Subscribe(r.Header.Get("Last-Event-ID"), who)
	check := time.NewTicker(recheck)
	defer check.Stop()
	var expired <-chan time.Time
	if !expires.IsZero() {
		timer := time.NewTimer(expires.Sub(h.feed.Now()))
		defer timer.Stop()
		expired = timer.C
	}
	for {
		changed, err := sendNext(sub, send)
		if err != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-expired:
			return
		case <-check.C:
			if !onOwnStack(func() bool { return h.stillAllowed(r, who) }) {
				return
			}
		}
	}
}

// buffers are for events: a subscriber that waits needs none.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// sendNext sends the events that are due. It returns the channel to wait for.
func sendNext(sub *cutoffs.Subscription, send func([]byte) error) (changed <-chan struct{}, err error) {
	buf, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf, changed, err = sub.Next((*buf)[:0])
	if err == nil && len(*buf) > 0 {
		err = send(*buf)
	}
	return changed, err
}

// onOwnStack returns the result of f, which it calls in another goroutine: a stream would
// keep the deep stack that a database driver needs. A panic of f is passed on, with its
// stack.
func onOwnStack(f func() bool) (result bool) {
	var panicked error
	var call sync.WaitGroup
	call.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				panicked = fmt.Errorf("%v\n%s", v, debug.Stack())
			}
		}()
		result = f()
	})
	call.Wait()
	if panicked != nil {
		panic(panicked)
	}
	return result
}

// stillAllowed checks the service key again. A stream whose key has changed ends, and
// the client's next stream shows the change. When the database does not answer, the
// stream goes on: validators learn from it that their data gets old.
func (h *Handler) stillAllowed(r *http.Request, who cutoffs.Subscriber) bool {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	key, err := h.authorize(r.WithContext(ctx), servicekey.ScopeService)
	if err == nil {
		return reflect.DeepEqual(subscriberOf(&key, r), who)
	}
	return web.Status(err) >= http.StatusInternalServerError
}
