package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
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

// benchTokens is the number of tokens that are used in turn.
const benchTokens = 1000

// BenchmarkValidation measures introspection and forward-auth as the program serves them, with
// log lines and metrics, on tokens that are used again and again. A bare chi handler that
// answers as many bytes is the baseline. Compare results only within one run:
//
//	in process    from the router to the answer, without a network
//	over HTTP     on kept-alive loopback connections
func BenchmarkValidation(b *testing.B) {
	w := newBenchWorld(b)
	form := make([]string, benchTokens)
	for i, t := range w.tokens {
		form[i] = url.Values{"token": {t}}.Encode()
	}
	introspect := func(base string, i int) *http.Request {
		r := httptest.NewRequest(http.MethodPost, base+"/oauth2/introspect", strings.NewReader(form[i%benchTokens]))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Bearer "+w.key)
		return r
	}
	verify := func(base string, i int) *http.Request {
		r := httptest.NewRequest(http.MethodGet, base+"/v1/verify", nil)
		r.Header.Set("Authorization", "Bearer "+w.tokens[i%benchTokens])
		return r
	}
	for _, c := range []struct {
		name    string
		handler http.Handler
		request func(base string, i int) *http.Request
	}{
		{"introspection", w.router, introspect},
		{"introspection/bare", bare(w.answer(b, introspect("", 0))), introspect},
		{"verify", w.router, verify},
		{"verify/bare", bare(w.answer(b, verify("", 0))), verify},
	} {
		b.Run("in process/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			defer measureCPU(b)()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					out := httptest.NewRecorder()
					c.handler.ServeHTTP(out, c.request("", i))
					if out.Code != http.StatusOK {
						b.Errorf("status %d %s, want 200", out.Code, out.Body)
						return
					}
				}
			})
		})
		b.Run("over HTTP/"+c.name, func(b *testing.B) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			defer client.CloseIdleConnections()
			b.SetParallelism(8)
			defer measureCPU(b)()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					r := c.request(server.URL, i)
					r.RequestURI = ""
					resp, err := client.Do(r)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						b.Errorf("status %d, want 200", resp.StatusCode)
						return
					}
				}
			})
		})
	}
}

// measureCPU reports the processor time of each operation, by which operations can be compared
// also on a busy machine.
func measureCPU(b *testing.B) (done func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
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
	return r
}

// nowhere drops the log.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// benchWorld is the program's public router over SQLite.
type benchWorld struct {
	router http.Handler
	key    string
	tokens []string
}

// answer returns the program's answer to a request.
func (w *benchWorld) answer(b *testing.B, r *http.Request) *httptest.ResponseRecorder {
	b.Helper()
	out := httptest.NewRecorder()
	w.router.ServeHTTP(out, r)
	if out.Code != http.StatusOK {
		b.Fatalf("%s %s answers %d %s, want 200", r.Method, r.URL, out.Code, out.Body)
	}
	return out
}

func newBenchWorld(b *testing.B) *benchWorld {
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
	log, err := telemetry.NewLogger(nowhere{}, "json", slog.LevelInfo) // log lines are formatted and redacted as in production
	check(err)
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
	v, err := newValidation(ctx, p, follower.MaxStaleness(), verifier, web.NewGuard(serviceKeys), nil)
	check(err)
	b.Cleanup(v.close)
	w := &benchWorld{key: presented.Key().Reveal()}
	w.router = publicRouter(log, telemetry.NewMetrics("benchmark"), nil, oauth.New(p.issuer, nil, keys, nil, keyring.DefaultPolicy.JWKSMaxAge), binding.New(nil, nil), gate.New(nil, nil), v)
	minter, err := token.NewMinter(keys, p.issuer, time.Hour)
	check(err)
	for range benchTokens {
		signed, _, err := minter.Mint(&auth.Session{
			ID: uuid.Must(uuid.NewV7()), Identity: uuid.Must(uuid.NewV7()), AppID: "wxbenchmark000001", Ver: 1,
			Person: &auth.Person{ID: uuid.Must(uuid.NewV7()), ExternalID: "1001"}, ExpiresAt: time.Now().Add(24 * time.Hour),
		}, []string{"https://api.example.com"}, "", now())
		check(err)
		w.tokens = append(w.tokens, signed.Reveal())
	}
	return w
}
