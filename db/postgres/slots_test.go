package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// fullServer is a store on a server with few connections. The test takes all that are
// left.
type fullServer struct {
	*bed
	others []*pgx.Conn
}

func newFullServer(t *testing.T) *fullServer {
	t.Helper()
	server := pgtest.NewServer(t, pgtest.WithSetting("max_connections", "10"))
	dsn := server.DSN("postgres")
	f := &fullServer{bed: &bed{t: t, store: openStore(t, dsn), raw: openRaw(t, dsn), dsn: dsn}}
	if err := f.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	f.addApp()
	return f
}

// fill takes all connections that are left.
func (f *fullServer) fill() {
	f.t.Helper()
	for {
		conn, err := pgx.Connect(f.t.Context(), f.dsn)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "53300" {
			return
		}
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() { conn.Close(context.Background()) })
		f.others = append(f.others, conn)
	}
}

// refused returns when the server has refused a connection to the pool.
func (f *fullServer) refused(before int64) {
	f.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); f.store.Stat().NewConnsCount() == before; {
		if time.Now().After(deadline) {
			f.t.Fatal("the pool does not request another connection")
		}
	}
}

func TestFullServer(t *testing.T) {
	t.Parallel()

	t.Run("calls wait for a connection of the pool", func(t *testing.T) {
		t.Parallel()
		f := newFullServer(t)
		postgres.SetSlotWait(f.store, time.Minute)
		first := f.exchange()
		// The pool's only connection waits for the row, and no other is left.
		tx := f.begin()
		f.exec(tx, `select from sessions where id = $1 for update`, first.ID)
		waiting := f.startRefresh(refreshParams(first.ID, 1))
		f.untilWaiting(1, row)
		f.fill()

		before := f.store.Stat().NewConnsCount()
		calls := map[string]func() error{
			"a query of one row": func() error { _, err := f.store.Session(t.Context(), first.ID); return err },
			"a query of rows":    func() error { _, err := f.store.Apps(t.Context()); return err },
			"a batch":            func() error { _, err := f.store.Exchange(t.Context(), exchangeParams()); return err },
			"a transaction": func() error {
				_, err := f.store.Revoke(t.Context(), revokeParams(session.Target{AppID: appID}))
				return err
			},
			"a statement": func() error { return f.store.TouchServiceKey(t.Context(), "0123456789abcdef", now) },
		}
		var done sync.WaitGroup
		for name, call := range calls {
			done.Go(func() {
				if err := call(); err != nil {
					t.Errorf("%s: error = %v", name, err)
				}
			})
		}
		f.refused(before)
		f.commit(tx)
		if r := <-waiting; r.err != nil {
			t.Errorf("the call that held the connection: error = %v", r.err)
		}
		done.Wait()
	})

	t.Run("a full server is unavailable when no connection is released in time", func(t *testing.T) {
		t.Parallel()
		f := newFullServer(t)
		postgres.SetSlotWait(f.store, 50*time.Millisecond)
		first := f.exchange()
		tx := f.begin()
		f.exec(tx, `select from sessions where id = $1 for update`, first.ID)
		waiting := f.startRefresh(refreshParams(first.ID, 1))
		f.untilWaiting(1, row)
		f.fill()
		_, err := f.store.Apps(t.Context())
		if auth.CodeOf(err) != auth.StorageUnavailable || !strings.Contains(err.Error(), "53300") {
			t.Errorf("Apps() error = %v, want storage_unavailable with the server's reason", err)
		}
		f.commit(tx)
		if r := <-waiting; r.err != nil {
			t.Errorf("the call that held the connection: error = %v", r.err)
		}
	})

	t.Run("a full server is unavailable at once for a pool without connections", func(t *testing.T) {
		t.Parallel()
		f := newFullServer(t)
		other := openStore(t, f.dsn)
		postgres.SetSlotWait(other, time.Hour) // a wait would not end
		f.fill()
		if _, err := other.Apps(t.Context()); auth.CodeOf(err) != auth.StorageUnavailable || !strings.Contains(err.Error(), "53300") {
			t.Errorf("Apps() error = %v, want storage_unavailable with the server's reason", err)
		}
	})

	t.Run("a full server is followed over the pool's connections", func(t *testing.T) {
		t.Parallel()
		f := newFullServer(t)
		f.exchange()
		f.fill()
		if _, err := f.store.Cutoffs(t.Context(), 0, 1); err != nil {
			t.Errorf("Cutoffs() error = %v", err)
		}
		if _, err := f.store.KeysVersion(t.Context()); err != nil {
			t.Errorf("KeysVersion() error = %v", err)
		}
	})

	t.Run("a full server gives more connections as soon as it has some", func(t *testing.T) {
		t.Parallel()
		f := newFullServer(t)
		postgres.SetSlotWait(f.store, time.Minute)
		first := f.exchange()
		tx := f.begin()
		f.exec(tx, `select from sessions where id = $1 for update`, first.ID)
		waiting := f.startRefresh(refreshParams(first.ID, 1))
		f.untilWaiting(1, row)
		f.fill()
		before := f.store.Stat().NewConnsCount()
		apps := make(chan error, 1)
		go func() { _, err := f.store.Apps(t.Context()); apps <- err }()
		f.refused(before)
		f.others[0].Close(t.Context())
		if err := <-apps; err != nil {
			t.Errorf("Apps() error = %v", err)
		}
		f.commit(tx)
		if r := <-waiting; r.err != nil {
			t.Errorf("the call that held the connection: error = %v", r.err)
		}
	})
}
