package oauth_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// checkGrant checks a token answer and compares it with its example. The example of a
// login has an unbound user, that of a refresh a bound one; both grants answer alike.
func checkGrant(t *testing.T, w *world, a answer) {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Fatalf("POST /oauth2/token: status and body = %d %s, want 200", a.Status, a.Body)
	}
	wantSecret(t, a)
	m := a.members(t)
	example := "token"
	if m["bound"] == true {
		example = "refresh"
	}
	apitest.SameMembers(t, example, a.Body)
	claims, err := w.Verifier.Verify(t.Context(), a.text(t, "access_token"))
	if err != nil {
		t.Fatal(err)
	}
	if m["token_type"] != "Bearer" || m["uuid"] != claims.Subject.String() || m["bound"] != claims.Bound {
		t.Errorf("answer %v does not fit the claims %+v", m, claims)
	}
	if m["expires_in"] != claims.ExpiresAt.Sub(claims.IssuedAt.Time).Seconds() {
		t.Errorf("expires_in = %v does not fit the claims %+v", m["expires_in"], claims)
	}
	if refresh := a.text(t, "refresh_token"); !strings.HasPrefix(refresh, "yfr_") || len(refresh) != 64 {
		t.Errorf("refresh_token = %q, want a refresh token", refresh)
	}
}

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	t.Run("a code is exchanged for tokens", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.exchange(t, "alice", "device", "Pixel 9")
		checkGrant(t, w, a)
		m := a.members(t)
		if m["refresh_token_timeout"] != 2592000.0 || m["authorization_expires_in"] != 15552000.0 || m["bound"] != false {
			t.Errorf("POST /oauth2/token: body = %s, want lifetimes of 30 and 180 days, not bound", a.Body)
		}
		if person, ok := m["person"]; !ok || person != nil {
			t.Errorf("person = %v, want null", person)
		}
	})
	t.Run("a refresh token is exchanged for new tokens", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.exchange(t, "alice")
		w.Clock.Advance(time.Hour)
		second := w.refresh(t, first.text(t, "refresh_token"))
		checkGrant(t, w, second)
		if second.text(t, "uuid") != first.text(t, "uuid") || second.text(t, "refresh_token") == first.text(t, "refresh_token") {
			t.Errorf("the refresh answers %[2]s after %[1]s", first.Body, second.Body)
		}
		if m := second.members(t); m["refresh_token_timeout"] != 2592000.0 || m["authorization_expires_in"] != 15552000.0-3600 {
			t.Errorf("POST /oauth2/token: body = %s, want lifetimes of 30 days, and 180 days less an hour", second.Body)
		}
		again := w.refresh(t, first.text(t, "refresh_token"))
		if again.text(t, "refresh_token") != second.text(t, "refresh_token") {
			t.Error("a replay within the window gets another successor")
		}
	})
	t.Run("a bound user's answer shows the person", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.exchange(t, "alice")
		id := uuid.Must(uuid.NewV7()).String()
		w.exec(t, `insert into persons (id, external_id, name, created_at) values (?, 'E-4711', '张三', 1)`, id)
		w.exec(t, `update identities set person_id = ?`, id)
		a := w.exchange(t, "alice")
		checkGrant(t, w, a)
		if d := cmp.Diff(map[string]any{"id": id, "external_id": "E-4711", "name": "张三"}, a.members(t)["person"]); d != "" || a.members(t)["bound"] != true {
			t.Errorf("POST /oauth2/token: body = %s, want bound; person (-want +got):\n%s", a.Body, d)
		}
	})
	t.Run("the client_id may be sent as Basic with an empty secret", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.do(t, http.MethodPost, "/oauth2/token", form("grant_type", codeGrant, "code", w.Simulator.NewCode("alice")), withBasic(sessiontest.AppID+":"))
		checkGrant(t, w, a)
		b := w.do(t, http.MethodPost, "/oauth2/token", form("grant_type", "refresh_token", "refresh_token", a.text(t, "refresh_token")), withBasic("wxdevelopment%30001:"))
		checkGrant(t, w, b)
		c := w.do(t, http.MethodPost, "/oauth2/revoke", form("token", b.text(t, "refresh_token")), withBasic(sessiontest.AppID+":"))
		if c.Status != http.StatusOK {
			t.Errorf("revocation: POST /oauth2/revoke: status and body = %d %s, want 200", c.Status, c.Body)
		}
	})
	t.Run("racing refreshes of one token get the same successor", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.exchange(t, "alice").text(t, "refresh_token")
		var (
			wg sync.WaitGroup
			mu sync.Mutex
		)
		successors := map[string]int{}
		for range 20 {
			wg.Go(func() {
				a := w.refresh(t, first)
				mu.Lock()
				defer mu.Unlock()
				m := map[string]any{}
				_ = json.Unmarshal(a.Body, &m)
				s, _ := m["refresh_token"].(string)
				successors[s]++
			})
		}
		wg.Wait()
		if len(successors) != 1 || successors[""] != 0 {
			t.Errorf("successors = %v, want one", successors)
		}
	})
}

func TestTokenEndpointRefusesClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.Store.DisableApp(t.Context(), sessiontest.OtherAppID, w.Event(auth.AuditAppDisabled)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		body      []string
		basic     string
		code      string
		challenge string
	}{
		"an unknown app":          {[]string{"client_id", "wxunknown"}, "", "app_unknown", ""},
		"an unknown app as Basic": {nil, "wxunknown:", "app_unknown", `Basic realm="yufu"`},
		"a disabled app":          {[]string{"client_id", sessiontest.OtherAppID}, "", "app_disabled", ""},
		"a secret in the body":    {[]string{"client_id", sessiontest.AppID, "client_secret", "PLANTED"}, "", "client_secret_unexpected", ""},
		"a secret as Basic":       {nil, sessiontest.AppID + ":PLANTED", "client_secret_unexpected", `Basic realm="yufu"`},
		"a malformed appid":       {[]string{"client_id", "PLANTED'--"}, "", "app_unknown", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var change []func(*http.Request)
			if tc.basic != "" {
				change = append(change, withBasic(tc.basic))
			}
			a := w.do(t, http.MethodPost, "/oauth2/token", form(append(tc.body, "grant_type", codeGrant, "code", w.Simulator.NewCode("alice"))...), change...)
			wantError(t, a, http.StatusUnauthorized, "invalid_client", tc.code)
			if got := a.Header.Get("WWW-Authenticate"); got != tc.challenge {
				t.Errorf("WWW-Authenticate %q, want %q", got, tc.challenge)
			}
			if strings.Contains(string(a.Body), "PLANTED") {
				t.Errorf("the answer quotes the request: %s", a.Body)
			}
		})
	}
}

func TestTokenEndpointRefusesRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := form("grant_type", codeGrant, "client_id", sessiontest.AppID, "code", "PLANTED")
	contentType := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Content-Type", s) }
	}
	for name, tc := range map[string]struct {
		target string
		body   string
		change func(*http.Request)
		status int
		oauth  string
		code   string
	}{
		"an empty body":                     {body: "", status: 400, oauth: "invalid_request", code: "invalid_request"},
		"no grant_type":                     {body: form("client_id", sessiontest.AppID, "code", "PLANTED"), status: 400, oauth: "invalid_request", code: "invalid_request"},
		"an empty grant_type":               {body: good + "&grant_type2=x&grant_type=", status: 400, oauth: "invalid_request", code: "invalid_request"},
		"an unsupported grant":              {body: form("grant_type", "password", "client_id", sessiontest.AppID, "password", "PLANTED"), status: 400, oauth: "unsupported_grant_type", code: "unsupported_grant_type"},
		"the grant in upper case":           {body: form("grant_type", "REFRESH_TOKEN", "client_id", sessiontest.AppID), status: 400, oauth: "unsupported_grant_type", code: "unsupported_grant_type"},
		"no client_id":                      {body: form("grant_type", codeGrant, "code", "PLANTED"), status: 400, oauth: "invalid_request", code: "invalid_request"},
		"no code":                           {body: form("grant_type", codeGrant, "client_id", sessiontest.AppID), status: 400, oauth: "invalid_request", code: "invalid_request"},
		"no refresh_token":                  {body: form("grant_type", "refresh_token", "client_id", sessiontest.AppID), status: 400, oauth: "invalid_request", code: "invalid_request"},
		"a repeated parameter":              {body: good + "&code=PLANTED2", status: 400, oauth: "invalid_request", code: "invalid_request"},
		"a repeated unknown parameter":      {body: good + "&x=1&x=2", status: 400, oauth: "invalid_request", code: "invalid_request"},
		"parameters in the URL":             {target: "?code=PLANTED", body: good, status: 400, oauth: "invalid_request", code: "invalid_request"},
		"NUL":                               {body: good + "%00", status: 400, oauth: "invalid_request", code: "invalid_request"},
		"invalid UTF-8":                     {body: good + "%ff", status: 400, oauth: "invalid_request", code: "invalid_request"},
		"JSON":                              {body: `{"code":"PLANTED"}`, change: contentType("application/json"), status: 415, oauth: "invalid_request", code: "unsupported_media_type"},
		"no content type":                   {body: good, change: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 415, oauth: "invalid_request", code: "unsupported_media_type"},
		"another charset":                   {body: good, change: contentType("application/x-www-form-urlencoded; charset=gbk"), status: 415, oauth: "invalid_request", code: "unsupported_media_type"},
		"a megabyte":                        {body: good + strings.Repeat("x", 1<<20), status: 413, oauth: "invalid_request", code: "body_too_large"},
		"a bearer token for a client":       {body: good, change: func(r *http.Request) { r.Header.Set("Authorization", "Bearer PLANTED") }, status: 400, oauth: "invalid_request", code: "invalid_request"},
		"a device of ten kilobytes":         {body: good + "&device=" + strings.Repeat("x", 10<<10), status: 400, oauth: "invalid_request", code: "invalid_request"},
		"a device with control chars":       {body: good + "&device=a%0Ab", status: 400, oauth: "invalid_request", code: "invalid_request"},
		"a malformed code":                  {body: form("grant_type", codeGrant, "client_id", sessiontest.AppID, "code", "the code is a mock one"), status: 400, oauth: "invalid_grant", code: "code_invalid"},
		"a code that would add a parameter": {body: form("grant_type", codeGrant, "client_id", sessiontest.AppID, "code", "PLANTED&appid=x"), status: 400, oauth: "invalid_grant", code: "code_invalid"},
		"a malformed refresh token":         {body: form("grant_type", "refresh_token", "client_id", sessiontest.AppID, "refresh_token", "yfr_PLANTED"), status: 400, oauth: "invalid_grant", code: "refresh_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := tc.change
			if change == nil {
				change = func(*http.Request) {}
			}
			a := w.do(t, http.MethodPost, "/oauth2/token"+tc.target, tc.body, change)
			wantError(t, a, tc.status, tc.oauth, tc.code)
			if strings.Contains(string(a.Body), "PLANTED") {
				t.Errorf("the answer quotes the request: %s", a.Body)
			}
		})
	}
	t.Run("other methods are refused", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/oauth2/token", "/oauth2/revoke"} {
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions} {
				a := w.do(t, method, path, "")
				wantError(t, a, http.StatusMethodNotAllowed, "invalid_request", "method_not_allowed")
				if got := a.Header.Get("Allow"); got != "POST" {
					t.Errorf("%s %s: Allow = %q", method, path, got)
				}
			}
		}
	})
	// The cleanup runs after the parallel subtests.
	t.Cleanup(func() {
		if strings.Contains(w.log.String(), "PLANTED") {
			t.Errorf("the log quotes a request: %s", w.log)
		}
		if calls := w.Simulator.Calls(); len(calls) != 0 {
			t.Errorf("the platform was called: %+v", calls)
		}
	})
}

func TestTokenEndpointPlatformErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault      wechatsim.Fault
		status     int
		oauth      string
		code       string
		retryAfter string
	}{
		"the platform is busy":            {wechatsim.Fault{Errcode: -1}, 503, "temporarily_unavailable", "platform_unavailable", "5"},
		"the platform does not answer":    {wechatsim.Fault{Drop: true}, 503, "temporarily_unavailable", "platform_unavailable", "5"},
		"the platform's quota is used up": {wechatsim.Fault{Errcode: 45011}, 429, "temporarily_unavailable", "platform_quota", "60"},
		"the platform blocks the user":    {wechatsim.Fault{Errcode: 40226}, 403, "access_denied", "user_blocked", ""},
		"the platform refuses the app":    {wechatsim.Fault{Errcode: 40013}, 500, "server_error", "platform_misconfigured", ""},
		"the code has expired":            {wechatsim.Fault{Errcode: 40029}, 400, "invalid_grant", "code_invalid", ""},
		"the code was used":               {wechatsim.Fault{Errcode: 40163}, 400, "invalid_grant", "code_used", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.Simulator.AddFault(tc.fault); err != nil {
				t.Fatal(err)
			}
			a := w.exchange(t, "alice")
			wantError(t, a, tc.status, tc.oauth, tc.code)
			if got := a.Header.Get("Retry-After"); got != tc.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, tc.retryAfter)
			}
		})
	}
}

func TestRefreshErrors(t *testing.T) {
	t.Parallel()
	t.Run("a reuse ends the session, which is then revoked", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.exchange(t, "alice").text(t, "refresh_token")
		second := w.refresh(t, first).text(t, "refresh_token")
		w.Clock.Advance(2 * time.Minute)
		wantError(t, w.refresh(t, first), http.StatusBadRequest, "invalid_grant", "refresh_reused")
		wantError(t, w.refresh(t, second), http.StatusBadRequest, "invalid_grant", "session_revoked")
	})
	t.Run("an idle session has expired", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.exchange(t, "alice").text(t, "refresh_token")
		w.Clock.Advance(30 * 24 * time.Hour)
		wantError(t, w.refresh(t, token), http.StatusBadRequest, "invalid_grant", "refresh_expired")
	})
	t.Run("another app's token is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.exchange(t, "alice").text(t, "refresh_token")
		a := w.do(t, http.MethodPost, "/oauth2/token", form("grant_type", "refresh_token", "client_id", sessiontest.OtherAppID, "refresh_token", token))
		wantError(t, a, http.StatusBadRequest, "invalid_grant", "refresh_invalid")
	})
	t.Run("an access token is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		wantError(t, w.refresh(t, w.exchange(t, "alice").text(t, "access_token")), http.StatusBadRequest, "invalid_grant", "refresh_invalid")
	})
}

func TestAuditRequestID(t *testing.T) {
	t.Parallel()
	for action, request := range map[auth.AuditAction]func(t *testing.T, w *world, first answer) answer{
		auth.AuditSessionLimit: func(t *testing.T, w *world, _ answer) answer {
			for range session.DefaultMaxSessions - 1 {
				w.exchange(t, "alice")
			}
			return w.exchange(t, "alice")
		},
		auth.AuditRefreshReplay: func(t *testing.T, w *world, first answer) answer {
			w.refresh(t, first.text(t, "refresh_token"))
			w.Clock.Advance(2 * time.Minute)
			return w.refresh(t, first.text(t, "refresh_token"))
		},
		auth.AuditSessionLogout: func(t *testing.T, w *world, first answer) answer {
			return w.revoke(t, first.text(t, "refresh_token"))
		},
	} {
		t.Run(string(action), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			want := request(t, w, w.exchange(t, "alice")).Header.Get("X-Request-Id")
			var got string
			if err := w.db.QueryRowContext(t.Context(), `select request_id from audit where action = ?`, string(action)).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != want || want == "" {
				t.Errorf("request_id in the audit event = %q, want %q", got, want)
			}
		})
	}
}
