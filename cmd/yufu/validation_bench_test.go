package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/binding"
	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/telemetry"
	"github.com/yufu-auth/yufu/pkg/token"
)

const (
	// benchTokens is the number of tokens that are used in turn.
	benchTokens = 1000
	benchApp    = "wxbenchmark000001"
	// otherAlg is the algorithm that is not the default.
	otherAlg = "EdDSA"
)

// BenchmarkValidation measures what back ends ask for at every request, with tokens of both
// algorithms, and the documents that validators fetch, as the program serves them, with log
// lines and metrics. Tokens are used again and again. The ceiling is a chi router without middleware whose handler reads
// the request and sends the same answer. Both serve HTTP on loopback, and are measured in
// turn. of-bare is the processor time of the bare server as a share of ours: 1 means that
// Yufu costs nothing.
func BenchmarkValidation(b *testing.B) {
	w := newBenchWorld(b, io.Discard, slog.LevelInfo)
	get := func(path string) func(base string, i int) *http.Request {
		return func(base string, _ int) *http.Request { return httptest.NewRequest(http.MethodGet, base+path, nil) }
	}
	measure := func(name string, request func(base string, i int) *http.Request) {
		b.Run(name, func(b *testing.B) {
			againstBare(b, request, w.router, bare(w.answer(b, request("", 0))))
		})
	}
	for _, alg := range []string{auth.DefaultSigningAlg, otherAlg} {
		tokens := w.tokens[alg]
		measure("introspection/"+alg, func(base string, i int) *http.Request {
			form := url.Values{"token": {tokens[i%benchTokens]}}
			r := httptest.NewRequest(http.MethodPost, base+"/oauth2/introspect", strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Authorization", "Bearer "+w.key)
			return r
		})
		measure("verify/"+alg, func(base string, i int) *http.Request {
			r := get("/v1/verify")(base, i)
			r.Header.Set("Authorization", "Bearer "+tokens[i%benchTokens])
			return r
		})
	}
	measure("JWKS", get("/.well-known/jwks.json"))
	measure("metadata", get("/.well-known/oauth-authorization-server"))
	measure("OpenID metadata", get("/.well-known/openid-configuration"))
}

// BenchmarkManyUsers measures forward-auth for 100,000 users, each with a new token, against
// 1,000 of them, in this process. of-few is the processor time with few users as a share of
// that with many.
func BenchmarkManyUsers(b *testing.B) {
	const users, few, batch = 100_000, 1000, 100
	w := newBenchWorld(b, io.Discard, slog.LevelInfo)
	tokens := make([]string, users)
	for i := range tokens {
		tokens[i] = w.mint("", &auth.Person{ID: uuid.Must(uuid.NewV7()), ExternalID: strconv.Itoa(i)})
	}
	next := 0
	verify := func(users int) func() {
		return func() {
			for range batch {
				next++
				r := httptest.NewRequest(http.MethodGet, "/v1/verify", nil)
				r.Header.Set("Authorization", "Bearer "+tokens[next*7919%users])
				w.answer(b, r)
			}
		}
	}
	took := medianCPU(b, b.N, verify(few), verify(users))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[1])/batch, "cpu-ns/request")
	b.ReportMetric(float64(took[0])/float64(took[1]), "of-few")
}

// againstBare measures a handler and its ceiling.
func againstBare(b *testing.B, request func(base string, i int) *http.Request, ours, ceiling http.Handler) {
	b.Helper()
	const batch = 25 // requests of a connection
	client := newBenchClient(b)
	var batches []func()
	for side, handler := range []http.Handler{ours, ceiling} {
		server := httptest.NewServer(handler)
		b.Cleanup(server.Close)
		job := benchJob{Side: side, Address: server.Listener.Addr().String(), Count: benchTokens / benchConnections * 2}
		for i := range benchTokens {
			var out bytes.Buffer
			if err := request(server.URL, i).Write(&out); err != nil {
				b.Fatal(err)
			}
			job.Requests = append(job.Requests, out.Bytes())
		}
		client.run(b, job)
		batches = append(batches, func() { client.run(b, benchJob{Side: side, Count: batch}) })
	}
	took := medianCPU(b, b.N, batches...)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[0])/(batch*benchConnections), "cpu-ns/request")
	b.ReportMetric(float64(took[1])/float64(took[0]), "of-bare")
}

// bare returns a chi router with a handler that reads the request and always sends the same
// answer.
func bare(answer *httptest.ResponseRecorder) http.Handler {
	body := answer.Body.Bytes()
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
	r := chi.NewRouter()
	r.Post("/oauth2/introspect", handler)
	r.Get("/v1/verify", handler)
	r.Get("/.well-known/jwks.json", handler)
	r.Get("/.well-known/oauth-authorization-server", handler)
	r.Get("/.well-known/openid-configuration", handler)
	return r
}

// benchWorld is the program's public router over SQLite.
type benchWorld struct {
	router  http.Handler
	metrics *telemetry.Metrics
	key     string
	// tokens are of bound users, by algorithm.
	tokens  map[string][]string
	unbound string
	// mint returns a token. An empty algorithm means the default.
	mint func(alg string, person *auth.Person) string
}

// answer returns the program's answer to a request.
func (w *benchWorld) answer(b testing.TB, r *http.Request) *httptest.ResponseRecorder {
	b.Helper()
	out := httptest.NewRecorder()
	w.router.ServeHTTP(out, r)
	if out.Code != http.StatusOK {
		b.Fatalf("%s %s answers %d %s, want 200", r.Method, r.URL, out.Code, out.Body)
	}
	return out
}

func newBenchWorld(b testing.TB, logged io.Writer, level slog.Level) *benchWorld {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx := b.Context()
	sealer, err := seal.ParseRing(seal.GenerateFile())
	check(err)
	s, err := openStore(ctx, setting.Database{Setting: "a benchmark", SQLitePath: filepath.Join(b.TempDir(), "yufu.db")}, sealer)
	check(err)
	b.Cleanup(s.Close)
	keys, err := keyring.Open(ctx, s, sealer, now())
	check(err)
	log, err := telemetry.NewLogger(logged, "json", level) // log lines are formatted and redacted as in production
	check(err)
	check(s.AddApp(ctx, auth.App{ID: benchApp, Platform: auth.PlatformWeChat, CreatedAt: now(), UpdatedAt: now()},
		auth.AuditEvent{At: now(), Action: auth.AuditAppAdded, Actor: auth.ActorCLI, AppID: benchApp}))
	follower, err := cutoffs.Open(ctx, cutoffs.Config{Store: s, MaxStaleness: time.Hour, Clock: time.Now, Log: log})
	check(err)
	draft, err := servicekey.NewDraft("a benchmark", []string{string(servicekey.ScopeService)}, nil)
	check(err)
	_, presented, err := servicekey.Create(ctx, s, s, draft, auth.AuditEvent{At: now(), Action: auth.AuditServiceKeyAdded, Actor: auth.ActorCLI})
	check(err)
	serviceKeys := servicekey.NewAuthenticator(s, 0, time.Now, time.Now)
	b.Cleanup(serviceKeys.Close)
	p := parts{log: log, store: s, issuer: "https://auth.example.com"}
	verifier, err := (&service{parts: p, sealedKeys: sealedKeys{keys: keys}, follower: follower}).newVerifier()
	check(err)
	apps, err := openApps(ctx, p, follower)
	check(err)
	v := newValidation(p, apps, verifier, web.NewGuard(serviceKeys), nil)
	b.Cleanup(v.close)
	w := &benchWorld{key: presented.Key().Reveal(), metrics: telemetry.NewMetrics("benchmark")}
	w.router = publicRouter(log, w.metrics, nil, oauth.New(p.issuer, nil, keys, nil, keyring.DefaultPolicy.JWKSMaxAge), binding.New(nil, nil), gate.New(nil, nil), v)
	// A key signs only some time after it was made.
	earlier := now().Add(-time.Hour)
	keeper, err := keyring.NewKeeper(keyring.KeeperConfig{
		Ring: keys, Policy: keyring.DefaultPolicy, Clock: func() time.Time { return earlier },
		DatabaseClock: func(context.Context) (time.Time, error) { return earlier, nil },
	})
	check(err)
	_, err = keeper.EnsureKeys(ctx, otherAlg, auth.AuditEvent{Actor: auth.ActorCLI})
	check(err)
	minter, err := token.NewMinter(keys, p.issuer, time.Hour)
	check(err)
	minter.RememberIn(verifier)
	w.mint = func(alg string, person *auth.Person) string {
		signed, _, err := minter.Mint(&auth.Session{
			ID: uuid.Must(uuid.NewV7()), Identity: uuid.Must(uuid.NewV7()), AppID: benchApp, Ver: 1,
			Person: person, ExpiresAt: time.Now().Add(24 * time.Hour),
		}, []string{"https://api.example.com"}, alg, now())
		check(err)
		return signed.Reveal()
	}
	w.tokens = map[string][]string{}
	for _, alg := range []string{auth.DefaultSigningAlg, otherAlg} {
		for range benchTokens {
			w.tokens[alg] = append(w.tokens[alg], w.mint(alg, &auth.Person{ID: uuid.Must(uuid.NewV7()), ExternalID: "1001"}))
		}
	}
	w.unbound = w.mint("", nil)
	return w
}
