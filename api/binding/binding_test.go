package binding_test

import (
	"database/sql"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/api/binding"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// world is the endpoints on a real listener, over a real database.
type world struct {
	*sessiontest.Fixture
	bindings *bindingtest.Fixture
	db       *sql.DB
	handler  http.Handler
	url      string
	client   *http.Client // checks all traffic against the contract
}

func newWorld(t *testing.T) *world {
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
	w := &world{Fixture: sessiontest.New(t, store, session.Lifetimes{}), db: db}
	r := chi.NewRouter()
	r.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, w.Clock.Now))
	r.NotFound(web.NotFound)
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	w.bindings = bindingtest.New(t, w.Fixture, store)
	binding.New(w.Service, w.bindings.Binding).Mount(r)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	w.handler, w.url = r, srv.URL
	transport := apitest.NewTransport(t, nil)
	transport.Watch(w.url, apitest.Public)
	w.client = &http.Client{Transport: transport}
	return w
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := w.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// answer is a response that was read to its end.
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

func (w *world) do(t *testing.T, method, target string, authorization ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(authorization) > 0 {
		req.Header["Authorization"] = authorization
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
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (w *world) me(t *testing.T, accessToken auth.Secret) answer {
	t.Helper()
	return w.do(t, http.MethodGet, "/v1/me", "Bearer "+accessToken.Reveal())
}

func (w *world) refresh(t *testing.T, g session.Grant) session.Grant {
	t.Helper()
	next, err := w.Refresh(g.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestMe(t *testing.T) {
	t.Parallel()
	t.Run("the answer shows the user and the session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g, err := w.Service.Exchange(t.Context(), session.ExchangeRequest{
			ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode("alice")), Device: "Pixel 9",
		})
		if err != nil {
			t.Fatal(err)
		}
		a := w.me(t, g.AccessToken)
		if a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET /v1/me: status and headers = %d %v, want 200 and no-store", a.Status, a.Header)
		}
		if d := cmp.Diff(map[string]any{
			"uuid": g.Session.Identity.String(), "bound": false, "person": nil,
			"session": map[string]any{
				"id": g.Session.ID.String(), "device": "Pixel 9",
				"started_at": "2026-07-01T12:00:00Z", "expires_at": "2026-12-28T12:00:00Z",
			},
		}, a.members(t)); d != "" {
			t.Errorf("mismatch (-want +got):\n%s", d)
		}
		apitest.SameMembers(t, "me", []byte(a.Body))
	})
	t.Run("the answer shows the person of a bound session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		id := uuid.Must(uuid.NewV7()).String()
		w.exec(t, `insert into persons (id, external_id, name, created_at) values (?, 'E-4711', '张三', 1)`, id)
		w.exec(t, `update identities set person_id = ?`, id)
		w.exec(t, `update sessions set person_id = ?`, id)
		a := w.me(t, g.AccessToken)
		m := a.members(t)
		if d := cmp.Diff(map[string]any{"id": id, "external_id": "E-4711", "name": "张三"}, m["person"]); d != "" || m["bound"] != true {
			t.Errorf("GET /v1/me: body = %s, want bound; person (-want +got):\n%s", a.Body, d)
		}
		apitest.SameMembers(t, "me-bound", []byte(a.Body))
	})
	t.Run("the answer does not change with a refresh", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		first := w.me(t, g.AccessToken)
		for range 3 {
			w.Clock.Advance(5*time.Hour + 17*time.Minute + 321*time.Millisecond)
			g = w.refresh(t, g)
			a := w.me(t, g.AccessToken)
			if a.Body != first.Body {
				t.Errorf("the answer after a refresh is %s, before %s", a.Body, first.Body)
			}
			// These headers differ and reveal nothing: ids are random, Date is the server's.
			for _, h := range []http.Header{a.Header, first.Header} {
				h.Del("X-Request-Id")
				h.Del("Date")
			}
			if d := cmp.Diff(first.Header, a.Header); d != "" {
				t.Errorf("mismatch (-first +second):\n%s", d)
			}
		}
		for _, m := range []string{"generation", "rotated", "idle", "refresh", "ver", "epoch"} {
			if strings.Contains(first.Body, m) {
				t.Errorf("the answer contains %q: %s", m, first.Body)
			}
		}
		// Whole seconds: a fraction would be one more bit to know a session by.
		if times := regexp.MustCompile(`"[^"]+T[^"]+"`).FindAllString(first.Body, -1); len(times) != 2 || slices.ContainsFunc(times, func(s string) bool { return !strings.HasSuffix(s, `:00Z"`) }) {
			t.Errorf("times %v", times)
		}
	})
}

func TestMeRefuses(t *testing.T) {
	t.Parallel()
	const challenge = `Bearer realm="yufu"`
	invalid := func(code auth.Code) string {
		return challenge + `, error="invalid_token", error_description="` + web.Responses[code].Text + `"`
	}
	w := newWorld(t)
	g := w.Login("alice")
	ended := w.Login("alice")
	if _, err := w.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: ended.RefreshToken}); err != nil {
		t.Fatal(err)
	}
	access := g.AccessToken.Reveal()
	for name, tc := range map[string]struct {
		target        string
		authorization []string
		status        int
		code          auth.Code
		challenge     string
	}{
		"a request without a token":        {"/v1/me", nil, 401, auth.TokenMissing, challenge},
		"another scheme":                   {"/v1/me", []string{"Basic d3g6"}, 401, auth.TokenMissing, challenge},
		"garbage":                          {"/v1/me", []string{"Bearer garbage"}, 401, auth.TokenInvalid, invalid(auth.TokenInvalid)},
		"the uuid, which is no credential": {"/v1/me", []string{"Bearer " + g.Session.Identity.String()}, 401, auth.TokenInvalid, invalid(auth.TokenInvalid)},
		"the session's id":                 {"/v1/me", []string{"Bearer " + g.Session.ID.String()}, 401, auth.TokenInvalid, invalid(auth.TokenInvalid)},
		"the refresh token":                {"/v1/me", []string{"Bearer " + g.RefreshToken.Reveal()}, 401, auth.TokenInvalid, invalid(auth.TokenInvalid)},
		"the token of an ended session":    {"/v1/me", []string{"Bearer " + ended.AccessToken.Reveal()}, 401, auth.SessionRevoked, invalid(auth.SessionRevoked)},
		"two headers":                      {"/v1/me", []string{"Bearer " + access, "Bearer " + access}, 400, auth.InvalidRequest, ""},
		"a token in the URL":               {"/v1/me?access_token=" + access, nil, 400, auth.InvalidRequest, ""},
		"a token in both places":           {"/v1/me?access_token=" + access, []string{"Bearer " + access}, 400, auth.InvalidRequest, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := w.do(t, http.MethodGet, tc.target, tc.authorization...)
			m := a.members(t)
			if a.Status != tc.status || m["code"] != string(tc.code) || m["status"] != float64(tc.status) || m["type"] != "urn:yufu:problem:"+string(tc.code) {
				t.Errorf("got %d %s, want %d %s", a.Status, a.Body, tc.status, tc.code)
			}
			if got := a.Header.Get("WWW-Authenticate"); got != tc.challenge {
				t.Errorf("WWW-Authenticate %q, want %q", got, tc.challenge)
			}
			if a.Header.Get("Content-Type") != "application/problem+json" || a.Header.Get("Cache-Control") != "no-store" || m["request_id"] != a.Header.Get("X-Request-Id") {
				t.Errorf("headers and body = %v %s, want application/problem+json, no-store and the request id", a.Header, a.Body)
			}
			if strings.Contains(a.Body, access) {
				t.Errorf("the answer quotes the token: %s", a.Body)
			}
		})
	}
	t.Run("an expired token is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		w.Clock.Advance(sessiontest.AccessTTL)
		a := w.me(t, g.AccessToken)
		if m := a.members(t); a.Status != 401 || m["code"] != "token_expired" || a.Header.Get("WWW-Authenticate") != invalid(auth.TokenExpired) {
			t.Errorf("GET /v1/me: status, headers and body = %d %v %s, want 401 token_expired", a.Status, a.Header, a.Body)
		}
		wantMembers(t, a, "code", "request_id", "status", "title", "type")
	})
	t.Run("other methods are refused", func(t *testing.T) {
		t.Parallel()
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			a := w.do(t, method, "/v1/me", "Bearer "+access)
			if a.Status != http.StatusMethodNotAllowed || !strings.HasPrefix(a.Header.Get("Allow"), "GET") || a.members(t)["code"] != "method_not_allowed" {
				t.Errorf("%s: status, headers and body = %d %v %s, want 405 method_not_allowed", method, a.Status, a.Header, a.Body)
			}
		}
	})
}

func wantMembers(t *testing.T, a answer, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(a.members(t)))); d != "" {
		t.Errorf("mismatch (-want +got):\n%s", d)
	}
}
