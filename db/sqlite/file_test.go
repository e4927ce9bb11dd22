package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/db/storetest"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

const appID = "wxaaaaaaaaaaaaaaaa"

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func migratedStore(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s := openStore(t, path)
	if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	return s
}

func addApp(t testing.TB, s *sqlite.Store) {
	t.Helper()
	err := s.AddApp(t.Context(), auth.App{ID: appID, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}},
		auth.AuditEvent{At: now, Action: auth.AuditAppAdded, Actor: auth.ActorCLI})
	if err != nil {
		t.Fatal(err)
	}
}

func exchange(t testing.TB, s *sqlite.Store, openID string) auth.Session {
	t.Helper()
	g, err := s.Exchange(t.Context(), session.ExchangeParams{
		AppID: appID, Account: auth.OpenIDAccount(openID), SealedSessionKey: []byte("k"),
		NewIdentity: shardtest.NewID(appID, auth.OpenIDAccount(openID)), NewSession: shardtest.NewID(appID, auth.OpenIDAccount(openID)),
		Now: now, IdleTTL: time.Hour, MaxTTL: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return g.Session
}

func TestEveryStatementPrepares(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "yufu.db")
	migratedStore(t, path)
	db := openRaw(t, path)
	if n := len(sqlite.Statements()); n < 20 {
		t.Errorf("found %d statements, want more", n)
	}
	for _, text := range sqlite.Statements() {
		stmt, err := db.Prepare(text)
		if err != nil {
			t.Errorf("Prepare() error = %v\n%s", err, text)
			continue
		}
		stmt.Close()
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	t.Run("only the owner can read it and its journals", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		addApp(t, migratedStore(t, filepath.Join(dir, "yufu.db")))
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) < 2 {
			t.Errorf("%d files, want the database and its journal", len(entries))
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("mode of %s = %v, want 0600", e.Name(), info.Mode())
			}
		}
	})
	t.Run("a file may have any name", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"with space.db", "a?mode=memory.db", "100%.db", "#frag.db", "鱼符.db", "a%20b.db", ":memory:"} {
			path := filepath.Join(t.TempDir(), name)
			addApp(t, migratedStore(t, path))
			again := openStore(t, path)
			if _, err := again.App(t.Context(), appID); err != nil {
				t.Errorf("Open(%s) error = %v", name, err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				t.Errorf("%s: the file is missing or empty (error %v)", name, err)
			}
		}
	})
	t.Run("a committed write is durable", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "yufu.db")
		s := migratedStore(t, path)
		for pragma, want := range map[string]int{"synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000} {
			for name, db := range sqlite.Connections(s) {
				var got int
				if err := db.QueryRow("pragma " + pragma).Scan(&got); err != nil || got != want {
					t.Errorf("%s: %s is %d (%v), want %d", name, pragma, got, err, want)
				}
			}
		}
		var mode string
		if err := openRaw(t, path).QueryRow("pragma journal_mode").Scan(&mode); err != nil || mode != "wal" {
			t.Errorf("journal mode %q (%v), want wal", mode, err)
		}
	})
	t.Run("a file in a missing directory is an error that names it", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "none", "yufu.db")
		s, err := sqlite.Open(t.Context(), path)
		if err == nil {
			s.Close()
			t.Fatal("Open() succeeded, want an error")
		}
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open() error = %v, want one that says that %s does not exist", err, path)
		}
	})
	t.Run("a file is refused if it is not a database", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "yufu.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := sqlite.Open(t.Context(), path); err == nil {
			s.Close()
			t.Fatal("Open() succeeded, want an error")
		}
	})
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	storetest.Migrations(t, func(t testing.TB) storetest.Empty {
		path := filepath.Join(t.TempDir(), "yufu.db")
		return storetest.Empty{Open: func() storetest.Migrator { return openStore(t, path) }, DB: openRaw(t, path)}
	})
}

// childMode makes the test binary work on a file as a second process.
const childMode = "YUFU_SQLITE_CHILD"

// TestChildProcess runs only in the child process, where it logs in accounts.
func TestChildProcess(t *testing.T) {
	path := os.Getenv(childMode)
	if path == "" {
		return
	}
	s := openStore(t, path)
	for i := range perProcess {
		exchange(t, s, fmt.Sprintf("child-%d", i))
	}
}

const perProcess = 100

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "yufu.db")
	s := migratedStore(t, path)
	addApp(t, s)
	child := exec.Command(os.Args[0], "-test.run=^TestChildProcess$")
	child.Env = append(os.Environ(), childMode+"="+path)
	done := make(chan error, 1)
	go func() {
		out, err := child.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		done <- err
	}()
	for i := range perProcess {
		exchange(t, s, fmt.Sprintf("parent-%d", i))
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var n int
	if err := openRaw(t, path).QueryRow(`select count(*) from sessions`).Scan(&n); err != nil || n != 2*perProcess {
		t.Errorf("%d sessions (%v), want %d", n, err, 2*perProcess)
	}
}

func TestKilledProcessKeepsCommits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "yufu.db")
	s := migratedStore(t, path)
	addApp(t, s)
	want := exchange(t, s, "o-1")
	// The file and its journal as a power cut leaves them: copied while the store is
	// still open.
	copied := filepath.Join(t.TempDir(), "yufu.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st, err := openStore(t, copied).Session(t.Context(), want.ID)
	if err != nil || st.Session.Generation != want.Generation {
		t.Errorf("Session() = generation %d, error %v; want %d, nil", st.Session.Generation, err, want.Generation)
	}
}

func TestReadOnlyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "yufu.db")
	s := migratedStore(t, path)
	addApp(t, s)
	for _, db := range sqlite.Connections(s) {
		if _, err := db.Exec(`pragma query_only = 1`); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Exchange(t.Context(), session.ExchangeParams{
		AppID: appID, Account: auth.OpenIDAccount("o"), SealedSessionKey: []byte("k"),
		NewIdentity: shardtest.NewID(appID, auth.OpenIDAccount("o")), NewSession: shardtest.NewID(appID, auth.OpenIDAccount("o")), Now: now, IdleTTL: 1, MaxTTL: 1,
	})
	if auth.CodeOf(err) != auth.StorageUnavailable {
		t.Errorf("Exchange() error = %v, want storage_unavailable", err)
	}
}

func TestNow(t *testing.T) {
	t.Parallel()
	s := openStore(t, filepath.Join(t.TempDir(), "yufu.db"))
	before := time.Now().Truncate(time.Millisecond)
	got, err := s.Now(t.Context())
	if err != nil || got.Before(before) || got.After(time.Now()) || got.Location() != time.UTC {
		t.Errorf("Now() = %v, %v; want the host's time in UTC", got, err)
	}
}
