package e2e

import (
	"context"
	"crypto/rand"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

func TestOutage(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	server := pgtest.NewServer(t)
	d := deploy(h, server.DSN("postgres"))
	_, s := d.serve("yufu", "--migrate")
	d.addApp()
	alice := s.logIn("alice")
	code := d.sim.mustCode("bob")
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}

	t.Run("an outage of the database is answered with 503 and Retry-After", func(t *testing.T) {
		s := s.in(t)
		for name, ask := range map[string]func() (*answer, error){
			"exchange": func() (*answer, error) { return s.exchangeCode(code) },
			"refresh":  func() (*answer, error) { return s.tryRefresh(alice.Doc.RefreshToken) },
			"logout":   func() (*answer, error) { return s.tryLogout(alice.Doc.RefreshToken) },
			"me":       func() (*answer, error) { return s.get(s.base+"/v1/me", alice.Doc.AccessToken) },
		} {
			a := s.must(ask()).want(s, 503, "storage_unavailable")
			if after, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || after < 1 {
				t.Errorf("%s: Retry-After is %q", name, a.Header.Get("Retry-After"))
			}
		}
	})

	t.Run("the outage uses up no code", func(t *testing.T) {
		if n := d.sim.timesSent(code); n != 0 {
			t.Errorf("the code was sent to WeChat %d times", n)
		}
	})

	t.Run("the outage makes the replica not ready, but alive", func(t *testing.T) {
		s := s.in(t)
		ready := s.must(s.get(s.admin+"/readyz", ""))
		if ready.Status != 503 || !strings.Contains(ready.Doc.Reason, "database") {
			t.Errorf("readyz answers %d %s", ready.Status, ready.Body)
		}
		s.must(s.get(s.admin+"/healthz", "")).want(s, 200, "")
		s.must(s.get(s.base+"/.well-known/jwks.json", "")).want(s, 200, "")
	})

	t.Run("after the outage, earlier codes and sessions work", func(t *testing.T) {
		s := s.in(t)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		s.eventually("the replica is ready again", func() bool {
			return s.must(s.get(s.admin+"/readyz", "")).Status == 200
		})
		s.must(s.exchangeCode(code)).want(s, 200, "")
		s.refresh(alice.Doc.RefreshToken).want(s, 200, "")
		s.me(alice.Doc.AccessToken).want(s, 200, "")
	})

	t.Run("after a crash of the database, requests work as soon as it is back", func(t *testing.T) {
		s := s.in(t)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		s.refresh(alice.Doc.RefreshToken).want(s, 503, "storage_unavailable")
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		s.eventually("the replica is ready again", func() bool {
			return s.must(s.get(s.admin+"/readyz", "")).Status == 200
		})
		s.logIn("carol")
	})
}

func TestStartWithoutDatabase(t *testing.T) {
	t.Parallel()
	const password = "correct-horse-battery"

	t.Run("the error names the unreachable database without its password", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.secret("the database password", password)
		d := deploy(h, "postgres://yufu:"+password+"@"+netreasontest.UnusedAddr(t)+"/yufu?sslmode=disable")
		for _, args := range [][]string{{"serve"}, {"serve", "--migrate"}, {"migrate"}, {"app", "list"}} {
			r := h.run(d.env, "", args...)
			if r.code != 1 || !strings.Contains(r.stderr, "YUFU_DATABASE_URL") || !strings.Contains(r.stderr, "connection refused") {
				t.Errorf("yufu %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
			}
		}
	})

	t.Run("the error names the time that it waited for a silent database", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		silent, err := net.Listen("tcp", "127.0.0.1:0") // its backlog connects, and nothing answers
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		d := deploy(h, "postgres://yufu@"+silent.Addr().String()+"/yufu?sslmode=disable&connect_timeout=1")
		begun := time.Now()
		r := h.run(d.env, "", "serve")
		passed := time.Since(begun)
		match := regexp.MustCompile(`YUFU_DATABASE_URL names a database that did not answer within (\d+s)\n`).FindStringSubmatch(r.stderr)
		if r.code != 1 || match == nil {
			t.Fatalf("exit code %d: %s", r.code, r.stderr)
		}
		if waited, err := time.ParseDuration(match[1]); err != nil || waited < time.Second || waited > passed {
			t.Errorf("the error says that it waited for %s; the timeout is 1s, and it ran for %s", match[1], passed)
		}
	})

	t.Run("the error names the database that is missing on the server", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, pgtest.Empty(t)+"&dbname=atlantis")
		r := h.run(d.env, "", "serve")
		if r.code != 1 || !strings.Contains(r.stderr, "atlantis") || !strings.Contains(r.stderr, "create the database first") {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	})

	t.Run("the error for a database of another role says what to do", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		dsn := pgtest.Empty(t)
		owner, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer owner.Close(context.Background())
		tenant := "tenant_" + strings.ToLower(rand.Text())
		// Before PostgreSQL 15 every role may create objects in the schema public.
		for _, sql := range []string{`create role ` + tenant + ` login password 'p'`, `revoke create on schema public from public`} {
			if _, err := owner.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		defer func() {
			if _, err := owner.Exec(context.Background(), `drop role `+tenant); err != nil {
				t.Error(err)
			}
		}()
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(tenant, "p")
		d := deploy(h, u.String())
		r := h.run(d.env, "", "migrate")
		if r.code != 1 || !strings.Contains(r.stderr, "permission denied") || !strings.Contains(r.stderr, "must own the database") {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	})

	t.Run("the error for an old schema says what to do", func(t *testing.T) {
		t.Parallel()
		for name, url := range map[string]func(h *harness) string{
			"PostgreSQL": func(*harness) string { return pgtest.Empty(t) },
			"SQLite":     func(h *harness) string { return "sqlite:" + h.file("yufu.db", "") },
		} {
			h := newHarness(t)
			d := deploy(h, url(h))
			for _, args := range [][]string{{"serve"}, {"app", "list"}} {
				r := h.run(d.env, "", args...)
				if r.code != 1 || !strings.Contains(r.stderr, "yufu migrate") {
					t.Errorf("%s: yufu %s: exit code %d: %s", name, strings.Join(args, " "), r.code, r.stderr)
				}
			}
			h.mustRun(d.env, "", "migrate")
			h.mustRun(d.env, "", "migrate") // harmless to repeat
			_, s := d.serve("yufu")
			h.eventually("it is ready", func() bool { return h.must(h.get(s.admin+"/readyz", "")).Status == 200 })
		}
	})
}
