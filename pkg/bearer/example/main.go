// Command example is a sample back end, "orders": a small shop that accepts the
// access tokens of a Yufu service. It shows how to use package bearer, and the
// tests of the service run it.
//
//	GET  /orders   the user's orders
//	POST /orders   places one
//	GET  /salary   only for users who are bound to a person
//	GET  /readyz   200 when tokens can be verified, else 503
//
// It keeps orders in memory, by the user's uuid. It does not own log-ins or the
// verification of tokens. Settings come from flags or the environment; see --help.
// It prints its address when it listens. SIGTERM and SIGINT stop it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg, listen, err := settings(args, getenv, stderr)
	if err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(stderr, nil))

	v, err := bearer.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = v.Close() }()

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "orders: listening on http://%s\n", listener.Addr())
	server := &http.Server{Handler: newShop(v), ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	})
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// settings reads flags. The environment has the defaults.
func settings(args []string, getenv func(string) string, stderr io.Writer) (cfg bearer.Config, listen string, err error) {
	flags := flag.NewFlagSet("orders", flag.ContinueOnError)
	flags.SetOutput(stderr)
	setting := func(p *string, name, env, otherwise, usage string) {
		if value := getenv(env); value != "" {
			otherwise = value
		}
		flags.StringVar(p, name, otherwise, usage+" ("+env+")")
	}
	var keyFile string
	setting(&listen, "listen", "ORDERS_LISTEN", "127.0.0.1:8090", "address to listen on; port 0 picks one")
	setting(&cfg.Issuer, "issuer", "YUFU_ISSUER", "http://127.0.0.1:8080", "issuer of the tokens")
	setting(&cfg.URL, "url", "YUFU_URL", "", "address of the service, if it differs from the issuer")
	setting(&cfg.Audience, "audience", "YUFU_AUDIENCE", "", "audience that tokens must have")
	var apps string
	setting(&apps, "apps", "YUFU_APPS", "", "appids whose tokens are accepted, separated by commas; default with no audience: the app to which the service key is pinned")
	setting(&keyFile, "service-key-file", "YUFU_SERVICE_KEY_FILE", "", "file with the service key; or the key itself in YUFU_SERVICE_KEY")
	flags.DurationVar(&cfg.MaxStaleness, "max-staleness", 0, "maximum age of revocation data; older data refuses all tokens (default: the service's bound)")
	flags.BoolVar(&cfg.UnsafePlainHTTP, "unsafe-plain-http", false, "allow http to a service on another host")
	offline := flags.Bool("offline", false, "run without a service key: revoked tokens are accepted until they expire")
	if err := flags.Parse(args); err != nil {
		return cfg, "", err
	}
	if flags.NArg() > 0 {
		return cfg, "", fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if apps != "" {
		cfg.Apps = strings.Split(apps, ",")
	}
	cfg.ServiceKey = getenv("YUFU_SERVICE_KEY")
	if keyFile != "" {
		b, err := os.ReadFile(keyFile) //nolint:gosec // the operator names the file
		if err != nil {
			return cfg, "", err
		}
		cfg.ServiceKey = string(b)
	}
	if strings.TrimSpace(cfg.ServiceKey) == "" && !*offline {
		return cfg, "", errors.New("no service key: set YUFU_SERVICE_KEY or YUFU_SERVICE_KEY_FILE (yufu service-key create --name orders --scope service), or pass --offline")
	}
	return cfg, listen, nil
}

// shop holds the orders.
type shop struct {
	mu     sync.Mutex
	orders map[string][]order // by the user's uuid
}

type order struct {
	Item string `json:"item"`
}

type orderList struct {
	UUID    string  `json:"uuid"`
	Session string  `json:"session"`
	App     string  `json:"app"`
	Bound   bool    `json:"bound"`
	Person  string  `json:"person,omitempty"`
	Orders  []order `json:"orders"`
}

// newShop returns the shop's handler.
func newShop(v *bearer.Verifier) http.Handler {
	s := &shop{orders: map[string][]order{}}
	mux := http.NewServeMux()
	mux.Handle("GET /orders", v.Require(http.HandlerFunc(s.list)))
	mux.Handle("POST /orders", v.Require(http.HandlerFunc(s.place)))
	mux.Handle("GET /salary", v.RequireBound(http.HandlerFunc(s.salary)))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := v.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

func (s *shop) list(w http.ResponseWriter, r *http.Request) {
	id := caller(r)
	s.mu.Lock()
	orders := append([]order{}, s.orders[id.UUID]...)
	s.mu.Unlock()
	answer(w, http.StatusOK, orderList{UUID: id.UUID, Session: id.Session, App: id.App, Bound: id.Bound, Person: id.Person, Orders: orders})
}

// maxOrders is the maximum number of orders that the shop keeps for one user.
const maxOrders = 100

func (s *shop) place(w http.ResponseWriter, r *http.Request) {
	id := caller(r)
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&o); err != nil || o.Item == "" {
		http.Error(w, `send {"item":"..."}`, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders[id.UUID]) == maxOrders {
		http.Error(w, "too many orders", http.StatusConflict)
		return
	}
	s.orders[id.UUID] = append(s.orders[id.UUID], o)
	answer(w, http.StatusCreated, o)
}

func (s *shop) salary(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, struct {
		Person string `json:"person"`
		Salary string `json:"salary"`
	}{caller(r).Person, "confidential"})
}

// caller returns the identity that made a request which passed the middleware.
func caller(r *http.Request) bearer.Identity {
	id, ok := bearer.FromContext(r.Context())
	if !ok {
		panic("this handler is not behind Require or RequireBound")
	}
	return id
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
