package gate_test

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
	"github.com/yufu-auth/yufu/pkg/token"
)

// apps is the endpoint's view of the apps.
type apps struct {
	several bool
	err     error
}

func (a *apps) HasSeveral() (bool, error) { return a.several, a.err }

// guarded is forward-auth over a real database.
type guarded struct {
	*sessiontest.Fixture
	url    string
	client *http.Client // checks all traffic against the contract
	apps   *apps
}

const cookieName = "JSESSIONID"

func newGuarded(t *testing.T, cookie string) *guarded {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "yufu.db"))
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
	g := &guarded{Fixture: sessiontest.New(t, store, session.Lifetimes{}), apps: &apps{}}
	verifier, err := token.NewVerifier(bearer.Local{
		Issuer: sessiontest.Issuer, Keys: g.Keys.VerificationKey,
		Cutoffs: g.Cutoffs.Set(), Staleness: g.Cutoffs.Age, MaxStaleness: sessiontest.MaxStaleness, Clock: g.Clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	r.Use(gate.AnyRequest)
	r.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, time.Now))
	r.MethodNotAllowed(web.MethodNotAllowed(r))
	gate.NewForwardAuth(verifier, g.apps, cookie).Mount(r)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	g.url = srv.URL
	transport := apitest.NewTransport(t, nil)
	transport.Watch(g.url, apitest.Public)
	g.client = &http.Client{Transport: transport}
	return g
}

// bound mints a token of a session that is bound.
func (g *guarded) bound(t *testing.T, s auth.Session) (accessToken, person string) {
	t.Helper()
	s.Person = &auth.Person{ID: uuid.Must(uuid.NewV7())}
	signed, _, err := g.Minter.Mint(&s, []string{sessiontest.Audience}, "", g.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	return signed.Reveal(), s.Person.ID.String()
}

// verify asks about a request with the given headers.
func (g *guarded) verify(t *testing.T, query string, header http.Header) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/v1/verify"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	resp, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func bearing(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// wantRefused fails the test unless an answer has the status, code and challenge.
func wantRefused(t *testing.T, resp *http.Response, status int, code, challenge string) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("X-Yufu-Error"); got != code {
		t.Errorf("X-Yufu-Error is %q, want %q", got, code)
	}
	if resp.StatusCode != status || !strings.Contains(string(body), `"code":"`+code+`"`) {
		t.Errorf("got %d %s, want %d %s", resp.StatusCode, body, status, code)
	}
	if got := resp.Header.Get("WWW-Authenticate"); got != challenge && (challenge == "" || !strings.HasPrefix(got, challenge+`, error_description="`)) {
		t.Errorf("WWW-Authenticate %q, want %q", got, challenge)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "X-Yufu-") && name != gate.HeaderError {
			t.Errorf("a refusal has the header %s", name)
		}
	}
}

const (
	noToken  = `Bearer realm="yufu"`
	badToken = `Bearer realm="yufu", error="invalid_token"`
	unbound  = `Bearer realm="yufu", error="insufficient_scope"`
)

func TestVerify(t *testing.T) {
	t.Parallel()
	t.Run("the back end gets the user's headers", func(t *testing.T) {
		t.Parallel()
		g := newGuarded(t, "")
		s := g.Login("alice")
		want := map[string]string{
			"X-Yufu-Uuid": s.Session.Identity.String(), "X-Yufu-Session": s.Session.ID.String(), "X-Yufu-App": sessiontest.AppID,
			"Cache-Control": "no-store", "Content-Length": "0",
		}
		got := func(resp *http.Response) map[string]string {
			m := map[string]string{}
			for name := range resp.Header {
				if name != "Date" && name != "X-Request-Id" {
					m[name] = resp.Header.Get(name)
				}
			}
			if resp.StatusCode != http.StatusOK {
				t.Errorf("status = %d, want 200", resp.StatusCode)
			}
			return m
		}
		if d := cmp.Diff(want, got(g.verify(t, "", bearing(s.AccessToken.Reveal())))); d != "" {
			t.Errorf("headers of an unbound user (-want +got):\n%s", d)
		}
		token, person := g.bound(t, s.Session)
		want["X-Yufu-Person"] = person
		for _, query := range []string{"", "?bound=required"} {
			if d := cmp.Diff(want, got(g.verify(t, query, bearing(token)))); d != "" {
				t.Errorf("headers of a bound user (-want +got):\n%s", d)
			}
		}
	})
	t.Run("an invalid token is refused", func(t *testing.T) {
		t.Parallel()
		g := newGuarded(t, "")
		good, ended := g.Login("alice"), g.Login("bob")
		if _, err := g.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: ended.AccessToken}); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, g.verify(t, "", nil), 401, "token_missing", noToken)
		wantRefused(t, g.verify(t, "", http.Header{"Authorization": {"Basic eDp5"}}), 401, "token_missing", noToken)
		wantRefused(t, g.verify(t, "", bearing("x")), 401, "token_invalid", badToken)
		wantRefused(t, g.verify(t, "", bearing(good.RefreshToken.Reveal())), 401, "token_invalid", badToken)
		wantRefused(t, g.verify(t, "", bearing(good.Session.Identity.String())), 401, "token_invalid", badToken)
		wantRefused(t, g.verify(t, "", bearing(ended.AccessToken.Reveal())), 401, "session_revoked", badToken)
		two := http.Header{"Authorization": {"Bearer " + good.AccessToken.Reveal(), "Bearer " + good.AccessToken.Reveal()}}
		wantRefused(t, g.verify(t, "", two), 400, "invalid_request", "")
		wantRefused(t, g.verify(t, "?bound=required", bearing(good.AccessToken.Reveal())), 403, "person_required", unbound)
		g.Clock.Advance(sessiontest.AccessTTL)
		wantRefused(t, g.verify(t, "", bearing(good.AccessToken.Reveal())), 401, "token_expired", badToken)
	})
	t.Run("the answer is 503 when revocations are not known", func(t *testing.T) {
		t.Parallel()
		g := newGuarded(t, "")
		good := g.Login("alice").AccessToken.Reveal()
		g.Clock.Advance(sessiontest.MaxStaleness + time.Second)
		resp := g.verify(t, "", bearing(good))
		wantRefused(t, resp, 503, "storage_unavailable", "")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("the answer has no Retry-After")
		}
		wantRefused(t, g.verify(t, "", bearing("x")), 401, "token_invalid", badToken)
	})
}

func TestVerifyRequirements(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "")
	good := bearing(g.Login("alice").AccessToken.Reveal())
	for query, want := range map[string]string{
		"?aud=" + sessiontest.Audience:                                  "200",
		"?aud=" + sessiontest.Issuer:                                    "200",
		"?app=" + sessiontest.AppID:                                     "200",
		"?app=" + sessiontest.AppID + "&aud=" + sessiontest.Audience:    "200",
		"?aud=https://other.example.com":                                "401 token_invalid",
		"?aud=" + sessiontest.Audience + "/":                            "401 token_invalid",
		"?app=" + sessiontest.OtherAppID:                                "401 token_invalid",
		"?app=" + sessiontest.AppID + "&aud=https://other.example.com":  "401 token_invalid",
		"?app=" + sessiontest.OtherAppID + "&aud=" + sessiontest.Issuer: "401 token_invalid",
		"?app=" + sessiontest.AppID + "&bound=required":                 "403 person_required",
		"?app=" + sessiontest.OtherAppID + "&bound=required":            "401 token_invalid",
		"?aud=":           "400 invalid_request",
		"?app=":           "400 invalid_request",
		"?app=wx-1":       "400 invalid_request",
		"?bound=":         "400 invalid_request",
		"?bound=require":  "400 invalid_request",
		"?Bound=required": "400 invalid_request",
		"?audience=x":     "400 invalid_request",
		"?aud=x&aud=y":    "400 invalid_request",
		"?app=" + sessiontest.AppID + "&app=" + sessiontest.OtherAppID: "400 invalid_request",
		"?%zz":            "400 invalid_request",
		"?access_token=x": "400 invalid_request",
	} {
		for _, several := range []bool{false, true} {
			g.apps.several = several
			resp := g.verify(t, query, good)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			status, code, _ := strings.Cut(want, " ")
			if !strings.HasPrefix(resp.Status, status) || !strings.Contains(string(body), code) {
				t.Errorf("%s with several apps %t: %s %s, want %s", query, several, resp.Status, body, want)
			}
		}
	}
	t.Run("an app or an audience is required where several apps are registered", func(t *testing.T) {
		g.apps.several = true
		for _, header := range []http.Header{good, nil, bearing("x")} {
			wantRefused(t, g.verify(t, "", header), 400, "invalid_request", "")
			wantRefused(t, g.verify(t, "?bound=required", header), 400, "invalid_request", "")
		}
	})
	t.Run("the answer is 503 while the number of apps is not known", func(t *testing.T) {
		g.apps.several, g.apps.err = false, auth.StorageUnavailable
		wantRefused(t, g.verify(t, "", good), 503, "storage_unavailable", "")
		wantRefused(t, g.verify(t, "", bearing("x")), 401, "token_invalid", badToken)
		if resp := g.verify(t, "?app="+sessiontest.AppID, good); resp.StatusCode != http.StatusOK {
			t.Errorf("with the parameter app: got %s, want 200", resp.Status)
		}
	})
}

func TestVerifyCookie(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, cookieName)
	token := g.Login("alice").AccessToken.Reveal()
	with := func(cookie string, more ...string) http.Header {
		h := http.Header{"Cookie": {cookie}}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = append(h[more[i]], more[i+1])
		}
		return h
	}
	for name, header := range map[string]http.Header{
		"without other cookies": with(cookieName + "=" + token),
		"among other cookies":   with("a=b; " + cookieName + "=" + token + "; c=d"),
		"in a second header":    {"Cookie": {"a=b", cookieName + "=" + token}},
		"in quotes":             with(cookieName + `="` + token + `"`),
		"if it is bad and the header has a good token":      with(cookieName+"=x", "Authorization", "Bearer "+token),
		"if it is repeated and the header has a good token": with(cookieName+"=x; "+cookieName+"=y", "Authorization", "Bearer "+token),
		"of a browser if the header has the token":          with(cookieName+"=x", "Authorization", "Bearer "+token, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"),
	} {
		t.Run("a cookie counts "+name, func(t *testing.T) {
			if resp := g.verify(t, "", header); resp.StatusCode != http.StatusOK {
				t.Errorf("status = %d, want 200", resp.StatusCode)
			}
		})
	}
	const page = "https://servicewechat.com/" + sessiontest.AppID + "/devtools/page-frame.html"
	windows := func(referer ...string) http.Header {
		h := with(cookieName+"="+token, "Sec-Fetch-Site", "cross-site")
		h["Referer"] = referer
		return h
	}
	for name, header := range map[string]http.Header{
		"from WeChat for Windows":              windows(page),
		"from WeChat for Windows, with Origin": with(cookieName+"="+token, "Origin", "https://servicewechat.com", "Sec-Fetch-Site", "cross-site", "Referer", page),
		"from a page without a name":           windows("https://servicewechat.com/" + sessiontest.AppID + "/"),
	} {
		t.Run("a cookie counts "+name, func(t *testing.T) {
			if resp := g.verify(t, "", header); resp.StatusCode != http.StatusOK {
				t.Errorf("status = %d, want 200", resp.StatusCode)
			}
		})
	}
	for _, referer := range [][]string{
		nil, {""}, {"https://servicewechat.com"}, {"https://servicewechat.com/"}, {"https://servicewechat.com//"},
		{"https://servicewechat.com/" + sessiontest.AppID}, {"https://servicewechat.com/wxother/1/page-frame.html"},
		{"https://servicewechat.com/" + strings.ToUpper(sessiontest.AppID) + "/1/page-frame.html"},
		{"https://servicewechat.com/" + sessiontest.AppID + "x/1/"}, {"https://servicewechat.com/x/" + sessiontest.AppID + "/1/"},
		{"https://servicewechat.com/%2e%2e/" + sessiontest.AppID + "/1/"}, {"https://servicewechat.com/" + sessiontest.AppID + "%2f1/"},
		{"https://servicewechat.com/" + sessiontest.AppID + "?/"}, {"https://servicewechat.com/" + sessiontest.AppID + "#/"},
		{"https://servicewechat.com.evil/" + sessiontest.AppID + "/1/"}, {"https://evil/servicewechat.com/" + sessiontest.AppID + "/1/"},
		{"https://evil@servicewechat.com/" + sessiontest.AppID + "/1/"}, {"https://servicewechat.com@evil/" + sessiontest.AppID + "/1/"},
		{"https://servicewechat.com:443/" + sessiontest.AppID + "/1/"}, {"https://www.servicewechat.com/" + sessiontest.AppID + "/1/"},
		{"https://servicewechat.com\\@evil/" + sessiontest.AppID + "/1/"}, {"http://servicewechat.com/" + sessiontest.AppID + "/1/"},
		{"HTTPS://SERVICEWECHAT.COM/" + sessiontest.AppID + "/1/"}, {"//servicewechat.com/" + sessiontest.AppID + "/1/"},
		{page, page}, {"https://evil.example/", page}, {page + ", https://evil.example/", page},
	} {
		t.Run(fmt.Sprintf("a cookie does not count from a browser with the referer %q", referer), func(t *testing.T) {
			wantRefused(t, g.verify(t, "", windows(referer...)), 401, "token_missing", noToken)
		})
	}
	for name, tc := range map[string]struct {
		header    http.Header
		status    int
		code      string
		challenge string
	}{
		"if it is empty":                   {with(cookieName + "="), 401, "token_missing", noToken},
		"with another value":               {with(cookieName + "=x"), 401, "token_invalid", badToken},
		"of another name":                  {with("SESSION=" + token), 401, "token_missing", noToken},
		"in another case":                  {with("jsessionid=" + token), 401, "token_missing", noToken},
		"if it is repeated":                {with(cookieName + "=" + token + "; " + cookieName + "=" + token), 400, "invalid_request", ""},
		"from another site":                {with(cookieName+"="+token, "Origin", "https://evil.example"), 401, "token_missing", noToken},
		"from an opaque origin":            {with(cookieName+"="+token, "Origin", "null"), 401, "token_missing", noToken},
		"with an empty Origin":             {with(cookieName+"="+token, "Origin", ""), 401, "token_missing", noToken},
		"from a browser":                   {with(cookieName+"="+token, "Sec-Fetch-Site", "same-origin"), 401, "token_missing", noToken},
		"beside a bad token":               {with(cookieName+"="+token, "Authorization", "Bearer x"), 401, "token_invalid", badToken},
		"beside an empty Authorization":    {with(cookieName+"="+token, "Authorization", ""), 401, "token_missing", noToken},
		"beside another Authorization":     {with(cookieName+"="+token, "Authorization", "Basic eDp5"), 401, "token_missing", noToken},
		"beside two Authorization headers": {with(cookieName+"="+token, "Authorization", "Bearer x", "Authorization", "Bearer x"), 400, "invalid_request", ""},
	} {
		t.Run("a cookie does not count "+name, func(t *testing.T) {
			wantRefused(t, g.verify(t, "", tc.header), tc.status, tc.code, tc.challenge)
		})
	}
	t.Run("a cookie does not count where no cookie name is configured", func(t *testing.T) {
		t.Parallel()
		g := newGuarded(t, "")
		wantRefused(t, g.verify(t, "", with(cookieName+"="+g.Login("bob").AccessToken.Reveal())), 401, "token_missing", noToken)
	})
}
