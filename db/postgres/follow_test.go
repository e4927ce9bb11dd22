package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// replica follows a database until the test ends.
type replica struct {
	*cutoffs.Follower
	t *testing.T
}

func openReplica(t *testing.T, s cutoffs.Store) *replica {
	t.Helper()
	r := &replica{t: t}
	patiently(t, "the replica knows the cutoffs", func() (err error) {
		r.Follower, err = cutoffs.Open(t.Context(), cutoffs.Config{
			Store: s, MaxStaleness: 30 * time.Second, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		return err
	})
	return r
}

func startReplica(t *testing.T, s cutoffs.Store) *replica {
	t.Helper()
	r := openReplica(t, s)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return r
}

func (r *replica) knows(id uuid.UUID) bool {
	return r.Set().Hits(cutoff.Token{Session: id.String(), Ver: 1})
}

func (r *replica) catchUp() {
	r.t.Helper()
	patiently(r.t, "the replica has caught up", func() error { return r.CatchUp(r.t.Context()) })
}

func (r *replica) untilKnown(id uuid.UUID) {
	r.t.Helper()
	until(r.t, "the replica knows the cutoff", func() bool { return r.knows(id) })
}

// patiently repeats a call that times out after some seconds, since a machine may stall.
func patiently(t *testing.T, what string, do func() error) {
	t.Helper()
	until(t, what, func() bool {
		err := do()
		if err != nil && auth.CodeOf(err) != auth.StorageUnavailable {
			t.Fatal(err)
		}
		return err == nil
	})
}

// until polls a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// loggedIn starts a session now, by the replicas' clock.
func (b *bed) loggedIn(openID string) uuid.UUID {
	b.t.Helper()
	x := exchangeParams()
	x.Account.Subject, x.Now = openID, time.Now()
	g, err := b.store.Exchange(b.t.Context(), x)
	if err != nil {
		b.t.Fatal(err)
	}
	return g.Session.ID
}

// endNow ends a session now.
func (b *bed) endNow(id uuid.UUID) error {
	e := endParams(id)
	e.Now = time.Now()
	return b.store.End(b.t.Context(), e)
}

// revoked returns a session that was just revoked.
func (b *bed) revoked() uuid.UUID {
	b.t.Helper()
	id := b.loggedIn("o-1")
	r := revokeParams(session.Target{Session: id})
	r.Now = time.Now()
	if got, err := b.store.Revoke(b.t.Context(), r); err != nil || got.Sessions != 1 {
		b.t.Fatalf("Revoke() = %d sessions, error %v", got.Sessions, err)
	}
	return id
}

func TestFollowersNeverSkip(t *testing.T) {
	t.Parallel()
	t.Run("a writer that took its id and has not committed", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		first, second := b.loggedIn("o-1"), b.loggedIn("o-2")
		woken, polling := startReplica(t, b.store), openReplica(t, b.store)
		// As every path that ends a session: the lock, then the id, then a slow
		// commit.
		tx := b.begin()
		b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
		b.exec(tx, `insert into cutoffs (kind, session_id, ver, created_at, expires_at) values ('session', $1, 0, $2, $3)`,
			first, now, time.Now().Add(time.Hour))
		ended := start(func() (session.Granted, error) { return session.Granted{}, b.endNow(second) })
		b.untilWaiting(1, advisory)
		for range 3 {
			polling.catchUp()
		}
		if polling.knows(first) || polling.knows(second) {
			t.Error("the cutoff is known before its commit")
		}
		b.exec(tx, `select pg_notify('yufu_cutoffs', '')`)
		b.commit(tx)
		b.succeeds(<-ended)
		polling.catchUp()
		for _, r := range []*replica{woken, polling} {
			r.untilKnown(first)
			r.untilKnown(second)
		}
	})
	t.Run("many writers with random delays", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		const writers, each = 8, 12
		replicas := []*replica{startReplica(t, b.store), startReplica(t, b.store), openReplica(t, b.store)}
		var ids [writers][each]uuid.UUID
		for w := range ids {
			for i := range ids[w] {
				// Different identities, so that they do not wait for each other.
				ids[w][i] = b.loggedIn(fmt.Sprint("o-", w))
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var asking, writing sync.WaitGroup
		asking.Go(func() {
			for ctx.Err() == nil {
				if err := replicas[2].CatchUp(t.Context()); err != nil && auth.CodeOf(err) != auth.StorageUnavailable {
					t.Error(err)
				}
			}
		})
		for w := range ids {
			writing.Go(func() {
				for _, id := range ids[w] {
					if err := b.endNow(id); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writing.Wait()
		stop()
		asking.Wait()
		for _, r := range replicas {
			r.catchUp()
			if n := len(r.Page("", 1000, cutoffs.Subscriber{}).Cutoffs); n != writers*each {
				t.Errorf("%d cutoffs, want %d", n, writers*each)
			}
		}
	})
}

// split listens on one store and reads from another.
type split struct {
	asks, listens cutoffs.Store
	ended         atomic.Int32
}

func (s *split) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	return s.asks.Cutoffs(ctx, after, limit)
}

func (s *split) Listen(ctx context.Context, wake func()) error {
	defer s.ended.Add(1)
	return s.listens.Listen(ctx, wake)
}

func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	through := func(t *testing.T, b *bed, p *pgtest.Proxy) *postgres.Store {
		t.Helper()
		u, err := url.Parse(b.dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = p.Addr()
		s := openStore(t, u.String())
		// Otherwise closing the pool would wait until the half-open ones time out.
		t.Cleanup(p.Cut)
		return s
	}
	proxy := func(t *testing.T, b *bed) *pgtest.Proxy {
		t.Helper()
		u, err := url.Parse(b.dsn)
		if err != nil {
			t.Fatal(err)
		}
		return pgtest.NewProxy(t, u.Host)
	}
	t.Run("a half-open listening connection is detected, and no cutoff is late", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		p := proxy(t, b)
		s := &split{asks: b.store, listens: through(t, b, p)}
		r := startReplica(t, s)
		until(t, "it listens", func() bool { return b.listeners() == 1 })
		p.Swallow()
		for range 3 {
			r.untilKnown(b.revoked())
		}
		until(t, "the silence is noticed", func() bool { return s.ended.Load() >= 1 })
		// The server has not noticed the end of the first one.
		until(t, "it listens again", func() bool { return b.listeners() >= 2 })
		r.untilKnown(b.revoked())
	})
	t.Run("a connection that becomes half-open before it listens is replaced, and no cutoff is late", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		p := proxy(t, b)
		s := &split{asks: b.store, listens: through(t, b, p)}
		swallowed := p.SwallowAt("listen yufu_cutoffs")
		r := startReplica(t, s)
		until(t, "it asks to listen", swallowed)
		for range 3 {
			r.untilKnown(b.revoked())
		}
		until(t, "the silence is noticed", func() bool { return s.ended.Load() >= 1 })
		// The server never received the first one's request.
		until(t, "it listens", func() bool { return b.listeners() == 1 })
		r.untilKnown(b.revoked())
	})
	t.Run("a half-open idle connection is kept", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		ctx, stop := context.WithCancel(t.Context())
		var wakes atomic.Int32
		ended := make(chan error, 1)
		go func() { ended <- b.store.Listen(ctx, func() { wakes.Add(1) }) }()
		until(t, "it listens", func() bool { return wakes.Load() == 1 })
		// Without notifications it pings the server.
		until(t, "it has asked", func() bool {
			return b.number(b.raw, `
select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'yufu' and query = '-- ping'`) == 1
		})
		b.revoked()
		until(t, "it is woken", func() bool { return wakes.Load() == 2 })
		stop()
		if err := <-ended; err != context.Canceled { //nolint:errorlint // as it is, not wrapped
			t.Errorf("Listen() error = %v, want unwrapped context.Canceled", err)
		}
	})
	t.Run("a half-open query connection costs one query", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		p := proxy(t, b)
		r := startReplica(t, through(t, b, p))
		until(t, "it listens", func() bool { return b.listeners() == 1 })
		p.Swallow()
		r.untilKnown(b.revoked())
	})
	t.Run("half-open connections increase the age until they work again", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		p := proxy(t, b)
		r := startReplica(t, through(t, b, p))
		p.Deafen(true)
		p.Swallow()
		id := b.revoked()
		until(t, "the age has grown", func() bool { return r.Age() > 5*time.Second })
		if r.knows(id) {
			t.Error("the follower learned of a cutoff over a half-open connection")
		}
		p.Deafen(false)
		r.untilKnown(id)
		until(t, "the age has fallen", func() bool { return r.Age() < 2*time.Second })
	})
}

// listeners returns the number of listening connections to this database.
func (b *bed) listeners() int {
	b.t.Helper()
	return b.number(b.raw, `
select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'yufu' and query in ('listen yufu_cutoffs', '-- ping')`)
}

func TestDatabaseCutOff(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	b := &bed{t: t, store: openStore(t, server.DSN("postgres")), raw: openRaw(t, server.DSN("postgres"))}
	if err := b.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	b.addApp()
	known := b.revoked()
	r := startReplica(t, b.store)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "the age has grown", func() bool { return r.Age() > 4*time.Second })
	if !r.knows(known) {
		t.Error("the replica forgot a known cutoff")
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the age has fallen", func() bool { return r.Age() < 2*time.Second })
	r.untilKnown(b.revoked())
}

// TestNewTimeline checks that the timeline gets another name whenever ids get another
// meaning.
func TestNewTimeline(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(b *bed){
		// The effect of pg_dump and pg_restore into a database of the same name.
		"restored into a new database": func(b *bed) {
			b.exec(b.admin, `drop database yufu with (force)`)
			b.exec(b.admin, `alter database yufu_dump rename to yufu`)
		},
		"restored over its tables": func(b *bed) {
			b.exec(b.raw, `create table dump as table cutoffs`)
			b.exec(b.raw, `delete from dump where id > 2`)
			b.exec(b.raw, `drop table cutoffs`)
			b.exec(b.raw, `create table cutoffs (id bigint generated by default as identity primary key, kind text not null,
  session_id uuid, session_appid text, ver bigint, appid text, epoch bigint, kid text, created_at timestamptz not null, expires_at timestamptz)`)
			b.exec(b.raw, `insert into cutoffs table dump`)
			b.exec(b.raw, `select setval('cutoffs_id_seq', 2)`)
		},
		"restored into its tables": func(b *bed) {
			b.exec(b.raw, `create table dump as table cutoffs`)
			b.exec(b.raw, `delete from dump where id > 2`)
			b.exec(b.raw, `truncate cutoffs restart identity`)
			b.exec(b.raw, `insert into cutoffs table dump`)
			b.exec(b.raw, `select setval('cutoffs_id_seq', 2)`)
		},
		"restored row by row": func(b *bed) {
			b.exec(b.raw, `delete from cutoffs where id > 2`)
			b.exec(b.raw, `select setval('cutoffs_id_seq', 2)`)
		},
		"restarted": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.NewServer(t)
			b := &bed{t: t, dsn: server.DSN("yufu"), admin: openRaw(t, server.DSN("postgres"))}
			b.exec(b.admin, `create database yufu`)
			b.store, b.raw = openStore(t, b.dsn), openRaw(t, b.dsn)
			if err := b.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
				t.Fatal(err)
			}
			b.addApp()
			dumped := []uuid.UUID{b.revoked(), b.revoked()}
			b.store.Close()
			_ = b.raw.Close()
			b.exec(b.admin, `create database yufu_dump template yufu`)
			b.store, b.raw = openStore(t, b.dsn), openRaw(t, b.dsn)

			lost := []uuid.UUID{b.revoked(), b.revoked()}
			r := openReplica(t, b.store)
			was := lastID(t, r.Subscribe("", cutoffs.Subscriber{}))
			sub := r.Subscribe("", cutoffs.Subscriber{})
			_ = lastID(t, sub)
			if replace != nil {
				replace(b)
			} else if err := errors.Join(server.Stop(), server.Start()); err != nil {
				t.Fatal(err)
			}
			// Its connections may be broken.
			b.store = openStore(t, b.dsn)
			until(t, "it has caught up", func() bool { return r.CatchUp(t.Context()) == nil })
			fresh := b.revoked()
			r.catchUp()
			for _, id := range slices.Concat(dumped, lost, []uuid.UUID{fresh}) {
				if !r.knows(id) {
					t.Errorf("session %s is no longer known as revoked", id)
				}
			}
			events := eventsOf(t, sub)
			if len(events) == 0 || events[0].Name != cutoff.EventReset {
				t.Fatalf("the subscriber was not reset: got %d events", len(events))
			}
			told := map[string]bool{}
			for _, e := range eventsOf(t, r.Subscribe("", cutoffs.Subscriber{})) {
				if c, err := cutoff.ParseCutoff(e.Data); err == nil {
					told[c.Session] = true
				}
			}
			for _, id := range slices.Concat(dumped, lost, []uuid.UUID{fresh}) {
				if !told[id.String()] {
					t.Errorf("a new subscriber does not learn of %s", id)
				}
			}
			if name != "restored row by row" {
				// The old id is invalid, although there is a cutoff with that number.
				b.revoked()
				b.revoked()
				r.catchUp()
				if events := eventsOf(t, r.Subscribe(was, cutoffs.Subscriber{})); events[0].Name != cutoff.EventReset {
					t.Errorf("%s is resumed with %s", was, events[0].Name)
				}
			}
		})
	}
}

func eventsOf(t *testing.T, s *cutoffs.Subscription) []cutoff.Event {
	t.Helper()
	b, _, err := s.Next(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := cutoff.NewReader(bytes.NewReader(b))
	var all []cutoff.Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

func lastID(t *testing.T, s *cutoffs.Subscription) string {
	t.Helper()
	events := eventsOf(t, s)
	return events[len(events)-1].ID
}

// TestFollowAsAnyRole checks that following needs no privilege beyond those on the
// tables.
func TestFollowAsAnyRole(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	admin := openRaw(t, server.DSN("postgres"))
	b := &bed{t: t, raw: admin}
	for _, sql := range []string{
		`create role owner login`, `create role clerk login`, `create role reader login`,
		`create database yufu owner owner`,
	} {
		b.exec(admin, sql)
	}
	as := func(role string) *bed {
		u, err := url.Parse(server.DSN("yufu"))
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User(role)
		return &bed{t: t, store: openStore(t, u.String()), raw: openRaw(t, u.String())}
	}
	owner := as("owner")
	if err := owner.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	owner.addApp()
	id := owner.revoked()
	owner.exec(owner.raw, `grant select, insert, update, delete on all tables in schema public to clerk`)
	owner.exec(owner.raw, `grant select on cutoffs, deployment, signing_keys, apps to reader`)
	want, err := as("postgres").store.Cutoffs(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"owner", "clerk", "reader"} {
		r := startReplica(t, as(role).store)
		r.untilKnown(id)
		got, err := as(role).store.Cutoffs(t.Context(), 0, 10)
		if err != nil || got.Timeline != want.Timeline || got.Last != want.Last {
			t.Errorf("Cutoffs() as %s = timeline %q, last %d, error %v; want %q, %d", role, got.Timeline, got.Last, err, want.Timeline, want.Last)
		}
		// This does not change when the newest cutoff is deleted.
		if _, err := owner.store.DeleteExpired(t.Context(), now, time.Now().Add(24*time.Hour), 10); err != nil {
			t.Fatal(err)
		}
		got, err = as(role).store.Cutoffs(t.Context(), want.Last, 10)
		if err != nil || got.Last != want.Last {
			t.Errorf("Cutoffs() as %s = last %d, error %v; want %d", role, got.Last, err, want.Last)
		}
		id = owner.revoked()
		r.untilKnown(id)
		if want, err = as("postgres").store.Cutoffs(t.Context(), 0, 10); err != nil {
			t.Fatal(err)
		}
	}
	if err := as("clerk").endNow(owner.loggedIn("o-1")); err != nil {
		t.Errorf("Revoke() as a role that may only change rows: error = %v", err)
	}
}
