package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

// apiAudience is the audience of the back end in the examples of deploy/.
const apiAudience = "https://" + apiHost

// guardedWorld is two replicas, a back end that Yufu guards, and users.
type guardedWorld struct {
	*deployment
	near, far    *service // the proxy asks the near replica
	backEnd      *guardedAPI
	admin        string
	alice, lilei *answer // lilei is bound
	person       string
	anotherUser  *answer // a user of an app without the back end's audience
}

const otherApp = "wxe2e0000000000002"

func newGuardedWorld(h *harness) *guardedWorld {
	h.t.Helper()
	database := pgtest.Empty(h.t)
	w := &guardedWorld{deployment: deploy(h, database), backEnd: h.guardedAPI()}
	_, w.near = w.serve("near replica", "--migrate")
	_, w.far = w.serve("far replica")
	w.mustRun(w.env, w.appSecret(), "app", "add", testApp, "--secret-file", "-", "--audience", apiAudience)
	w.mustRun(w.env, w.appSecret(), "app", "add", otherApp, "--secret-file", "-")
	w.admin = w.serviceKey("admin")
	w.alice = w.near.logIn("alice")
	bindToPerson(h.t, database, w.near.logIn(bound).Doc.UUID)
	w.lilei = w.near.logIn(bound)
	var me struct{ Person struct{ ID string } }
	if err := json.Unmarshal([]byte(w.near.me(w.lilei.Doc.AccessToken).Body), &me); err != nil {
		h.t.Fatal(err)
	}
	w.person = me.Person.ID
	other := *w.near
	other.app = otherApp
	w.anotherUser = other.logIn("alice")
	return w
}

func (w *guardedWorld) sites() sites {
	return sites{auth: strings.TrimPrefix(w.near.base, "http://"), api: w.backEnd.addr, adminPort: portOf(w.near.admin)}
}

// portOf returns the port of an address that ends with one.
func portOf(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }

// headersOf returns the headers that the back end must get for a user.
func (w *guardedWorld) headersOf(user *answer, person string) map[string][]string {
	want := map[string][]string{
		"X-Yufu-Uuid":    {user.Doc.UUID},
		"X-Yufu-Session": {w.near.me(user.Doc.AccessToken).Doc.Session.ID},
		"X-Yufu-App":     {testApp},
	}
	if person != "" {
		want["X-Yufu-Person"] = []string{person}
		want["X-Yufu-External-Id"] = []string{"E-1002"} // set by bindToPerson
	}
	return want
}

// wantPassed fails the test unless the back end got one request, with these headers.
func (w *guardedWorld) wantPassed(t *testing.T, a answered, identityHeaders map[string][]string) {
	t.Helper()
	seen := w.backEnd.forget()
	if a.status != http.StatusOK || len(seen) != 1 {
		t.Fatalf("the answer is %d %s, and the back end got %d requests, want 1", a.status, a.body, len(seen))
	}
	if d := cmp.Diff(identityHeaders, identity(seen[0])); d != "" {
		t.Errorf("headers at the back end (-want +got):\n%s", d)
	}
}

// wantStopped fails the test if the back end got a request.
func (w *guardedWorld) wantStopped(t *testing.T, a answered, status int) {
	t.Helper()
	if seen := w.backEnd.forget(); a.status != status || len(seen) != 0 {
		t.Errorf("the answer is %d %s, want %d; the back end got %d requests, want 0", a.status, a.body, status, len(seen))
	}
}

// forgeries are headers by which a client could pretend to be another user, in spellings
// that some back ends treat as ours.
var forgeries = []string{
	"X-Yufu-Person", "x-yufu-person", "X-YUFU-PERSON", "x-YuFu-PeRsOn",
	"X_Yufu_Person", "x_yufu_person", "X_YUFU_PERSON", "x_YuFu_pErSoN", "X-Yufu_Person", "X_Yufu-Person",
	"X-Yufu-UUID", "X-Yufu-Session", "X-Yufu-App", "X_Yufu_UUID", "x_yufu_session", "X_YUFU_APP",
}

// guards checks what every proxy must guarantee.
func (w *guardedWorld) guards(t *testing.T, p *proxy) {
	t.Helper()
	alice, lilei := w.headersOf(w.alice, ""), w.headersOf(w.lilei, w.person)
	token := w.alice.Doc.AccessToken

	t.Run("the back end gets the user's headers", func(t *testing.T) {
		w.wantPassed(t, p.api(t, token), alice)
		w.wantPassed(t, p.api(t, w.lilei.Doc.AccessToken), lilei)
		w.wantPassed(t, p.api(t, token), alice)
	})
	t.Run("the other headers are passed unchanged", func(t *testing.T) {
		a := p.must(t, http.MethodPost, apiHost, "/orders/%2e?aud=x&q=%E9%B1%BC", "a body", http.Header{"Authorization": {"Bearer " + token}})
		if a.body != "POST /orders/%2e?aud=x&q=%E9%B1%BC a body" {
			t.Errorf("POST /orders/%%2e: status and body = %d %s, want the request unchanged", a.status, a.body)
		}
		w.backEnd.forget()
	})
	t.Run("forged headers are removed", func(t *testing.T) {
		for _, name := range forgeries {
			t.Run(name, func(t *testing.T) {
				w.wantPassed(t, p.api(t, token, name, w.person), alice)
				w.wantPassed(t, p.api(t, token, name, w.person, name, w.person), alice)
				w.wantPassed(t, p.api(t, w.lilei.Doc.AccessToken, name, w.alice.Doc.UUID), lilei)
				w.wantStopped(t, p.api(t, "", name, w.person), http.StatusUnauthorized)
			})
		}
		var all []string
		for _, name := range forgeries {
			all = append(all, name, w.person)
		}
		w.wantPassed(t, p.api(t, token, all...), alice)
	})
	t.Run("a client cannot have the headers deleted", func(t *testing.T) {
		for _, name := range []string{"X-Yufu-UUID", "x-yufu-person", "close, X-Yufu-UUID, x-yufu-session,X-YUFU-APP, X-Yufu-Person"} {
			w.wantPassed(t, p.api(t, w.lilei.Doc.AccessToken, "Connection", name), lilei)
		}
	})
	t.Run("requests without a valid token are stopped", func(t *testing.T) {
		a := p.api(t, "")
		w.wantStopped(t, a, http.StatusUnauthorized)
		if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="yufu"` {
			t.Errorf("WWW-Authenticate = %q", got)
		}
		other := w.anotherUser.Doc.AccessToken
		for name, token := range map[string]string{
			"junk":                         "x",
			"a refresh token":              w.alice.Doc.RefreshToken,
			"a user's id":                  w.alice.Doc.UUID,
			"another audience":             other,
			"a signature of another token": token[:strings.LastIndex(token, ".")] + other[strings.LastIndex(other, "."):],
			"no signature":                 token[:strings.LastIndex(token, ".")+1],
			"the algorithm none":           "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0" + token[strings.Index(token, "."):strings.LastIndex(token, ".")+1],
		} {
			a := p.api(t, token)
			w.wantStopped(t, a, http.StatusUnauthorized)
			if got := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="yufu", error="invalid_token"`) {
				t.Errorf("%s: WWW-Authenticate = %q", name, got)
			}
		}
		w.wantStopped(t, p.api(t, "", "Authorization", "Basic eDp5"), http.StatusUnauthorized)
		w.wantStopped(t, p.api(t, "", "Cookie", "JSESSIONID="+token), http.StatusUnauthorized)
	})
	t.Run("the public endpoints of the service are published", func(t *testing.T) {
		form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		exchange := url.Values{"grant_type": {codeGrant}, "client_id": {testApp}, "code": {w.sim.mustCode("bob")}}
		a := p.must(t, http.MethodPost, authHost, "/oauth2/token", exchange.Encode(), form)
		var login struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
		if err := json.Unmarshal([]byte(a.body), &login); err != nil || a.status != http.StatusOK {
			t.Fatalf("POST /oauth2/token: status and body = %d %s, want 200", a.status, a.body)
		}
		w.secret("an access token", login.Access)
		w.secret("a refresh token", login.Refresh)
		bearer := http.Header{"Authorization": {"Bearer " + login.Access}}
		for _, path := range []string{"/v1/me", "/v1/sessions", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
			if a := p.must(t, http.MethodGet, authHost, path, "", bearer); a.status != http.StatusOK {
				t.Errorf("%s: status and body = %d %s, want 200", path, a.status, a.body)
			}
		}
		// The service answers whether or not the user exists.
		for _, path := range []string{"/v1/binding", "/v1/binding/preview", "/v1/sessions/" + w.alice.Doc.UUID, "/.well-known/x"} {
			if a := p.must(t, http.MethodDelete, authHost, path, "", bearer); a.header.Get("X-Request-Id") == "" {
				t.Errorf("%s does not reach the service: %d %s", path, a.status, a.body)
			}
		}
		revoke := url.Values{"client_id": {testApp}, "token": {login.Refresh}}
		if a := p.must(t, http.MethodPost, authHost, "/oauth2/revoke", revoke.Encode(), form); a.status != http.StatusOK {
			t.Errorf("revocation: POST /oauth2/revoke: status and body = %d %s, want 200", a.status, a.body)
		}
	})
	t.Run("the other endpoints of the service are not published", func(t *testing.T) {
		key := http.Header{"Authorization": {"Bearer " + w.serviceKey("service")}}
		for _, path := range []string{
			"/", "/v1/verify", "/v1/verify?app=" + testApp, "/v1/revocations", "/oauth2/introspect", "/oauth2", "/oauth2/", "/oauth2/token/", "/v1", "/v1/",
			"/admin/v1/revocations", "/console/", "/metrics", "/healthz", "/readyz", "/_yufu",
			"/v1//verify", "/.//v1/verify", "/V1/VERIFY", "/v1/verify/", "/v1/me/../verify", "/v1/sessions/../verify", "/v1/sessions/..%2fverify",
			"/.well-known/../v1/verify", "/.well-known/..%2Fv1/verify", "/.well-known/%2e%2e/v1/verify", "/.well-known/.%2e/v1/revocations",
			"/oauth2/token;/../introspect", "/.well-known/..;/v1/verify", "/v1/me%00", "/v1/me%2f",
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				a, err := p.ask(method, authHost, path, "", key)
				// A proxy may also answer that the path is invalid.
				if err == nil && a.status != http.StatusNotFound && a.status != http.StatusBadRequest && a.status != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: status and body = %d %s, want 400, 404 or 405", method, path, a.status, a.body)
				}
			}
		}
		if seen := w.backEnd.forget(); len(seen) != 0 {
			t.Errorf("the back end got a request for %s", seen[0].URL)
		}
	})
}

// seesRevocations measures the time from the answer of a far replica to the refusal by
// the proxy.
func (w *guardedWorld) seesRevocations(t *testing.T, p *proxy) {
	t.Helper()
	t.Run("a revoked token is stopped", func(t *testing.T) {
		far := w.far.in(t)
		var worst time.Duration
		for i := range 20 {
			user := w.near.in(t).logIn(fmt.Sprint("user", i))
			w.wantPassed(t, p.api(t, user.Doc.AccessToken), w.headersOf(user, ""))
			far.revoke(far.client(w.admin), adminclient.Revocation{UUID: ptr(uuid.MustParse(user.Doc.UUID))})
			revoked := time.Now()
			far.eventually("the proxy refuses the token", func() bool { return p.api(t, user.Doc.AccessToken).status == http.StatusUnauthorized })
			worst = max(worst, time.Since(revoked))
			w.backEnd.forget()
		}
		t.Logf("from the answer of one replica to the refusal through a proxy before another: at most %s, over 20", worst)
	})
}

// verdicts is a service that gives every request the same answer.
type verdicts struct {
	addr   string
	status atomic.Int64 // 0 cuts the connection
	// externalID is the header X-Yufu-External-Id of an answer; nil: none.
	externalID atomic.Pointer[string]
}

func newVerdicts(t *testing.T) *verdicts {
	t.Helper()
	v := &verdicts{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := int(v.status.Load())
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		if r.Method != http.MethodGet || r.URL.Path != "/v1/verify" || r.URL.Query().Get("aud") != apiAudience {
			status = http.StatusTeapot
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "7")
		}
		if id := v.externalID.Load(); id != nil {
			w.Header().Set("X-Yufu-External-Id", *id)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	v.addr = server.Listener.Addr().String()
	return v
}

// maps checks the client's answer for each answer of the service, with Retry-After where
// the table has a number.
func (v *verdicts) maps(t *testing.T, p *proxy, backEnd *guardedAPI, table map[int][2]string) {
	t.Helper()
	for status, want := range table {
		t.Run(fmt.Sprintf("status %[2]d of the service becomes %[1]s", want[0], status), func(t *testing.T) {
			v.status.Store(int64(status))
			a := p.must(t, http.MethodPost, apiHost, "/orders", "a body", http.Header{"Authorization": {"Bearer x"}})
			if got := fmt.Sprint(a.status); got != want[0] || a.header.Get("Retry-After") != want[1] {
				t.Errorf("the answer is %s with Retry-After %q, want %s with %q: %s", got, a.header.Get("Retry-After"), want[0], want[1], a.body)
			}
			if n := len(backEnd.forget()); (n > 0) != (want[0] == "200") {
				t.Errorf("the back end got %d requests, want 0", n)
			}
			if a.header.Get("Content-Type") == "application/problem+json" && !json.Valid([]byte(a.body)) {
				t.Errorf("the problem is %s", a.body)
			}
		})
	}
}

func TestNginx(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := newGuardedWorld(h)
	p := h.nginx(w.sites())
	w.guards(t, p)
	w.seesRevocations(t, p)

	v := newVerdicts(t)
	v.maps(t, h.nginx(sites{auth: v.addr, api: w.backEnd.addr}), w.backEnd, map[int][2]string{
		200: {"200", ""}, 400: {"400", ""}, 401: {"401", ""}, 403: {"403", ""}, 429: {"429", "7"}, 503: {"503", "7"},
		404: {"400", ""}, 431: {"400", ""}, 500: {"503", "2"}, 0: {"503", "2"},
	})
	t.Run("a missing service is answered with 503", func(t *testing.T) {
		v.maps(t, h.in(t).nginx(sites{auth: netreasontest.UnusedAddr(t), api: w.backEnd.addr}), w.backEnd, map[int][2]string{503: {"503", "2"}})
	})
}

func TestCaddy(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := newGuardedWorld(h)
	p := h.caddy(w.sites())
	w.guards(t, p)
	w.seesRevocations(t, p)

	v := newVerdicts(t)
	v.maps(t, h.caddy(sites{auth: v.addr, api: w.backEnd.addr}), w.backEnd, map[int][2]string{
		200: {"200", ""}, 400: {"400", ""}, 401: {"401", ""}, 403: {"403", ""}, 429: {"429", "7"}, 503: {"503", "7"},
		500: {"500", ""}, 0: {"502", ""},
	})
}

func pemOf(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// reloadKeys runs deploy/haproxy/reload-keys.sh, and returns its error output.
func reloadKeys(t *testing.T, keys, folder, check, reload string) (complaint string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../../deploy/haproxy/reload-keys.sh")
	cmd.Env = append(settings{}.environ(), "KEYS="+folder, "CHECK="+check, "RELOAD="+reload)
	cmd.Stdin = strings.NewReader(keys)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// haproxy starts HAProxy with deploy/haproxy/haproxy.cfg, and with the keys in
// the folder. It reloads on SIGUSR2.
func (h *harness) haproxy(to sites, keys string) *proxy {
	h.t.Helper()
	dir := shortDir(h.t)
	crt, key := certificate(h.t, dir)
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			h.t.Fatal(err)
		}
		return string(b)
	}
	both := write(h.t, filepath.Join(dir, "tls.pem"), read(crt)+read(key))
	file := write(h.t, filepath.Join(dir, "haproxy.cfg"), example(h.t, "haproxy/haproxy.cfg", append(to.replica("server yufu2 10.0.0.2:8080"),
		"bind :443 ssl crt /etc/haproxy/tls/", "bind unix@"+filepath.Join(dir, "socket")+" ssl crt "+both,
		`"/etc/haproxy/yufu/`, `"`+keys+"/", "server yufu 127.0.0.1:8080", "server yufu "+to.auth, "server backend 127.0.0.1:3000", "server backend "+to.api)...))
	p := h.runProxy("haproxy", dir, nil, "-W", "-db", "-f", file)
	// A worker survives a master that is killed.
	h.t.Cleanup(func() { p.signal(syscall.SIGTERM); p.wait() })
	return p
}

// keys returns a folder with the service's keys for HAProxy.
func (w *guardedWorld) keys() string {
	w.t.Helper()
	keys := w.t.TempDir()
	if out, err := reloadKeys(w.t, w.mustRun(w.env, "", "keys", "export", "--pem"), keys, "true", "true"); err != nil || out != "" {
		w.t.Fatalf("the command failed: %v: %s", err, out)
	}
	return keys
}

// proxies starts one proxy of each kind.
func (w *guardedWorld) proxies(h *harness, to sites) map[string]*proxy {
	return map[string]*proxy{"nginx": h.nginx(to), "Caddy": h.caddy(to), "HAProxy": h.haproxy(to, w.keys())}
}

func TestHAProxy(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := newGuardedWorld(h)
	p := h.haproxy(w.sites(), w.keys())
	w.guards(t, p)

	t.Run("revocations are not seen, as the file says", func(t *testing.T) {
		user := w.near.in(t).logIn("carol")
		identity := w.headersOf(user, "")
		w.near.logOut(user.Doc.RefreshToken)
		w.near.me(user.Doc.AccessToken).want(w.near, 401, "session_revoked")
		w.wantPassed(t, p.api(t, user.Doc.AccessToken), identity)
	})
	t.Run("an expired token is stopped", func(t *testing.T) {
		d := *w.deployment
		d.harness = d.harness.in(t)
		d.env = d.env.with(settings{"YUFU_ACCESS_TOKEN_TTL": "1s"})
		_, brief := d.serve("a replica with short tokens")
		token := brief.logIn("dave").Doc.AccessToken
		brief.eventually("the token expires", func() bool { return p.api(t, token).status == http.StatusUnauthorized })
		w.backEnd.forget()
		w.wantStopped(t, p.api(t, token), http.StatusUnauthorized)
	})
	t.Run("two Authorization headers are stopped", func(t *testing.T) {
		bearer := "Bearer " + w.alice.Doc.AccessToken
		w.wantStopped(t, p.api(t, "", "Authorization", bearer, "Authorization", bearer), http.StatusBadRequest)
	})
}

func TestKeysReachHAProxy(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := newGuardedWorld(h)
	published := h.mustRun(w.env, "", "keys", "export", "--pem")
	var strange []string
	for range 7 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		strange = append(strange, pemOf(t, key.Public()))
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "yufu")
	if out, err := reloadKeys(t, strange[0], keys, "true", "true"); err != nil || out != "" {
		t.Fatalf("the command failed: %v: %s", err, out)
	}
	p := h.haproxy(w.sites(), keys)
	reload := fmt.Sprintf("kill -USR2 %d", p.cmd.Process.Pid)
	token, identity := w.alice.Doc.AccessToken, w.headersOf(w.alice, "")
	w.wantStopped(t, p.api(t, token), http.StatusUnauthorized)

	for name, tc := range map[string]struct{ keys, complaint string }{
		"no keys":                        {"", "there are 0 keys"},
		"an error message":               {"yufu: the database does not answer\n", "there are 0 keys"},
		"only keys of another algorithm": {pemOf(t, edwards), "there are 0 keys"},
		"too many":                       {strings.Join(strange, ""), "there are 7 keys"},
		"a truncated key":                {published[:len(published)-30], "cut short"},
		"keys that HAProxy rejects":      {published, ""},
	} {
		out, err := reloadKeys(t, tc.keys, keys, "false", "touch "+filepath.Join(keys, "reloaded"))
		if err == nil || !strings.Contains(out, tc.complaint) || isFile(filepath.Join(keys, "reloaded")) {
			t.Errorf("%s: error = %v, output %s; want a complaint with %q and no reload", name, err, out, tc.complaint)
		}
	}
	w.wantStopped(t, p.api(t, token), http.StatusUnauthorized)

	if out, err := reloadKeys(t, pemOf(t, edwards)+published+strange[1], keys, "true", reload); err != nil || out != "" {
		t.Fatalf("the command failed: %v: %s", err, out)
	}
	h.eventually("HAProxy has the keys", func() bool { return p.status(token) == http.StatusOK })
	w.backEnd.forget()
	w.wantPassed(t, p.api(t, token), identity)
	if out, err := reloadKeys(t, pemOf(t, edwards)+published+strange[1], keys, "false", "false"); err != nil || out != "" {
		t.Errorf("the script with the same keys: error %v: %s", err, out)
	}
	if left, err := filepath.Glob(filepath.Join(keys, ".new*")); err != nil || len(left) != 0 {
		t.Errorf("files left in the folder: %q, error %v", left, err)
	}
	// A retired key is removed at the next run.
	if out, err := reloadKeys(t, strange[1], keys, "true", reload); err != nil || out != "" {
		t.Fatalf("the command failed: %v: %s", err, out)
	}
	h.eventually("HAProxy has forgotten the keys", func() bool { return p.status(token) == http.StatusUnauthorized })
}
