package session_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// countingStore counts the calls of use cases of a real store, and can simulate that it
// is down.
type countingStore struct {
	*sqlite.Store
	calls atomic.Int64
	down  atomic.Bool
	// downAfter is the number of calls that still succeed before it is down; zero means
	// any number.
	downAfter atomic.Int64
}

func (s *countingStore) call() error {
	s.calls.Add(1)
	if s.downAfter.Load() > 0 && s.downAfter.Add(-1) == 0 {
		defer s.down.Store(true)
	}
	if s.down.Load() {
		return auth.StorageUnavailable
	}
	return nil
}

func (s *countingStore) App(ctx context.Context, appID string) (auth.App, error) {
	if err := s.call(); err != nil {
		return auth.App{}, err
	}
	return s.Store.App(ctx, appID)
}

func (s *countingStore) Exchange(ctx context.Context, x session.ExchangeParams) (session.Granted, error) {
	if err := s.call(); err != nil {
		return session.Granted{}, err
	}
	return s.Store.Exchange(ctx, x)
}

func (s *countingStore) Refresh(ctx context.Context, r session.RefreshParams) (session.Granted, error) {
	if err := s.call(); err != nil {
		return session.Granted{}, err
	}
	return s.Store.Refresh(ctx, r)
}

func (s *countingStore) End(ctx context.Context, e session.EndParams) error {
	if err := s.call(); err != nil {
		return err
	}
	return s.Store.End(ctx, e)
}

func (s *countingStore) Confirm(ctx context.Context) error {
	if err := s.call(); err != nil {
		return err
	}
	return s.Store.Confirm(ctx)
}

func (s *countingStore) Session(ctx context.Context, id uuid.UUID) (session.State, error) {
	if err := s.call(); err != nil {
		return session.State{}, err
	}
	return s.Store.Session(ctx, id)
}

// world is the service over a real database, with direct access to the database.
type world struct {
	*sessiontest.Fixture
	store  *countingStore
	db     *sql.DB
	keeper *keyring.Keeper
}

func newWorld(t *testing.T, lifetimes session.Lifetimes) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "yufu.db")
	file, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := file.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := file.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store := &countingStore{Store: file}
	w := &world{Fixture: sessiontest.New(t, store, lifetimes), store: store, db: db}
	w.keeper, err = keyring.NewKeeper(keyring.KeeperConfig{
		Ring: w.Keys, Policy: keyring.DefaultPolicy, Clock: w.Clock.Now,
		DatabaseClock: func(context.Context) (time.Time, error) { return w.Clock.Now(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.store.calls.Store(0)
	return w
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	res, err := w.db.ExecContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", query, n, err)
	}
}

func (w *world) count(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	if err := w.db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// bind binds an identity to a person in the database.
func (w *world) bind(t *testing.T, identity uuid.UUID) auth.Person {
	t.Helper()
	p := auth.Person{ID: uuid.Must(uuid.NewV7()), ExternalID: "E-4711", Name: "张三"}
	now := w.Clock.Now().UnixMicro()
	w.exec(t, `insert into persons (id, external_id, name, created_at) values (?, ?, ?, ?)`, p.ID.String(), p.ExternalID, p.Name, now)
	w.exec(t, `update identities set person_id = ? where uuid = ?`, p.ID.String(), identity.String())
	return p
}

func (w *world) row(t *testing.T, id uuid.UUID) auth.Session {
	t.Helper()
	st, err := w.store.Store.Session(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return st.Session
}

// must ends the test on an error.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const day = 24 * time.Hour
