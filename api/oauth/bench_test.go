package oauth_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
	"github.com/yufu-auth/yufu/pkg/token"
)

const (
	benchApp    = "wxbenchmark000001"
	benchIssuer = "https://auth.example.com"
	// benchTables are the tables that a login or a refresh can write to.
	benchTables = "identities sessions cutoffs audit"
)

// atLeast returns n, or few for a run that only shows that a benchmark works.
func atLeast(n, few int) int {
	if flag.Lookup("test.benchtime").Value.String() == "1x" {
		return few
	}
	return n
}

// benchSessions returns the minimum number of sessions for measuring their size, so that
// half-empty pages do not matter.
func benchSessions() int { return atLeast(500, 10) }

// BenchmarkToken measures the token endpoint from the router to the database
// and back. Both databases write through to the disk at every commit. WeChat
// answers in the same process, without a network.
//
// Beside the time it reports round trips to the database per request (PostgreSQL;
// SQLite has none), and the rows and bytes of a session at the end, its identity and
// all indexes included.
func BenchmarkToken(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) { benchToken(b, benchSQLite) })
	b.Run("PostgreSQL", func(b *testing.B) {
		server := pgtest.NewServer(b, pgtest.WithFsync())
		n := 0
		benchToken(b, func(b *testing.B) *benchStack {
			n++
			return benchPostgres(b, server, fmt.Sprintf("bench%d", n))
		})
	})
}

func benchToken(b *testing.B, open func(*testing.B) *benchStack) {
	b.Run("exchange", func(b *testing.B) {
		s := open(b)
		s.exchange(b) // prepares the statements
		b.ReportAllocs()
		s.measure(b, 1, func(int) { s.exchange(b) })
		for s.sessions < benchSessions() {
			s.exchange(b)
		}
		s.reportSize(b)
	})
	b.Run("refresh", func(b *testing.B) {
		s := open(b)
		tokens := make([]string, benchSessions())
		for i := range tokens {
			tokens[i] = s.exchange(b)
		}
		tokens[0] = s.refresh(b, tokens[0]) // prepares the statement
		b.ReportAllocs()
		s.measure(b, 1, func(i int) {
			if i %= len(tokens); i == 0 {
				s.ahead.Add(int64(time.Second)) // no session refreshes more often
			}
			tokens[i] = s.refresh(b, tokens[i])
		})
		s.reportSize(b)
	})
}

// benchDatabase is the store that the stack needs.
type benchDatabase interface {
	session.Store
	app.Store
	keyring.Store
	Migrate(ctx context.Context, key shard.Sealed) error
}

// benchStack is everything from the router to the database.
type benchStack struct {
	router   http.Handler
	keys     *keyring.Ring
	sim      *wechatsim.Simulator
	sessions int
	// ahead is how far the service's clock is ahead, in nanoseconds.
	ahead atomic.Int64
	// trips counts the round trips to the database; nil when there are none.
	trips *atomic.Int64
	// size returns the rows and bytes of the tables that requests write to.
	size func(b *testing.B) (rows, bytes int64)
	// Before the first session.
	rows0, bytes0 int64
}

func newBenchStack(b *testing.B, db benchDatabase, trips *atomic.Int64, size func(*testing.B) (int64, int64)) *benchStack {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx := b.Context()
	check(db.Migrate(ctx, shardtest.Sealed))
	sealer, err := seal.ParseRing(seal.GenerateFile())
	check(err)
	now := time.Now().UTC().Truncate(time.Microsecond)
	keys, err := keyring.Open(ctx, db, sealer, now)
	check(err)
	secret, err := sealer.Seal([]byte("benchmark-secret"), app.CredentialAAD(benchApp, auth.CredentialAppSecret))
	check(err)
	check(db.AddApp(ctx,
		auth.App{ID: benchApp, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: secret}, CreatedAt: now, UpdatedAt: now},
		auth.AuditEvent{At: now, Action: auth.AuditAppAdded, Actor: auth.ActorCLI, AppID: benchApp}))
	sim := wechatsim.New(wechatsim.Config{})
	weChat, err := wechat.New(wechat.Config{BaseURL: "http://wechat.invalid", Transport: inProcess{sim.Handler()}})
	check(err)
	minter, err := token.NewMinter(keys, benchIssuer, 10*time.Minute)
	check(err)
	verifier, err := token.NewVerifier(bearer.Local{Issuer: benchIssuer, Keys: keys.VerificationKey})
	check(err)
	s := &benchStack{keys: keys, sim: sim, trips: trips, size: size}
	registered, err := db.App(ctx, benchApp)
	check(err)
	sessions, err := session.NewService(session.Config{
		Store:     db,
		Apps:      remembered{registered},
		Platforms: map[string]platform.Provider{auth.PlatformWeChat: weChat},
		Sealer:    sealer,
		Shards:    shard.NewKey(),
		Minter:    minter,
		Verifier:  verifier,
		Codec:     token.NewRefreshCodec(keys),
		Lifetimes: session.DefaultLifetimes,
		Clock:     func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
	})
	check(err)
	router := chi.NewRouter()
	router.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, time.Now))
	router.Use(web.Timeout(10 * time.Second))
	oauth.New(benchIssuer, sessions, keys, unlimited, 5*time.Minute).Mount(router)

	s.router = router
	s.rows0, s.bytes0 = size(b)
	return s
}

// remembered is an app in memory.
type remembered struct{ app auth.App }

func (r remembered) App(string) (auth.App, error) { return r.app, nil }
func (remembered) Answering() bool                { return true }

// inProcess is a transport to a handler in this process.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// post sends a request to the token endpoint, and returns the answer's refresh token.
func (s *benchStack) post(b *testing.B, pairs ...string) string {
	form := url.Values{"client_id": {benchApp}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "/oauth2/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.router.ServeHTTP(w, r)
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.RefreshToken == "" {
		b.Fatalf("status and body = %d %s, want a refresh token", w.Code, w.Body)
	}
	return answer.RefreshToken
}

// exchange logs a new user in.
func (s *benchStack) exchange(b *testing.B) string {
	s.sessions++
	code := s.sim.NewCode(fmt.Sprintf("user%d", s.sessions))
	return s.post(b, "grant_type", oauth.GrantMiniProgramCode, "code", code)
}

func (s *benchStack) refresh(b *testing.B, token string) string {
	return s.post(b, "grant_type", oauth.GrantRefreshToken, "refresh_token", token)
}

// measure times op. It fails the benchmark when op makes more than maxTrips
// round trips to the database.
func (s *benchStack) measure(b *testing.B, maxTrips int64, op func(i int)) {
	var before, after int64
	if s.trips != nil {
		before = s.trips.Load()
	}
	i := 0
	for b.Loop() {
		op(i)
		i++
	}
	if s.trips == nil {
		return
	}
	after = s.trips.Load()
	if after-before > maxTrips*int64(i) {
		b.Errorf("%d requests made %d round trips to the database, want at most %d each", i, after-before, maxTrips)
	}
	b.ReportMetric(float64(after-before)/float64(i), "trips/op")
}

func (s *benchStack) reportSize(b *testing.B) {
	rows, bytes := s.size(b)
	// A session and its identity have one row each, whatever is done to them.
	if got, want := rows-s.rows0, int64(2*s.sessions); got != want {
		b.Errorf("%d sessions of as many users have %d rows, want %d", s.sessions, got, want)
	}
	b.ReportMetric(float64(rows-s.rows0)/float64(s.sessions), "rows/session")
	b.ReportMetric(float64(bytes-s.bytes0)/float64(s.sessions), "bytes/session")
}

// countRows is the statement that counts the rows of all tables.
func countRows() string {
	var counts []string
	for table := range strings.FieldsSeq(benchTables) {
		counts = append(counts, "(select count(*) from "+table+")")
	}
	return "select " + strings.Join(counts, " + ")
}

func benchSQLite(b *testing.B) *benchStack {
	b.Helper()
	path := filepath.Join(b.TempDir(), "yufu.db")
	db, err := sqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	look, err := sql.Open("sqlite", path) // the store's package registers it
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = look.Close() })
	return newBenchStack(b, db, nil, func(b *testing.B) (rows, bytes int64) {
		b.Helper()
		if err := look.QueryRow(countRows()).Scan(&rows); err != nil {
			b.Fatal(err)
		}
		err := look.QueryRow(`select (page_count - freelist_count) * page_size
			from pragma_page_count, pragma_freelist_count, pragma_page_size`).Scan(&bytes)
		if err != nil {
			b.Fatal(err)
		}
		return rows, bytes
	})
}

func benchPostgres(b *testing.B, server *pgtest.Server, database string) *benchStack {
	b.Helper()
	look, err := pgx.Connect(b.Context(), server.DSN("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := look.Exec(b.Context(), "create database "+database); err != nil {
		b.Fatal(err)
	}
	look.Close(b.Context())
	if look, err = pgx.Connect(b.Context(), server.DSN(database)); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { look.Close(context.Background()) })

	trips := &atomic.Int64{}
	db, err := postgres.Open(b.Context(), server.DSN(database), postgres.WithTracer(tripCounter{trips}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	return newBenchStack(b, db, trips, func(b *testing.B) (rows, bytes int64) {
		b.Helper()
		if err := look.QueryRow(b.Context(), countRows()).Scan(&rows); err != nil {
			b.Fatal(err)
		}
		err := look.QueryRow(b.Context(), `select sum(pg_total_relation_size(t::regclass))::bigint
			from unnest(string_to_array($1, ' ')) t`, benchTables).Scan(&bytes)
		if err != nil {
			b.Fatal(err)
		}
		return rows, bytes
	})
}

// tripCounter counts the round trips that pgx makes: a query, a batch or a
// prepared statement is one each.
type tripCounter struct{ n *atomic.Int64 }

func (c tripCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (tripCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c tripCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (tripCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (tripCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (c tripCounter) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (tripCounter) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}
