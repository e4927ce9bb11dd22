// Package httpd runs the process's HTTP listeners and ends them in order.
//
// It owns time-outs, sizes and the end: after the context is done it serves for
// the delay. Then no new connection is accepted, requests in flight are answered,
// and what is still running at the end of the grace period is cut. A listener
// that is full closes the connection that has been idle longest. It does not own
// routes.
package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
)

// Bounds of every connection. A client that is slower than this is not a phone
// on a bad line but somebody who holds sockets open.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

// Endpoint is a listener with its handler.
type Endpoint struct {
	// Name says in the log which it is.
	Name     string
	Listener net.Listener
	Handler  http.Handler
	// MaxConnections bounds the connections open at once. For a further one the
	// connection that has been idle longest is closed. One client network may
	// have half of them, unless it is one of the proxies. Zero is no bound.
	MaxConnections int
	Proxies        []netip.Prefix
}

// Listen opens a TCP listener. Name is that of the setting with the address, for errors.
func Listen(ctx context.Context, name, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, setting.Errorf(name, "names an address that is in use, perhaps by another yufu: %s; stop that program, or choose another address", addr)
	case errors.As(err, new(*net.AddrError)):
		return nil, setting.Errorf(name, "must be host:port, got %q: %w", addr, err)
	case err != nil:
		return nil, setting.Errorf(name, "names an address that cannot be listened on: %w", err)
	}
	return l, nil
}

// Stop says how [Serve] ends.
type Stop struct {
	// Delay is how long requests are still taken after the context ended, so that
	// proxies can learn of the end before the listeners close. Answers then end
	// their connections.
	Delay time.Duration
	// Skip ends the delay early. It may be nil.
	Skip <-chan os.Signal
	// Grace bounds the drain after the delay.
	Grace time.Duration
	// Leaving is called before the delay, and Draining after it. Each may be nil.
	Leaving, Draining func()
}

// Serve serves the endpoints until ctx is done or one of them fails. After the
// end of ctx it goes on for the delay. Then it drains the endpoints for at most
// the grace period, in the order they are given. It returns nil when every
// request in flight was answered.
func Serve(ctx context.Context, log *slog.Logger, stop Stop, endpoints ...Endpoint) error {
	var leaving atomic.Bool
	servers := make([]*http.Server, len(endpoints))
	failed := make(chan error, len(endpoints))
	for i, e := range endpoints {
		servers[i] = &http.Server{
			Handler: noSniff(closeWhenAmbiguous(closeWhen(&leaving, e.Handler))),
			// The router answers OPTIONS * like everything else.
			DisableGeneralOptionsHandler: true,
			ReadHeaderTimeout:            readHeaderTimeout,
			ReadTimeout:                  readTimeout,
			WriteTimeout:                 writeTimeout,
			IdleTimeout:                  idleTimeout,
			MaxHeaderBytes:               maxHeaderBytes,
			ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		listener := e.Listener
		if e.MaxConnections > 0 {
			listener = newPool(listener, e.MaxConnections, e.Proxies)
			track(servers[i])
		}
		go func() { failed <- servers[i].Serve(listener) }()
		log.Info("listening", "listener", e.Name, "addr", e.Listener.Addr().String())
	}

	var err error
	running := len(servers)
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	callIfSet(stop.Leaving)
	leaving.Store(true)
	if err == nil && stop.Delay > 0 {
		log.Info("shutdown requested, still serving", "delay", stop.Delay.String())
		timer := time.NewTimer(stop.Delay)
		select {
		case <-timer.C:
		case <-stop.Skip:
		case err = <-failed:
			running--
		}
		timer.Stop()
	}
	callIfSet(stop.Draining)
	log.Info("drain started", "grace", stop.Grace.String())
	// The context that ended is not the one to drain under.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), stop.Grace)
	defer cancel()
	for i, s := range servers {
		if e := s.Shutdown(drain); e != nil {
			err = errors.Join(err, fmt.Errorf("%s listener: requests cut off that were still running after %s", endpoints[i].Name, stop.Grace), s.Close())
		}
	}
	for range running {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// noSniff is a middleware that has every answer say what it is: a browser must
// not look for a web page in JSON that quotes its input.
func noSniff(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func callIfSet(f func()) {
	if f != nil {
		f()
	}
}

// closeWhen is a middleware that ends the connection after each answer while the
// flag is set. A client that keeps connections then opens its next one elsewhere,
// and no request of it meets a connection that is being closed.
func closeWhen(flag *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if flag.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// closeWhenAmbiguous is a middleware that ends the connection after a request
// about whose end a proxy before us might have another opinion: one in chunks,
// which may have had a Content-Length beside it (net/http drops that and does
// not tell), and one of HTTP/1.0, which may have come in chunks (net/http does
// not look). What the proxy held to be the body is then never taken for the
// next request (RFC 9112 §6.1).
func closeWhenAmbiguous(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
