package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// pgbouncer starts PgBouncer in front of a database, without ignored parameters, and
// returns the URL of the database through it. It listens on a Unix socket, so that no
// port must be free.
func (h *harness) pgbouncer(databaseURL, mode string) string {
	h.t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		h.t.Fatal(err)
	}
	dir := shortDir(h.t)
	user := ""
	if os.Getuid() == 0 {
		// PgBouncer refuses to run as root, and changes to this user by itself.
		user = "user = nobody\n"
		if err := os.Chmod(dir, 0o777); err != nil {
			h.t.Fatal(err)
		}
	}
	config := write(h.t, filepath.Join(dir, "pgbouncer.ini"), fmt.Sprintf(`[databases]
* = host=%s port=%s user=%s
[pgbouncer]
%slisten_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = any
pool_mode = %s
default_pool_size = 50
`, u.Hostname(), u.Port(), u.User.Username(), user, dir, mode))
	path, libraries := program(h.t, "pgbouncer")
	p := h.prepare("pgbouncer, pool_mode="+mode, nil, nil)
	p.cmd.Path, p.cmd.Args, p.cmd.Dir = path, []string{path, config}, dir
	p.cmd.Env = append(p.cmd.Env, libraries...)
	h.launch(p)
	p.await(p.stderr, "that it runs", func(text string) bool { return strings.Contains(text, "process up") })
	return "postgres://" + u.User.Username() + "@" + u.Path + "?sslmode=disable&port=6432&host=" + url.QueryEscape(dir)
}

func TestPgBouncer(t *testing.T) {
	t.Parallel()

	t.Run("in session mode PgBouncer works, and revocations arrive at once", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, h.pgbouncer(pgtest.Empty(t), "session"))
		_, a := d.serve("replica A", "--migrate")
		_, b := d.serve("replica B")
		d.addApp()
		d.mustRun(d.env, "", "migrate")
		alice := a.logIn("alice")
		b.me(alice.Doc.AccessToken).want(b, 200, "")
		b.refresh(alice.Doc.RefreshToken).want(b, 200, "")
		a.logOut(alice.Doc.RefreshToken)
		h.eventually("the other replica refuses the token", func() bool {
			return b.me(alice.Doc.AccessToken).Status == 401
		})
		h.eventually("it is ready", func() bool { return h.must(h.get(b.admin+"/readyz", "")).Status == 200 })
	})

	t.Run("in transaction mode PgBouncer is refused by name", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		database := pgtest.Empty(t)
		d := deploy(h, database)
		h.mustRun(d.env, "", "migrate")
		env := d.env.with(settings{"YUFU_DATABASE_URL": h.pgbouncer(database, "transaction")})
		for _, args := range [][]string{{"serve"}, {"serve", "--migrate"}, {"migrate"}, {"app", "list"}} {
			r := h.run(env, "", args...)
			if r.code != 1 || !strings.Contains(r.stderr, "YUFU_DATABASE_URL names a database that cannot be opened: ") || !strings.Contains(r.stderr, "pool_mode=session") {
				t.Errorf("yufu %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
			}
		}
	})
}

func TestDatabaseSettingsRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	dsn := pgtest.Empty(t)
	d := deploy(h, dsn)
	for param, setting := range map[string]string{
		"search_path=app":                         "search_path",
		"default_query_exec_mode=exec":            "default_query_exec_mode",
		"default_query_exec_mode=simple_protocol": "default_query_exec_mode",
		"options=-c%20search_path%3Dapp":          "search_path",
		"synchronous_commit=off":                  "synchronous_commit",
	} {
		for _, args := range [][]string{{"serve", "--migrate"}, {"migrate"}} {
			r := h.run(d.env.with(settings{"YUFU_DATABASE_URL": dsn + "&" + param}), "", args...)
			if r.code != 1 || !strings.Contains(r.stderr, "YUFU_DATABASE_URL is wrong: postgres: "+setting) || !strings.Contains(r.stderr, "must not be set in") {
				t.Errorf("%s: yufu %s: exit code %d: %s", param, strings.Join(args, " "), r.code, r.stderr)
			}
		}
	}

	latin := pgtest.Empty(t, "encoding 'LATIN1' locale 'C' template template0")
	r := h.run(d.env.with(settings{"YUFU_DATABASE_URL": latin}), "", "migrate")
	if r.code != 1 || !strings.Contains(r.stderr, "server_encoding of the database must be UTF8, got LATIN1") {
		t.Errorf("LATIN1: exit code %d: %s", r.code, r.stderr)
	}

	// A role that switches foreign keys off is refused; a search path of the database is
	// overridden.
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	set := func(what string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "alter database "+conn.Config().Database+" "+what); err != nil {
			t.Fatal(err)
		}
	}
	set("set search_path = app")
	h.mustRun(d.env, "", "migrate")
	d.addApp()
	_, s := d.serve("yufu")
	s.logIn("alice")
	set("set session_replication_role = replica")
	r = h.run(d.env, "", "serve")
	if r.code != 1 || !strings.Contains(r.stderr, "session_replication_role must be origin, got replica") {
		t.Errorf("session_replication_role=replica: exit code %d: %s", r.code, r.stderr)
	}
}

func TestManagedPostgreSQL(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		// SQLSTATE 42501.
		"without access to the control file and the write-ahead log": `
revoke execute on function pg_catalog.pg_control_system() from public;
revoke execute on function pg_catalog.pg_current_wal_lsn() from public`,
		"without access to the write-ahead log, like Aurora": `
alter function pg_catalog.pg_current_wal_lsn() rename to pg_renamed_wal_lsn;
create function pg_catalog.pg_current_wal_lsn() returns pg_lsn language plpgsql as
$$ begin raise exception 'wal_level must be set to ''logical''' using errcode = '55000'; end $$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			dsn, role := pgtest.Empty(t), "tenant_"+strings.ToLower(rand.Text())
			owner, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			exec := func(sql string) {
				if _, err := owner.Exec(context.Background(), sql); err != nil {
					t.Errorf("%s: error = %v", sql, err)
				}
			}
			t.Cleanup(func() {
				exec(`drop owned by ` + role + ` cascade; drop role ` + role)
				_ = owner.Close(context.Background())
			})
			exec(`create role ` + role + ` login; grant create, usage on schema public to ` + role)
			exec(sql)
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.User(role)
			d := deploy(h, u.String())
			procA, a := d.serve("replica A", "--migrate")
			procB, b := d.serve("replica B")
			d.addApp()
			alice := a.logIn("alice")
			b.me(alice.Doc.AccessToken).want(b, 200, "")
			a.logOut(alice.Doc.RefreshToken)
			h.eventually("the other replica refuses the token", func() bool {
				return b.me(alice.Doc.AccessToken).Status == 401
			})
			for _, p := range []*process{procA, procB} {
				p.stop()
				if count := strings.Count(p.stderr.String(), "revocation history identified without values"); count != 1 {
					t.Errorf("%s logs %d times that the history's name is incomplete, want once", p.name, count)
				}
			}
		})
	}
}
