package oauth_test

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// world is the OAuth endpoints on a real listener, with a real database and a simulated
// WeChat.
type world struct {
	*sessiontest.Fixture
	db     *sql.DB
	url    string
	client *http.Client // checks all traffic against the contract
	log    *logBuffer
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, func(*world, *sqlite.Store, chi.Router) {})
}

// unlimited are exchange limits without a bound.
var unlimited = oauth.NewExchangeLimits(0, 0, time.Now)

// newWorldWith returns a world with more endpoints.
func newWorldWith(t *testing.T, more func(w *world, store *sqlite.Store, r chi.Router)) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "yufu.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := store.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{Fixture: sessiontest.New(t, store, session.Lifetimes{}), db: db, log: &logBuffer{}}
	r := chi.NewRouter()
	r.Use(web.ClientIP(nil, nil), web.Events(slog.New(slog.NewJSONHandler(w.log, nil)), func(web.Observation) {}, w.Clock.Now))
	r.NotFound(web.NotFound)
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	oauth.New(sessiontest.Issuer, w.Service, w.Keys, unlimited, 5*time.Minute).Mount(r)
	more(w, store, r)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	transport := apitest.NewTransport(t, nil)
	transport.Watch(w.url, apitest.Public)
	w.client = &http.Client{Transport: transport}
	return w
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	res, err := w.db.ExecContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows affected, error %v", query, n, err)
	}
}

// answer is a response with its whole body.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// members decodes the body, a JSON object.
func (a answer) members(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.Body, &m); err != nil {
		t.Fatalf("the answer %d %q is not a JSON object: %v", a.Status, a.Body, err)
	}
	return m
}

// text returns a member that is a string.
func (a answer) text(t *testing.T, member string) string {
	t.Helper()
	s, ok := a.members(t)[member].(string)
	if !ok {
		t.Fatalf("the answer %d %s has no %s", a.Status, a.Body, member)
	}
	return s
}

func (w *world) do(t *testing.T, method, path, body string, change ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range change {
		c(req)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// form encodes pairs of names and values.
func form(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

const codeGrant = "urn:yufu:grant-type:mini-program-code"

// exchange logs a user in over HTTP, with optional further parameters.
func (w *world) exchange(t *testing.T, user string, more ...string) answer {
	t.Helper()
	return w.do(t, http.MethodPost, "/oauth2/token",
		form(append([]string{"grant_type", codeGrant, "client_id", sessiontest.AppID, "code", w.Simulator.NewCode(user)}, more...)...))
}

func (w *world) refresh(t *testing.T, refreshToken string) answer {
	t.Helper()
	return w.do(t, http.MethodPost, "/oauth2/token",
		form("grant_type", "refresh_token", "client_id", sessiontest.AppID, "refresh_token", refreshToken))
}

func (w *world) revoke(t *testing.T, token string, more ...string) answer {
	t.Helper()
	return w.do(t, http.MethodPost, "/oauth2/revoke", form(append([]string{"client_id", sessiontest.AppID, "token", token}, more...)...))
}

func withBasic(userinfo string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(userinfo)))
	}
}

// wantSecret fails the test unless the headers forbid storing the answer.
func wantSecret(t *testing.T, a answer) {
	t.Helper()
	if got := a.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	if got := a.Header.Get("Pragma"); got != "no-cache" {
		t.Errorf("Pragma %q", got)
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if a.Header.Get("X-Request-Id") == "" {
		t.Error("the answer has no X-Request-Id")
	}
}

// wantError fails the test unless the answer is an error as in RFC 6749 §5.2 with our
// two members.
func wantError(t *testing.T, a answer, status int, oauthError, code string) {
	t.Helper()
	m := a.members(t)
	if a.Status != status || m["error"] != oauthError || m["error_code"] != code {
		t.Errorf("answer %d %s, want %d %s %s", a.Status, a.Body, status, oauthError, code)
	}
	if text, _ := m["error_description"].(string); text == "" || strings.ContainsAny(text, "\"\\") {
		t.Errorf("error_description %q", text)
	}
	if m["request_id"] != a.Header.Get("X-Request-Id") || len(m) != 4 {
		t.Errorf("body = %s, want 4 members and the request id", a.Body)
	}
	wantSecret(t, a)
}
