package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/admin"
	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var migrated = pgtest.NewTemplate(func(ctx context.Context, dsn string) error {
	s, err := postgres.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Migrate(ctx, shardtest.Sealed)
})

// stores opens a new database of each kind.
var stores = map[string]func(t testing.TB) db.Store{
	"sqlite": func(t testing.TB) db.Store {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "yufu.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
			t.Fatal(err)
		}
		if err := s.Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	},
	"postgres": func(t testing.TB) db.Store {
		s, err := postgres.Open(t.Context(), migrated.New(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	},
}

// world is the admin API on a real listener, with a real database.
type world struct {
	*sessiontest.Fixture
	facts *person.FactKey
	url   string
	// http checks all traffic against the contract.
	http *http.Client
}

// now is the clock of a database.
func (w *world) now(context.Context) (time.Time, error) { return w.Clock.Now(), nil }

func newWorld(t testing.TB, open func(testing.TB) db.Store) *world {
	t.Helper()
	s := open(t)
	w := &world{Fixture: sessiontest.New(t, s, session.Lifetimes{})}
	facts, err := person.OpenFactKey(t.Context(), s, w.Sealer, w.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.facts = facts
	keys := servicekey.NewAuthenticator(s, 0, w.Clock.Now, w.Clock.Now)
	t.Cleanup(keys.Close)
	keeper, err := keyring.NewKeeper(keyring.KeeperConfig{
		Ring: w.Keys, Policy: keyring.DefaultPolicy, Clock: w.Clock.Now,
		DatabaseClock: func(context.Context) (time.Time, error) { return w.Clock.Now(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := webhook.New(webhook.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	r.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, w.Clock.Now))
	r.NotFound(web.NotFound)
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	admin.New(admin.Config{
		Guard: web.NewGuard(keys), Revoker: w.Revoker, Keys: s, AppStore: s, Clock: w.Clock.Now,
		SigningKeys: keeper, MaxStaleness: sessiontest.MaxStaleness,
		CutoffID: func(id int64) string { return "t1." + strconv.FormatInt(id, 10) },
		Persons: person.NewService(person.Config{
			Store: w.DB, Apps: w.DB, Facts: facts, Clock: w.Clock.Now,
		}),
		Apps: app.NewService(app.Config{
			Store: w.DB, Sealer: w.Sealer, Keys: keeper, CheckWebhookURL: hooks.CheckURL, Clock: w.now,
		}),
		Sessions: s,
		AuditLog: s,
	}).Mount(r)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	transport := apitest.NewTransport(t, nil)
	transport.Watch(srv.URL, apitest.Admin)
	w.http = &http.Client{Transport: neverStored{transport, t}}
	return w
}

// key makes a service key without the API.
func (w *world) key(t testing.TB, scopes string, apps ...string) servicekey.Presented {
	t.Helper()
	d, err := servicekey.NewDraft("a test", strings.Fields(scopes), apps)
	if err != nil {
		t.Fatal(err)
	}
	_, p, err := servicekey.Create(t.Context(), w.Store, w.Store, d, auth.AuditEvent{At: w.Clock.Now(), Actor: auth.ActorCLI})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// client returns a client with a new key.
func (w *world) client(t *testing.T, scopes string, apps ...string) *adminclient.Client {
	t.Helper()
	return w.clientOf(t, w.key(t, scopes, apps...))
}

// clientOf returns a client with a key.
func (w *world) clientOf(t *testing.T, key servicekey.Presented) *adminclient.Client {
	t.Helper()
	return w.clientWith(t, key.Key())
}

// clientWith returns a client with a key in the API's form.
func (w *world) clientWith(t *testing.T, key auth.Secret) *adminclient.Client {
	t.Helper()
	c, err := adminclient.New(adminclient.Config{URL: w.url, ServiceKey: key.Reveal(), HTTPClient: w.http})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// neverStored fails the test when a cache may store an answer.
type neverStored struct {
	http.RoundTripper
	t testing.TB
}

// RoundTrip implements [http.RoundTripper].
func (n neverStored) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := n.RoundTripper.RoundTrip(r)
	if err == nil && resp.Header.Get("Cache-Control") != "no-store" {
		n.t.Errorf("%s %s answers %d with Cache-Control %q, want no-store", r.Method, r.URL.Path, resp.StatusCode, resp.Header.Get("Cache-Control"))
	}
	return resp, err
}

// answer is a response with its whole body.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func (a answer) members(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.Body), &m); err != nil {
		t.Fatalf("the answer %d %q is not a JSON object: %v", a.Status, a.Body, err)
	}
	return m
}

// want fails the test unless the answer is a problem of this code.
func (a answer) want(t *testing.T, status int, code auth.Code) {
	t.Helper()
	if m := a.members(t); a.Status != status || m["code"] != string(code) || a.Header.Get("Content-Type") != "application/problem+json" ||
		a.Header.Get("Cache-Control") != "no-store" || m["request_id"] != a.Header.Get("X-Request-Id") {
		t.Errorf("answer %d %v %s, want %d %s", a.Status, a.Header, a.Body, status, code)
	}
}

func (w *world) do(t testing.TB, method, target, key, contentType, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// post sends JSON.
func (w *world) post(t *testing.T, target string, key servicekey.Presented, body string) answer {
	t.Helper()
	return w.do(t, http.MethodPost, target, key.Key().Reveal(), "application/json", body)
}

// succeed returns the answer of a call of the client, and fails the test unless it
// succeeded.
func succeed[A any](t *testing.T, a *A, err error) *A {
	t.Helper()
	if err != nil {
		t.Fatalf("the call fails: %v", err)
	}
	return a
}

// collect returns all items of a list, and fails the test after an error.
func collect[T any](t *testing.T, list iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for item, err := range list {
		if err != nil {
			t.Fatalf("the list fails: %v", err)
		}
		all = append(all, item)
	}
	return all
}
