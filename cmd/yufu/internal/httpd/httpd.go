// Package httpd runs the HTTP listeners of the process and shuts them down in order.
//
// It owns timeouts, size limits and the shutdown: when the context is done, it continues
// to serve for the delay. Then it accepts no new connections, answers the requests in flight,
// also those on connections that a handler took over, and cuts off those that are still
// running at the end of the grace period. A listener that is full closes the connection that
// has been idle longest. A listener that fails ends [Serve]: it drains the others without the
// delay and returns the error. It does not own routes.
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

// Bounds of every connection. A client that is slower than this is not a phone with a bad
// signal, but an attacker that holds sockets open.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

// Endpoint is a listener with its handler.
type Endpoint struct {
	// Name identifies the endpoint in the log.
	Name     string
	Listener net.Listener
	Handler  http.Handler
	// MaxConnections bounds the open connections. One more closes the connection that has
	// been idle longest. One client network may have half of them, a proxy all. Zero means
	// no bound, and no wait for connections that the handler takes over.
	MaxConnections int
	Proxies        []netip.Prefix
}

// Listen opens a TCP listener. Errors contain name, the name of the setting with the
// address.
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

// Stop configures the shutdown of [Serve].
type Stop struct {
	// Delay is the time for which requests are accepted after the context is done, so that
	// load balancers notice before the listeners close. Each answer in that time ends its
	// connection.
	Delay time.Duration
	// Skip ends the delay early. It may be nil.
	Skip <-chan os.Signal
	// Grace bounds the drain after the delay.
	Grace time.Duration
	// Leaving is called before the delay, and Draining after it. Each may be nil.
	Leaving, Draining func()
}

// Serve serves the endpoints until ctx is done or one of them fails. When ctx is done, it
// continues for the delay. Then it drains the endpoints, in the given order, for at most the
// grace period. It returns nil if every request in flight was answered.
func Serve(ctx context.Context, log *slog.Logger, stop Stop, endpoints ...Endpoint) error {
	var leaving atomic.Bool
	servers := make([]*http.Server, len(endpoints))
	pools := make([]*pool, len(endpoints))
	failed := make(chan error, len(endpoints))
	for i, e := range endpoints {
		servers[i] = &http.Server{
			Handler: noSniff(closeWhenAmbiguous(closeWhen(&leaving, e.Handler))),
			// The router also answers OPTIONS *.
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
			pools[i] = newPool(listener, e.MaxConnections, e.Proxies)
			listener = pools[i]
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
	// Not ctx: it is done, and the drain would end at once.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), stop.Grace)
	defer cancel()
	for i, s := range servers {
		e := s.Shutdown(drain)
		if pools[i] != nil {
			e = errors.Join(e, pools[i].drain(drain))
		}
		if e != nil {
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

// noSniff is a middleware that tells browsers to trust the Content-Type of every answer.
// A browser must not take JSON that quotes its input for a web page.
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

// closeWhen is a middleware that closes the connection after each answer while the flag is
// set. A client that keeps connections open then connects to another replica, and does not
// send a request on a connection that is being closed.
func closeWhen(flag *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if flag.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// closeWhenAmbiguous is a middleware that closes the connection after a request whose end a
// proxy in front may see elsewhere: a chunked request, which may also have had a
// Content-Length (net/http drops that silently), and an HTTP/1.0 request, which may have been
// chunked (net/http does not look). The bytes that the proxy took for the body then never
// become the next request (RFC 9112 §6.1).
func closeWhenAmbiguous(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
