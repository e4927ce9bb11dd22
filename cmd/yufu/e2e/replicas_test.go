package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// TestCommandsWithOtherSettings makes the keys of a service an hour older, so that a
// command with a session lifetime of a minute would retire them.
func TestCommandsWithOtherSettings(t *testing.T) {
	t.Parallel()
	for kind, database := range map[string]func(t *testing.T, h *harness) (url string, age func()){
		"PostgreSQL": func(t *testing.T, _ *harness) (string, func()) {
			dsn := pgtest.Empty(t)
			return dsn, func() {
				conn, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(t.Context())
				if _, err := conn.Exec(t.Context(), `update signing_keys set created_at = created_at - interval '1 hour', active_at = active_at - interval '1 hour'`); err != nil {
					t.Fatal(err)
				}
			}
		},
		"SQLite": func(_ *testing.T, h *harness) (string, func()) {
			path := h.file("yufu.db", "")
			return "sqlite:" + path, func() {
				h.sqlite3(path, `pragma busy_timeout = 10000; update signing_keys set created_at = created_at - 3600000000, active_at = active_at - 3600000000`)
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			url, age := database(t, h)
			d := deploy(h, url)
			p, s := d.serve("yufu", "--migrate")
			d.addApp()
			alice := s.logIn("alice")
			var mac string
			for line := range strings.Lines(h.mustRun(d.env, "", "keys", "list")) {
				if f := strings.Fields(line); f[1] == "refresh" && f[3] == "current" {
					mac = f[0]
				}
			}
			age()
			h.mustRun(d.env, "", "keys", "rotate", "--use", "refresh")
			age()

			other := d.env.with(settings{"YUFU_SESSION_MAX_TTL": "1m", "YUFU_JWKS_MAX_AGE": "1m"})
			refused := func(when string) {
				t.Helper()
				r := h.run(other, "", "keys", "retire", mac)
				if r.code != 1 || !strings.Contains(r.stderr, mac+" is still needed") ||
					!strings.Contains(r.stderr, "YUFU_SESSION_MAX_TTL is 1m0s here and 4320h0m0s in the running service; this command works with 4320h0m0s") {
					t.Errorf("%s: exit code %d: %s%s", when, r.code, r.stdout, r.stderr)
				}
			}
			refused("beside the service")
			next := s.refresh(alice.Doc.RefreshToken).want(s, 200, "")

			list := h.run(other, "", "keys", "list")
			if want := h.mustRun(d.env, "", "keys", "list"); list.code != 0 || list.stdout != want || !strings.Contains(list.stderr, "YUFU_JWKS_MAX_AGE is 1m0s here and 5m0s") {
				t.Errorf("keys list with other settings: exit code %d, %s%swant\n%s", list.code, list.stderr, list.stdout, want)
			}
			if r := h.run(other, "", "app", "update", testApp, "--signing-alg", "EdDSA"); r.code != 0 || !strings.Contains(r.stderr, "YUFU_JWKS_MAX_AGE is 1m0s here and 5m0s") {
				t.Errorf("app update with other settings: exit code %d: %s", r.code, r.stderr)
			}

			p.stop()
			refused("after the service has ended")
			_, s = d.serve("yufu again")
			s.refresh(next.Doc.RefreshToken).want(s, 200, "")
		})
	}
}

func TestReplicasWithOtherSettings(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	_, a := d.serve("the first", "--migrate")
	ready := func(s *service) *answer { return s.must(s.get(s.admin+"/readyz", "")) }
	h.eventually("the first is ready", func() bool { return ready(a).Status == 200 })

	d.env["YUFU_SESSION_MAX_TTL"] = "1000h"
	p, b := d.serve("one with another lifetime")
	p.waitLog("that the settings differ", func(l logLine) bool {
		return l.Level == "WARN" && strings.HasPrefix(l.Msg, "setting differs from another replica")
	})
	h.eventually("it is ready", func() bool { return ready(b).Status == 200 })

	d.env["YUFU_ISSUER"] = "https://other.example.com"
	_, c := d.serve("one with another issuer")
	if got := ready(c); got.Status != 503 || !strings.Contains(got.Doc.Reason, "YUFU_ISSUER is https://other.example.com here and "+issuer) {
		t.Errorf("readyz with another issuer: %d %s, want 503", got.Status, got.Body)
	}
	h.eventually("the first stays ready", func() bool { return ready(a).Status == 200 })
}
