package sqlite_test

import (
	"database/sql"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/db/storetest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// Closing a store leaves no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, open)
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }

func open(t testing.TB) storetest.Harness {
	path := filepath.Join(t.TempDir(), "yufu.db")
	s := openStore(t, path)
	if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := s.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := openRaw(t, path)
	t.Cleanup(func() { checkIntegrity(t, path, db) })
	return storetest.Harness{
		Store: s, DB: db,
		Time:  func(t time.Time) any { return t.UnixMicro() },
		Bytes: `select page_count * page_size from pragma_page_count, pragma_page_size`,
	}
}

// checkIntegrity checks the file with the driver and with the system's sqlite3, which an
// operator would use. Versions differ in what they report: before 3.45 json_valid(NULL)
// is false.
func checkIntegrity(t testing.TB, path string, db *sql.DB) {
	t.Helper()
	const integrity, keys = `pragma integrity_check`, `pragma foreign_key_check`
	var verdict string
	if err := db.QueryRow(integrity).Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("%s: %q (%v), want ok", integrity, verdict, err)
	}
	out, err := exec.Command("sqlite3", "-batch", path, integrity+"; "+keys).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatal("sqlite3 is missing; to get it: sudo make deps")
	}
	if err != nil || string(out) != "ok\n" {
		t.Errorf("sqlite3: %s; %s: %s (%v), want ok", integrity, keys, out, err)
	}
}

func openStore(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openRaw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
