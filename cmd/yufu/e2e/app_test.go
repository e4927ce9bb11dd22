package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

func TestApp(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	secret := h.appSecret()
	const otherApp = "wxe2e0000000000003"
	// This WeChat knows both apps and checks their secrets.
	d.sim = h.simulator(wechatsim.Config{Apps: map[string]string{testApp: secret, otherApp: secret}})
	d.env["YUFU_UNSAFE_WECHAT_URL"] = d.sim.base
	h.mustRun(d.env, "", "migrate")
	p, s := d.serve("yufu")

	t.Run("an unknown app cannot log in, be changed, disabled or enabled", func(t *testing.T) {
		s := s.in(t)
		code := d.sim.mustCode("alice")
		s.must(s.exchangeCode(code)).want(s, 401, "app_unknown")
		if d.sim.timesSent(code) != 0 {
			t.Error("the code was sent to WeChat")
		}
		for _, args := range [][]string{{"update", testApp, "--no-audiences"}, {"disable", testApp}, {"enable", testApp}} {
			r := s.run(d.env, "", append([]string{"app"}, args...)...)
			if r.code != 1 || !strings.Contains(r.stderr, testApp+" is not registered") {
				t.Errorf("%v: exit code %d: %s", args, r.code, r.stderr)
			}
		}
	})

	t.Run("an app is added while the service runs, with its secret from standard input", func(t *testing.T) {
		s := s.in(t)
		s.mustRun(d.env, s.appSecret()+"\n", "app", "add", testApp, "--secret-file", "-")
		r := s.run(d.env, s.appSecret(), "app", "add", testApp, "--secret-file", "-")
		if r.code != 1 || !strings.Contains(r.stderr, "registered already") || !strings.Contains(r.stderr, "app update") {
			t.Errorf("adding it twice: exit code %d: %s", r.code, r.stderr)
		}
	})

	t.Run("an app with a wrong secret cannot log in, and the log has an error", func(t *testing.T) {
		s := s.in(t)
		s.must(s.tryExchange("alice")).want(s, 500, "platform_misconfigured")
		p.waitLog("that the app is misconfigured", func(l logLine) bool {
			return l.Level == "ERROR" && l.Code == "platform_misconfigured" && strings.Contains(l.Cause, "40125")
		})
	})

	t.Run("an app gets another secret, from a file, without a restart", func(t *testing.T) {
		s := s.in(t)
		s.mustRun(d.env, "", "app", "update", testApp, "--secret-file", s.file("secret", secret+"\n"))
		s.logIn("alice")
	})

	t.Run("an app gets audiences, which the next tokens have after the issuer", func(t *testing.T) {
		s := s.in(t)
		before := s.logIn("alice")
		audiences := func(want ...string) {
			t.Helper()
			for what, a := range map[string]*answer{"login": s.logIn("bob"), "refresh": s.refresh(before.Doc.RefreshToken)} {
				c, err := claims(a.Doc.AccessToken)
				if err != nil || !slices.Equal(c.Audience, want) {
					t.Errorf("%s: aud is %q (%v), want %q", what, c.Audience, err, want)
				}
			}
		}
		audiences(issuer)
		s.mustRun(d.env, "", "app", "update", testApp, "--audience", "https://api.example.com", "--audience", "orders")
		audiences(issuer, "https://api.example.com", "orders")
		s.mustRun(d.env, "", "app", "update", testApp, "--no-audiences")
		audiences(issuer)
	})

	t.Run("an app is listed without its secret", func(t *testing.T) {
		s := s.in(t)
		list := s.mustRun(d.env, "", "app", "list")
		if !strings.Contains(list, testApp) || !strings.Contains(list, "enabled") {
			t.Errorf("app list prints %s", list)
		}
	})

	t.Run("disabling an app ends its sessions, and enabling it does not restore them", func(t *testing.T) {
		s := s.in(t)
		alice := s.logIn("alice")
		s.mustRun(d.env, "", "app", "disable", testApp, "--reason", "a test")
		s.refresh(alice.Doc.RefreshToken).want(s, 401, "app_disabled")
		// The command is another process. The service learns of its change a moment later.
		s.eventually("a disabled app's codes are not sent to WeChat", func() bool {
			code := d.sim.mustCode("alice")
			s.must(s.exchangeCode(code)).want(s, 401, "app_disabled")
			return d.sim.timesSent(code) == 0
		})
		s.me(alice.Doc.AccessToken).want(s, 401, "session_revoked")
		if list := s.mustRun(d.env, "", "app", "list"); !strings.Contains(list, "disabled") {
			t.Errorf("app list prints %s", list)
		}
		s.mustRun(d.env, "", "app", "disable", testApp) // repeating it changes nothing

		s.mustRun(d.env, "", "app", "enable", testApp)
		s.refresh(alice.Doc.RefreshToken).want(s, 400, "session_revoked")
		s.me(alice.Doc.AccessToken).want(s, 401, "session_revoked")
		again := s.logIn("alice")
		if again.Doc.UUID != alice.Doc.UUID {
			t.Errorf("alice's uuid was %s and is %s", alice.Doc.UUID, again.Doc.UUID)
		}
		s.me(again.Doc.AccessToken).want(s, 200, "")
		s.refresh(again.Doc.RefreshToken).want(s, 200, "")
	})

	t.Run("an app is registered, disabled and enabled over the admin API", func(t *testing.T) {
		s := s.in(t)
		s.adminKey, s.app = d.serviceKey("admin"), otherApp
		const path = "/admin/v1/apps/" + otherApp
		created := s.admins("POST", "/admin/v1/apps", `{"appid":"`+otherApp+`","app_secret":"`+secret+`"}`).want(s, 201, "")
		if strings.Contains(created.Body, secret) {
			t.Error("the answer contains the AppSecret")
		}
		s.admins("POST", "/admin/v1/apps", `{"appid":"`+otherApp+`","app_secret":"x"}`).want(s, 409, "app_exists")
		alice := s.logIn("alice")
		s.admins("POST", path+"/disable", `{"reason":"a leak"}`).want(s, 200, "")
		s.me(alice.Doc.AccessToken).want(s, 401, "session_revoked")
		s.must(s.tryExchange("alice")).want(s, 401, "app_disabled")
		s.admins("POST", path+"/enable", `{}`).want(s, 200, "")
		s.refresh(alice.Doc.RefreshToken).want(s, 400, "session_revoked")
		s.logIn("alice")
	})

	t.Run("an app is not added with another master key than the database's", func(t *testing.T) {
		s := s.in(t)
		other := d.env.with(settings{"YUFU_MASTER_KEY_FILE": s.masterKey()})
		for _, args := range [][]string{
			{"app", "add", "wxe2e0000000000002", "--secret-file", "-"},
			{"app", "update", testApp, "--secret-file", "-"},
			{"serve"},
		} {
			r := s.run(other, s.appSecret(), args...)
			if r.code != 1 || !strings.Contains(r.stderr, "YUFU_MASTER_KEY_FILE is not the master key") {
				t.Errorf("%v: exit code %d: %s", args, r.code, r.stderr)
			}
		}
		s.logIn("alice")
	})
}
