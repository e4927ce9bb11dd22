package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// childMode makes the test binary start a server, print its address, and wait to be
// killed.
const childMode = "YUFU_PGTEST_CHILD"

func TestMain(m *testing.M) { pgtest.Main(m) }

var template = pgtest.NewTemplate(func(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `create table migrated (n int); insert into migrated values (1)`)
	return err
})

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func number(t *testing.T, conn *pgx.Conn, sql string) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	a, b := connect(t, template.New(t)), connect(t, template.New(t))
	run(t, a, `insert into migrated values (2)`)
	if n := number(t, a, `select count(*) from migrated`); n != 2 {
		t.Errorf("%d rows in the first clone, want 2", n)
	}
	if n := number(t, b, `select count(*) from migrated`); n != 1 {
		t.Errorf("%d rows in the second clone, want 1", n)
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.Empty(t))
	if n := number(t, conn, `select count(*) from pg_tables where schemaname = 'public'`); n != 0 {
		t.Errorf("an empty database has %d tables, want 0", n)
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	var dsn string
	t.Run("test", func(t *testing.T) { dsn = pgtest.Empty(t) })
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		conn.Close(t.Context())
		t.Error("the database still exists")
	}
}

// A program that asks for any port gets one of a range. A stopped server's port must not
// be in it, or the server could not start again.
func TestServerPortIsReserved(t *testing.T) {
	t.Parallel()
	first := 49152 // first dynamic port (RFC 6335 section 6)
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(b), &first); err != nil {
			t.Fatal(err)
		}
	}
	if first < 12_000 {
		first = 1 << 16 // no room below them
	}
	_, port, err := net.SplitHostPort(pgtest.NewServer(t).Addr())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(port); err != nil || n >= first {
		t.Errorf("port %s is in the range from %d, which the system assigns", port, first)
	}
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, pgtest.WithFsync(), pgtest.WithSetting("max_connections", "33"))
	conn := connect(t, s.DSN("postgres"))
	run(t, conn, `create table kept (n int); insert into kept values (1)`)
	if n := number(t, conn, `select current_setting('max_connections')::int`); n != 33 {
		t.Errorf("max_connections is %d, want 33", n)
	}
	for name, end := range map[string]func() error{"Stop": s.Stop, "Kill": s.Kill} {
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if conn, err := pgx.Connect(t.Context(), s.DSN("postgres")); err == nil {
			conn.Close(t.Context())
			t.Fatalf("after %s the server still accepts connections", name)
		}
		if err := end(); err != nil {
			t.Fatalf("%s again: %v", name, err)
		}
		if err := s.Start(); err != nil {
			t.Fatalf("Start after %s: %v", name, err)
		}
		if n := number(t, connect(t, s.DSN("postgres")), `select count(*) from kept`); n != 1 {
			t.Errorf("%d rows after %s, want 1", n, name)
		}
	}
	if err := s.Start(); err == nil {
		t.Error("Start() of a running server succeeded, want an error")
	}
}

// TestKillChild runs only in the child process, where it starts a server and never
// returns.
func TestKillChild(t *testing.T) {
	if os.Getenv(childMode) == "" {
		return
	}
	s := pgtest.NewServer(t)
	conn := connect(t, s.DSN("postgres"))
	var dir string
	if err := conn.QueryRow(t.Context(), `show data_directory`).Scan(&dir); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("server %s %s\n", s.DSN("postgres"), dir)
	select {}
}

func TestKilledProcess(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	child.Env = append(os.Environ(), childMode+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	var dsn, dir string
	for lines := bufio.NewScanner(out); dsn == "" && lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "server" {
			dsn, dir = f[1], f[2]
		}
	}
	if dsn == "" {
		t.Fatal("the child did not start a server")
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the server is gone", func() bool {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			conn.Close(t.Context())
		}
		return err != nil
	})
	until(t, "its files are gone", func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	})
}

// until polls a condition that another process will fulfil.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out after 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two polls
	}
}
