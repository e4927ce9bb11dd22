package binding_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// world is the service over a real database, with direct access to the database.
type world struct {
	*bindingtest.Fixture
	store *sqlite.Store
	db    *sql.DB
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOver(t, func(s *sqlite.Store) db.Store { return s })
}

// newWorldOver returns a world whose binding service uses the store that way returns.
func newWorldOver(t testing.TB, way func(*sqlite.Store) db.Store) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "yufu.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := store.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &world{bindingtest.New(t, sessiontest.New(t, store, session.Lifetimes{}), way(store)), store, db}
}

func (w *world) count(t testing.TB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := w.db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// mustBind ends the test unless the binding changed something.
func mustBind(t testing.TB, g binding.Grant, err error) binding.Grant {
	t.Helper()
	if err != nil || !g.Changed {
		t.Fatalf("Bind() changed = %t, error = %v, want a change", g.Changed, err)
	}
	return g
}

// refused fails the test unless the binding was refused with the code, without a
// token.
func refused(t testing.TB, want auth.Code) func(binding.Grant, error) {
	return func(g binding.Grant, err error) {
		t.Helper()
		if auth.CodeOf(err) != want || g.AccessToken != "" {
			t.Errorf("Bind() error = %v, with a token: %t, want %s without a token", err, g.AccessToken != "", want)
		}
	}
}
