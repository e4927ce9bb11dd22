package e2e

import (
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

const (
	testApp = "wxe2e0000000000001"
	issuer  = "https://auth.example.com"
)

// deployment is everything that yufu serve needs: a database, a master key and a
// simulator. It has one app, which is added after the migration.
type deployment struct {
	*harness
	env settings
	sim *simulator
}

// deploy prepares a deployment on a database.
func deploy(h *harness, databaseURL string) *deployment {
	h.t.Helper()
	sim := h.simulator(wechatsim.Config{})
	return &deployment{
		harness: h,
		env: settings{
			"YUFU_DATABASE_URL":      databaseURL,
			"YUFU_MASTER_KEY_FILE":   h.masterKey(),
			"YUFU_ISSUER":            issuer,
			"YUFU_LISTEN":            "127.0.0.1:0",
			"YUFU_ADMIN_LISTEN":      "127.0.0.1:0",
			"YUFU_UNSAFE_WECHAT_URL": sim.base,
			"YUFU_SHUTDOWN_DELAY":    "0s",
		},
		sim: sim,
	}
}

// addApp registers the deployment's app.
func (d *deployment) addApp() {
	d.t.Helper()
	d.mustRun(d.env, d.appSecret(), "app", "add", testApp, "--secret-file", "-")
}

// serve starts a replica.
func (d *deployment) serve(name string, args ...string) (*process, *service) {
	d.t.Helper()
	p := d.start(name, d.env, append([]string{"serve"}, args...)...)
	return p, d.service(p)
}

// service returns a replica for clients, once it listens.
func (d *deployment) service(p *process) *service {
	d.t.Helper()
	return &service{harness: d.harness, base: p.base("public"), admin: p.base("admin"), app: testApp, sim: d.sim}
}

// TestBesideOtherServices runs the program with the environment of a Kubernetes container
// whose namespace has Services called yufu, yufu-admin and yufu-postgresql.
func TestBesideOtherServices(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	for service, port := range map[string]string{"YUFU": "8080", "YUFU_ADMIN": "8081", "YUFU_POSTGRESQL": "5432"} {
		at := "tcp://10.96.0.7:" + port
		d.env = d.env.with(settings{
			service + "_SERVICE_HOST": "10.96.0.7", service + "_SERVICE_PORT": port, service + "_SERVICE_PORT_HTTP": port, service + "_PORT": at,
			service + "_PORT_" + port + "_TCP": at, service + "_PORT_" + port + "_TCP_PROTO": "tcp",
			service + "_PORT_" + port + "_TCP_PORT": port, service + "_PORT_" + port + "_TCP_ADDR": "10.96.0.7",
		})
	}
	h.mustRun(d.env, "", "version")
	_, s := d.serve("yufu", "--migrate")
	d.addApp()
	s.logIn("alice")
	if r := h.run(d.env.with(settings{"YUFU_ADMIN_PORT": "8081"}), "", "version"); r.code != 2 {
		t.Errorf("a misspelt YUFU_ADMIN_LISTEN: exit code %d: %s", r.code, r.stderr)
	}
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	// Both start at the same time on an empty database, so both migrate and make keys.
	procA := h.start("replica A", d.env, "serve", "--migrate")
	procB := h.start("replica B", d.env, "serve", "--migrate")
	a, b := d.service(procA), d.service(procB)
	d.addApp()

	t.Run("replicas that start together on an empty database publish the same keys", func(t *testing.T) {
		a, b := a.in(t), b.in(t)
		const path = "/.well-known/jwks.json"
		jwksA, jwksB := a.must(a.get(a.base+path, "")), b.must(b.get(b.base+path, ""))
		if jwksA.Status != 200 || jwksA.Body != jwksB.Body {
			t.Errorf("A publishes %s\nB publishes %s", jwksA.Body, jwksB.Body)
		}
	})

	t.Run("replicas accept each other's access tokens", func(t *testing.T) {
		a, b := a.in(t), b.in(t)
		alice := a.logIn("alice")
		me := b.me(alice.Doc.AccessToken).want(b, 200, "")
		if me.Doc.UUID != alice.Doc.UUID {
			t.Errorf("A logs alice in as %s, B answers %s", alice.Doc.UUID, me.Doc.UUID)
		}
	})

	t.Run("a user has the same uuid at both replicas", func(t *testing.T) {
		a, b := a.in(t), b.in(t)
		if x, y := a.logIn("bob"), b.logIn("bob"); x.Doc.UUID != y.Doc.UUID {
			t.Errorf("A answers the uuid %s, B answers %s", x.Doc.UUID, y.Doc.UUID)
		}
	})

	t.Run("both replicas give the same successor for a replayed refresh token", func(t *testing.T) {
		a, b := a.in(t), b.in(t)
		first := a.logIn("carol").Doc.RefreshToken
		successor := b.refresh(first).want(b, 200, "").Doc.RefreshToken
		if successor == first {
			t.Error("the refresh did not rotate the token")
		}
		replayed := a.refresh(first).want(a, 200, "").Doc.RefreshToken
		if replayed != successor {
			t.Error("the replay gets another successor")
		}
		a.refresh(replayed).want(a, 200, "")
	})

	t.Run("a logout at one replica is refused at the other at once", func(t *testing.T) {
		a, b := a.in(t), b.in(t)
		dave := a.logIn("dave")
		b.logOut(dave.Doc.RefreshToken)
		a.me(dave.Doc.AccessToken).want(a, 401, "session_revoked")
		a.refresh(dave.Doc.RefreshToken).want(a, 400, "session_revoked")
	})

	t.Run("a detected theft ends only that session, at both replicas", func(t *testing.T) {
		a, b := a.in(t), b.in(t)
		other := a.logIn("erin")
		erin := a.logIn("erin")
		second := a.refresh(erin.Doc.RefreshToken).Doc.RefreshToken
		b.refresh(second).want(b, 200, "")
		// The first token is now two generations old.
		a.refresh(erin.Doc.RefreshToken).want(a, 400, "refresh_reused")
		b.me(erin.Doc.AccessToken).want(b, 401, "session_revoked")
		b.me(other.Doc.AccessToken).want(b, 200, "")
	})

	t.Run("a replica stops gracefully while the other serves", func(t *testing.T) {
		a, b := a.in(t), b.in(t)
		frank := a.logIn("frank")
		procA.stop()
		next := b.refresh(frank.Doc.RefreshToken).want(b, 200, "")
		_, c := d.serve("replica C")
		c.refresh(next.Doc.RefreshToken).want(c, 200, "")
	})
}

func TestServe(t *testing.T) {
	t.Parallel()

	t.Run("every start warns of another WeChat URL", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		for _, name := range []string{"first", "second"} {
			p, _ := d.serve(name, "--migrate")
			p.waitLog("the WeChat URL", func(l logLine) bool { return l.Level == "WARN" && l.URL == d.sim.base })
			p.stop()
		}
	})

	t.Run("only the admin listener answers health checks", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		_, s := d.serve("yufu", "--migrate")
		h.must(h.get(s.admin+"/healthz", "")).want(s, 200, "")
		h.eventually("it is ready", func() bool { return h.must(h.get(s.admin+"/readyz", "")).Status == 200 })
		h.must(h.get(s.admin+"/metrics", "")).want(s, 200, "")
		h.must(h.get(s.base+"/healthz", "")).want(s, 404, "not_found")
		h.must(h.get(s.base+"/metrics", "")).want(s, 404, "not_found")
		h.must(h.get(s.admin+"/v1/me", "")).want(s, 404, "not_found")
	})

	t.Run("each listener trusts only its own proxies", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		const here, forwarded = "127.0.0.1", "192.0.2.77"
		for trusting, clients := range map[string][2]string{
			"YUFU_TRUSTED_PROXIES": {forwarded, here}, "YUFU_ADMIN_TRUSTED_PROXIES": {here, forwarded},
		} {
			d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
			d.env[trusting] = here
			p, s := d.serve("yufu with "+trusting, "--migrate")
			key := d.serviceKey("admin")
			s = s.from(forwarded)
			s.must(s.get(s.base+"/v1/me", "")).want(s, 401, "token_missing")
			s.must(s.get(s.admin+"/admin/v1/service-keys", key)).want(s, 200, "")
			for i, route := range []string{"/v1/me", "/admin/v1/service-keys"} {
				line := p.waitLog("the request of "+route, func(l logLine) bool { return l.Route == route })
				if line.Client != clients[i] {
					t.Errorf("with %s=%s the client of %s is %q, want %q", trusting, here, route, line.Client, clients[i])
				}
			}
		}
	})

	t.Run("metadata and tokens have the configured issuer", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		_, s := d.serve("yufu", "--migrate")
		d.addApp()
		for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
			h.must(h.get(s.base+path, "")).contains(s, `"issuer":"`+issuer+`"`, `"token_endpoint":"`+issuer+`/oauth2/token"`)
		}
		c, err := claims(s.logIn("alice").Doc.AccessToken)
		if err != nil || c.Issuer != issuer {
			t.Errorf("the token's issuer is %q (%v), want %q", c.Issuer, err, issuer)
		}
	})
}
