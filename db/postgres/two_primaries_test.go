package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// primaries is a bed whose store reaches its server through a proxy, which can lead to the
// standby instead.
type primaries struct {
	*bed         // on the old primary
	old, standby *pgtest.Server
	proxy        *pgtest.Proxy
	// successor is a bed on the standby.
	successor *bed
}

// newPrimaries returns the beds; standby creates the standby of the server.
func newPrimaries(t *testing.T, standby func(*pgtest.Server, testing.TB) *pgtest.Server) *primaries {
	t.Helper()
	p := &primaries{old: pgtest.NewServer(t)}
	p.standby = standby(p.old, t)
	p.proxy = pgtest.NewProxy(t, p.old.Addr())
	u, err := url.Parse(p.old.DSN("postgres") + "&pool_max_conns=6")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = p.proxy.Addr()
	p.bed = &bed{t: t, store: openStore(t, u.String()), raw: openRaw(t, p.old.DSN("postgres"))}
	p.successor = &bed{t: t, store: openStore(t, p.standby.DSN("postgres")), raw: openRaw(t, p.standby.DSN("postgres"))}
	// Otherwise closing the store would wait for commits that are never confirmed.
	t.Cleanup(p.proxy.Cut)
	if err := p.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	p.addApp()
	return p
}

// replayed returns when the standby has replayed all current commits.
func (p *primaries) replayed() {
	p.t.Helper()
	var lsn string
	if err := p.raw.QueryRowContext(p.t.Context(), `select pg_current_wal_lsn()`).Scan(&lsn); err != nil {
		p.t.Fatal(err)
	}
	until(p.t, "the standby has replayed it", func() bool {
		return p.number(p.successor.raw, `select count(*) where pg_last_wal_replay_lsn() >= $1::pg_lsn`, lsn) == 1
	})
}

func (p *primaries) promote() {
	p.t.Helper()
	if err := p.standby.Promote(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// revoke ends a session on the new primary.
func (p *primaries) revoke(id uuid.UUID) {
	p.t.Helper()
	r := revokeParams(session.Target{Session: id})
	r.Now = time.Now()
	if got, err := p.successor.store.Revoke(p.t.Context(), r); err != nil || got.Sessions != 1 {
		p.t.Fatalf("Revoke() = %d sessions, error %v; want 1", got.Sessions, err)
	}
}

// cutWriters closes the connections of the store's pool, but not the follower's.
func (p *primaries) cutWriters() {
	p.t.Helper()
	p.exec(p.raw, `
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'yufu' and query not like '%pg_sequence_last_value%' and query not in ('listen yufu_cutoffs', '-- ping')`)
}

// connected returns the number of the store's connections to the old primary.
func (p *primaries) connected() int {
	p.t.Helper()
	return p.number(p.raw, `select count(*) from pg_stat_activity where application_name = 'yufu'`)
}

func TestReplacedPrimaryIsNotFresh(t *testing.T) {
	t.Parallel()
	p := newPrimaries(t, (*pgtest.Server).Standby)
	id := p.loggedIn("o-1")
	r := startReplica(t, p.store)
	p.promote()
	p.revoke(id)
	until(t, "the age has grown", func() bool { return r.Age() > 5*time.Second })
	if err := r.CatchUp(t.Context()); !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("CatchUp() at the old primary: error = %v, want %v", err, auth.StorageUnavailable)
	}
	if r.knows(id) {
		t.Error("the old primary's follower knows a revocation on the new primary")
	}
	p.proxy.Redirect(p.standby.Addr())
	r.untilKnown(id)
	until(t, "the age has fallen", func() bool { return r.Age() < 2*time.Second })
	until(t, "the pool leads to the new primary", func() bool {
		st, err := p.store.Session(t.Context(), id)
		return err == nil && !st.Session.EndedAt.IsZero()
	})
	until(t, "the replica listens to the new primary", func() bool { return p.successor.listeners() == 1 })
}

// Without synchronous replication both primaries commit.
func TestConnectionsToTwoPrimaries(t *testing.T) {
	t.Parallel()
	t.Run("connections are made again when a new one leads to the other", func(t *testing.T) {
		t.Parallel()
		p := newPrimaries(t, (*pgtest.Server).AsyncStandby)
		s := p.exchange()
		p.replayed()
		tx := p.begin()
		p.exec(tx, `select from sessions where id = $1 for update`, s.ID)
		var waiting []<-chan result
		for range 3 {
			waiting = append(waiting, p.startRefresh(refreshParams(s.ID, 1)))
		}
		p.untilWaiting(3, row)
		p.promote()
		p.proxy.Redirect(p.standby.Addr())
		if _, err := p.store.Session(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		p.commit(tx)
		for _, w := range waiting {
			if r := <-w; r.err != nil {
				t.Error(r.err)
			}
		}
		until(t, "no connection leads to the old primary", func() bool { return p.connected() == 0 })

		// Each new connection leads to another primary than the one before.
		const rounds = 6
		before := p.store.Stat().NewConnsCount()
		for i := range rounds {
			p.proxy.Redirect([]string{p.old.Addr(), p.standby.Addr()}[i%2])
			p.proxy.Cut()
			patiently(t, "the store answers", func() error { _, err := p.store.Session(t.Context(), s.ID); return err })
		}
		if made := p.store.Stat().NewConnsCount() - before; made > 2*rounds {
			t.Errorf("%d connections were made in %d rounds, want at most %d", made, rounds, 2*rounds)
		}
	})
	t.Run("connections are made again when the pool's name differs from the follower's", func(t *testing.T) {
		t.Parallel()
		p := newPrimaries(t, (*pgtest.Server).AsyncStandby)
		id := p.loggedIn("o-1")
		r := startReplica(t, p.store)
		p.replayed()
		// The pool connects to the standby before its promotion, so that these
		// connections, when new, have no history that differs.
		p.proxy.Redirect(p.standby.Addr())
		p.cutWriters()
		until(t, "the pool leads to the standby", func() bool {
			_, err := p.store.Session(t.Context(), id)
			return err == nil && p.number(p.successor.raw, `select count(*) from pg_stat_activity where application_name = 'yufu'`) > 0
		})
		until(t, "the replica is fresh meanwhile", func() bool { return r.Age() < 2*time.Second })
		p.promote()
		p.revoke(id)
		r.untilKnown(id)
		until(t, "the age has fallen", func() bool { return r.Age() < 2*time.Second })
		until(t, "no connection leads to the old primary", func() bool { return p.connected() == 0 })
	})
}

func TestBusyPoolKeepsFollowerFresh(t *testing.T) {
	t.Parallel()
	dsn := migrated.New(t)
	b := &bed{t: t, store: openStore(t, dsn+"&pool_max_conns=2"), raw: openRaw(t, dsn), dsn: dsn}
	b.addApp()
	s := b.exchange()
	tx := b.begin()
	b.exec(tx, `lock table sessions in access exclusive mode`)
	reads := make(chan error, 2)
	for range cap(reads) {
		go func() { _, err := b.store.Session(t.Context(), s.ID); reads <- err }()
	}
	b.untilWaiting(2, "relation")
	// Shorter than the reads may wait.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 3 {
		if _, err := b.store.Cutoffs(ctx, 0, 10); err != nil {
			t.Errorf("Cutoffs() error = %v", err)
		}
	}
	if ctx.Err() != nil {
		t.Error("Cutoffs() waited for the pool")
	}
	b.commit(tx)
	for range cap(reads) {
		if err := <-reads; err != nil {
			t.Error(err)
		}
	}
}

func TestSilentStandbyIsNotFresh(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	r := openReplica(t, p.store)
	p.silence()
	query := func(ctx context.Context) error { _, err := p.store.Cutoffs(ctx, 0, 10); return err }
	if waited, err := p.interrupt(query); !waited || err == nil {
		t.Errorf("Cutoffs() waited for the standby = %t, error = %v; want true and an error", waited, err)
	}
	asked := make(chan error, 1)
	go func() { asked <- query(t.Context()) }()
	p.untilCommitting(1)
	p.exec(p.raw, `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`)
	if err := <-asked; !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("Cutoffs() with its commit cancelled on the server: error = %v, want %v", err, auth.StorageUnavailable)
	}
	if err := r.CatchUp(t.Context()); !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("CatchUp() error = %v, want %v", err, auth.StorageUnavailable)
	}
	if age := r.Age(); age < 3*time.Second {
		t.Errorf("Age() = %v after 3s without an answer", age)
	}
	p.untilCommitting(0)
	p.must(p.standby.Start())
	r.catchUp()
}

func TestForeignDeployment(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	b := &bed{t: t, dsn: server.DSN("yufu"), admin: openRaw(t, server.DSN("postgres"))}
	b.exec(b.admin, `create database yufu`)
	b.store = openStore(t, b.dsn)
	if err := b.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	b.addApp()
	id := b.exchange().ID
	b.exec(b.admin, `create database other`)
	if err := openStore(t, server.DSN("other")).Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	rename := func(from, to string) {
		t.Helper()
		b.exec(b.admin, `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1`, from)
		until(t, "no client is connected", func() bool {
			return b.number(b.admin, `select count(*) from pg_stat_activity where datname = $1`, from) == 0
		})
		b.exec(b.admin, `alter database `+from+` rename to `+to)
	}
	rename("yufu", "mine")
	rename("other", "yufu")
	refused := func(what string, call func() error) {
		t.Helper()
		// The first call may use a closed connection.
		until(t, what+" is refused", func() bool {
			err := call()
			if auth.CodeOf(err) != auth.StorageUnavailable {
				t.Fatalf("%s: error = %v, want %v", what, err, auth.StorageUnavailable)
			}
			return strings.Contains(err.Error(), "another deployment")
		})
	}
	refused("a read", func() error { _, err := b.store.Session(t.Context(), id); return err })
	refused("a write", func() error { _, err := b.store.Exchange(t.Context(), exchangeParams()); return err })
	refused("a query of the follower", func() error { _, err := b.store.Cutoffs(t.Context(), 0, 10); return err })
	rename("yufu", "other")
	rename("mine", "yufu")
	if _, err := b.store.Session(t.Context(), id); err != nil {
		t.Errorf("Session() with the right database back: error = %v", err)
	}
}
