package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

// label is in the database in plain text, which shows that the search works.
const label = "Alice's old phone"

// TestSecretsStayInside runs the program through all successful and failing cases, with
// the log at debug. Every harness checks at its end that no log, answer or metric
// contains a secret; this test also checks the content of the database.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	t.Run("no secret leaves the program with PostgreSQL", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		server := pgtest.NewServer(t)
		password := h.secret("the database's password", "correct/horse:battery")
		dsn := strings.Replace(server.DSN("postgres"), "postgres@", "postgres:"+url.QueryEscape(password)+"@", 1)
		run := newSecretsRun(h, dsn)
		run.all()
		run.databaseFails(server)
		run.stop()
		run.keeps(dumpPostgres(t, dsn))
	})
	t.Run("no secret leaves the program with SQLite", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		path := h.file("yufu.db", "")
		run := newSecretsRun(h, "sqlite:"+path)
		run.all()
		run.stop()
		run.keeps(dumpSQLite(t, path))
	})
}

// secretsRun is the program with its secrets.
type secretsRun struct {
	*service
	d            *deployment
	process      *process
	wechatSecret string
	// attempts counts malformed requests.
	attempts int
}

func newSecretsRun(h *harness, databaseURL string) *secretsRun {
	h.t.Helper()
	d := deploy(h, databaseURL)
	run := &secretsRun{d: d, wechatSecret: h.appSecret()}
	d.sim = h.simulator(wechatsim.Config{Apps: map[string]string{testApp: run.wechatSecret}, UnionID: true})
	d.env = d.env.with(settings{
		"YUFU_UNSAFE_WECHAT_URL": d.sim.base,
		"YUFU_TRUSTED_PROXIES":   "127.0.0.1",
		"YUFU_LOG_LEVEL":         "debug",
		"YUFU_REFRESH_GRACE":     "0s", // every replay is late
	})
	run.process, run.service = d.serve("yufu", "--migrate")
	h.mustRun(d.env, run.wechatSecret, "app", "add", testApp, "--secret-file", "-")
	return run
}

func (run *secretsRun) all() {
	run.goesWell()
	run.sessionsEnd()
	run.platformFails()
	run.clientsMixThingsUp()
	run.clientsHangUp()
	// Only one process at a time can serve an SQLite file.
	run.stop()
	run.platformIsElsewhere()
	run.settingsAreWrong()
	run.process, run.service = run.d.serve("yufu, again")
	run.looks()
}

func (run *secretsRun) stop() { run.process.stop() }

// looks requests all that an operator reads.
func (run *secretsRun) looks() {
	run.t.Helper()
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/nowhere"} {
		run.must(run.get(run.admin+path, ""))
	}
	for _, args := range [][]string{{"app", "list"}, {"migrate"}, {"version"}} {
		run.mustRun(run.d.env, "", args...)
	}
}

func (run *secretsRun) goesWell() {
	run.t.Helper()
	alice := run.must(run.post(run.base+"/oauth2/token", "grant_type", codeGrant, "client_id", testApp,
		"code", run.sim.mustCode("alice"), "device", label)).want(run.service, 200, "")
	alice = run.refresh(alice.Doc.RefreshToken).want(run.service, 200, "")
	run.me(alice.Doc.AccessToken).want(run.service, 200, "")
	for _, path := range []string{"/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
		run.must(run.get(run.base+path, "")).want(run.service, 200, "")
	}
}

// sessionsEnd ends sessions in every way that users can.
func (run *secretsRun) sessionsEnd() {
	run.t.Helper()
	s := run.service
	late := s.logIn("alice")
	s.refresh(late.Doc.RefreshToken).want(s, 200, "")
	s.refresh(late.Doc.RefreshToken).want(s, 400, "refresh_reused")

	reused := s.logIn("alice")
	second := s.refresh(reused.Doc.RefreshToken).want(s, 200, "")
	s.refresh(second.Doc.RefreshToken).want(s, 200, "")
	s.refresh(reused.Doc.RefreshToken).want(s, 400, "refresh_reused")

	for _, token := range []func(*answer) string{
		func(a *answer) string { return a.Doc.AccessToken },
		func(a *answer) string { return a.Doc.RefreshToken },
	} {
		bob := s.logIn("bob")
		s.logOut(token(bob))
		s.logOut(token(bob))
		s.me(bob.Doc.AccessToken).want(s, 401, "session_revoked")
		s.refresh(bob.Doc.RefreshToken).want(s, 400, "session_revoked")
	}
}

// platformFails makes WeChat fail in every way, with errors that repeat the request.
func (run *secretsRun) platformFails() {
	run.t.Helper()
	var faults []map[string]any
	for _, errcode := range []int{-1, 40029, 40163, 40226, 45011, 40013, 40125, 40164, 98765} {
		faults = append(faults, map[string]any{"errcode": errcode})
	}
	for _, fault := range []string{"malformed", "empty", "drop"} {
		faults = append(faults, map[string]any{fault: true})
	}
	for _, status := range []int{204, 302, 404, 500, 502} {
		faults = append(faults, map[string]any{"status": status})
	}
	faults = append(faults, map[string]any{"delay_ms": 60_000})
	for i, fault := range faults {
		// Each from its own address: a client that met a quota is limited.
		s := run.from(fmt.Sprintf("192.0.2.%d", i))
		code := run.sim.mustCode("alice")
		if fault["errcode"] != nil {
			fault["errmsg"] = fmt.Sprintf("no: appid=%s&secret=%s&js_code=%s {\"code\":%q}", testApp, run.wechatSecret, code, code)
		}
		run.sim.fault(fault)
		if a := s.must(s.exchangeCode(code)); a.Status < 400 || a.code() == "internal" {
			run.t.Errorf("after %v the answer is %d %s", fault, a.Status, a.Body)
		}
		s.must(s.exchangeCode(code))
		// Successes between the faults keep the breaker closed.
		run.from(fmt.Sprintf("198.51.100.%d", i)).logIn("alice")
	}
	// WeChat has another secret.
	wrong := run.d.appSecret()
	run.mustRun(run.d.env, wrong, "app", "update", testApp, "--secret-file", "-")
	// A replica may use the replaced secret for a second, if WeChat still accepts it.
	run.eventually("the new secret is used", func() bool { return run.must(run.tryExchange("alice")).code() == "platform_misconfigured" })
	run.mustRun(run.d.env, run.wechatSecret, "app", "update", testApp, "--secret-file", "-")
	run.logIn("alice")
}

// clientsMixThingsUp sends every secret of a client in wrong places.
func (run *secretsRun) clientsMixThingsUp() {
	run.t.Helper()
	alice := run.logIn("alice")
	for _, secret := range []string{run.wechatSecret, run.sim.mustCode("alice"), alice.Doc.AccessToken, alice.Doc.RefreshToken} {
		form := url.Values{"grant_type": {codeGrant}, "client_id": {testApp}, "code": {"x"}, "refresh_token": {"x"}, "token": {"x"}}
		for _, path := range []string{"/oauth2/token", "/oauth2/revoke", "/v1/me", "/" + secret} {
			for _, grant := range []string{codeGrant, "refresh_token"} {
				for name := range form {
					wrong := url.Values{}
					for k, v := range form {
						wrong[k] = v
					}
					wrong.Set("grant_type", grant)
					wrong.Set(name, secret)
					if name == "token" && path == "/oauth2/revoke" && secret != run.wechatSecret {
						continue // the right place
					}
					if name == "refresh_token" && grant == "refresh_token" && secret == alice.Doc.RefreshToken {
						continue
					}
					run.wrong(http.MethodPost, path, wrong.Encode(), nil)
				}
				run.wrong(http.MethodPost, path, form.Encode()+"&"+url.Values{secret: {secret}}.Encode(), nil)
				run.wrong(http.MethodPost, path, form.Encode()+"&code="+secret+"%", nil)
				run.wrong(http.MethodPost, path+"?code="+secret+"&access_token="+secret, form.Encode(), nil)
			}
			for _, header := range []string{"Authorization", "Cookie", "X-Request-Id", "X-Forwarded-For", "User-Agent", "Referer", "Content-Type", "Idempotency-Key"} {
				run.wrong(http.MethodGet, path, "", http.Header{header: {secret}})
				run.wrong(http.MethodPost, path, form.Encode(), http.Header{header: {secret}})
			}
			for _, scheme := range []string{"Basic ", "Digest ", "Bearer x "} {
				run.wrong(http.MethodGet, path, "", http.Header{"Authorization": {scheme + secret}})
			}
			basic := &http.Request{Header: http.Header{}}
			basic.SetBasicAuth(testApp, secret)
			run.wrong(http.MethodPost, path, form.Encode(), basic.Header)
			basic.SetBasicAuth(secret, "")
			run.wrong(http.MethodPost, path, form.Encode(), basic.Header)
		}
	}
	run.me(alice.Doc.AccessToken).want(run.service, 200, "")
}

// wrong sends a request that must be answered with a client error, or with success.
func (run *secretsRun) wrong(method, path, body string, header http.Header) {
	run.t.Helper()
	req, err := http.NewRequest(method, run.base+path, strings.NewReader(body))
	if err != nil {
		run.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, values := range header {
		req.Header[name] = values
	}
	// The limits would give all these requests the same answer.
	if req.Header.Get("X-Forwarded-For") == "" {
		run.attempts++
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("2001:db8:%x::1", run.attempts))
	}
	if a := run.must(run.do(req)); a.Status >= 500 {
		run.t.Errorf("%s: status and body = %d %s, want less than 500", method, a.Status, a.Body)
	}
}

// clientsHangUp lets a client hang up before WeChat answers.
func (run *secretsRun) clientsHangUp() {
	run.t.Helper()
	waiting := run.sim.hold()
	w, err := run.dial()
	if err != nil {
		run.t.Fatal(err)
	}
	form := url.Values{"grant_type": {codeGrant}, "client_id": {testApp}, "code": {run.sim.mustCode("alice")}}
	if err := w.send(postForm(form.Encode())); err != nil {
		run.t.Fatal(err)
	}
	call := <-waiting
	w.close()
	run.sim.holdNoMore()
	close(call.release)
	run.logIn("alice")
}

// platformIsElsewhere starts services whose WeChat URL leads to no server, or to another.
func (run *secretsRun) platformIsElsewhere() {
	run.t.Helper()
	t := run.t
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	var followed atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	t.Cleanup(target.Close)
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL+r.RequestURI, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(redirect.Close)
	closed := netreasontest.UnusedAddr(t)
	for name, address := range map[string]string{
		"no server listens":              "http://" + closed,
		"TLS fails":                      "https://" + redirect.Listener.Addr().String(),
		"the certificate is not trusted": untrusted.URL,
		"the server redirects":           redirect.URL,
	} {
		d := *run.d
		d.env = d.env.with(settings{"YUFU_UNSAFE_WECHAT_URL": address})
		p, s := d.serve("yufu, for which " + name)
		s.must(s.tryExchange("alice")).want(s, 503, "platform_unavailable")
		s.must(s.get(s.admin+"/metrics", ""))
		p.stop()
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("a redirect was followed %d times with the AppSecret", n)
	}
	for _, address := range []string{"http://wechat:" + run.wechatSecret + "@" + closed, "http://" + closed + "/?secret=" + run.wechatSecret} {
		if r := run.run(run.d.env.with(settings{"YUFU_UNSAFE_WECHAT_URL": address}), "", "serve"); r.code == 0 {
			t.Error("the program serves with a malformed WeChat URL")
		}
	}
}

// settingsAreWrong starts the program with another master key and with unusable database
// URLs.
func (run *secretsRun) settingsAreWrong() {
	run.t.Helper()
	password := run.secret("a database password", "staple-battery-horse")
	wrong := []settings{
		{"YUFU_MASTER_KEY_FILE": run.masterKey()},
		{"YUFU_MASTER_KEY_FILE": run.file("not.a.key", run.secret("what is not quite a master key", "c2hvcnQgb2YgMzIgYnl0ZXM=")+"\n")},
	}
	for _, dsn := range []string{
		"postgres://yufu:" + password + "@" + netreasontest.UnusedAddr(run.t) + "/yufu",
		"postgres://yufu:" + password + "@localhost:notaport/yufu",
		"postgres://yufu:" + password + "/@%zz/yufu",
		"postgres://yufu:" + password + "@localhost/yufu?sslmode=sometimes",
		"mysql://yufu:" + password + "@localhost/yufu",
		"host=localhost password=" + password,
		"//yufu:" + password + "@localhost",
	} {
		wrong = append(wrong, settings{"YUFU_DATABASE_URL": dsn})
	}
	for _, env := range wrong {
		for _, args := range [][]string{{"serve"}, {"app", "update", testApp, "--secret-file", "-"}} {
			if r := run.run(run.d.env.with(env), run.wechatSecret, args...); r.code == 0 {
				run.t.Errorf("yufu %v succeeds with the settings %v", args, env)
			}
		}
	}
}

// databaseFails stops the database during a request, and sends all kinds of requests
// meanwhile.
func (run *secretsRun) databaseFails(server *pgtest.Server) {
	run.t.Helper()
	s := run.service
	alice := s.logIn("alice")
	waiting := run.sim.hold()
	code := run.sim.mustCode("bob")
	answered := make(chan *answer)
	go func() {
		a, err := s.exchangeCode(code)
		if err != nil {
			a = &answer{Body: err.Error()}
		}
		answered <- a
	}()
	call := <-waiting
	if err := server.Kill(); err != nil {
		run.t.Fatal(err)
	}
	run.sim.holdNoMore()
	close(call.release)
	(<-answered).want(s, 503, "storage_unavailable")
	s.must(s.tryExchange("carol")).want(s, 503, "storage_unavailable")
	s.refresh(alice.Doc.RefreshToken).want(s, 503, "storage_unavailable")
	s.me(alice.Doc.AccessToken).want(s, 503, "storage_unavailable")
	s.must(s.tryLogout(alice.Doc.RefreshToken)).want(s, 503, "storage_unavailable")
	for _, path := range []string{"/metrics", "/readyz"} {
		s.must(s.get(s.admin+path, ""))
	}
	for _, args := range [][]string{{"serve"}, {"app", "list"}, {"migrate"}} {
		if r := run.run(run.d.env, "", args...); r.code == 0 {
			run.t.Errorf("yufu %v succeeds without a database", args)
		}
	}
	if err := server.Start(); err != nil {
		run.t.Fatal(err)
	}
	s.eventually("the replica is ready again", func() bool {
		return s.must(s.get(s.admin+"/readyz", "")).Status == 200
	})
	s.refresh(alice.Doc.RefreshToken).want(s, 200, "")
}

// keeps searches the database for the secrets.
func (run *secretsRun) keeps(dump string) {
	run.t.Helper()
	if !strings.Contains(dump, label) || !strings.Contains(dump, "refresh.reuse") {
		run.t.Error("the dump of the database is not complete")
	}
	run.public("the database", dump)
}

// dumpPostgres returns every row of every table as text.
func dumpPostgres(t *testing.T, dsn string) string {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	lines := func(query string) []string {
		t.Helper()
		rows, err := conn.Query(ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	var dump []string
	for _, table := range lines(`select table_schema || '.' || table_name from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema')`) {
		dump = append(dump, lines(`select row::text from `+table+` row`)...)
	}
	return strings.Join(dump, "\n")
}

// dumpSQLite returns the bytes of the database, deleted data included.
func dumpSQLite(t *testing.T, path string) string {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	var dump strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		dump.Write(b)
	}
	return dump.String()
}
