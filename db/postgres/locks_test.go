package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// These tests hold a transaction open and check a call that waits for it. With sleeps
// they could pass by luck, so they ask PostgreSQL which calls wait.

func TestExchangeBesideABan(t *testing.T) {
	t.Parallel()
	ban := func(b *bed, tx *sql.Tx, identity uuid.UUID) (ended int) {
		b.exec(tx, `update identities set disabled_at = $2 where uuid = $1`, identity, now)
		res, err := tx.ExecContext(b.t.Context(), `update sessions set ended_at = $2, end_reason = 'banned' where identity_uuid = $1`, identity, now)
		if err != nil {
			b.t.Fatal(err)
		}
		n, _ := res.RowsAffected()
		return int(n)
	}
	t.Run("an exchange that waits for the ban is refused and starts no session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(1, row)
		if n := ban(b, tx, s.Identity); n != 1 {
			t.Fatalf("the ban ended %d sessions, want 1", n)
		}
		b.commit(tx)
		if r := <-exchanged; !errors.Is(r.err, auth.IdentityDisabled) {
			t.Errorf("Exchange() error = %v, want identity_disabled", r.err)
		}
		if n := b.number(b.raw, `select count(*) from sessions where ended_at is null`); n != 0 {
			t.Errorf("%d sessions are live after the ban, want 0", n)
		}
	})
	t.Run("a ban that waits for the exchange ends its session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.personOf(s)
		// The exchange holds the identity and waits at the foreign key.
		holder := b.begin()
		b.exec(holder, `select from persons where id = $1 for update`, p.ID)
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(1, row)
		ended := make(chan int, 1)
		go func() {
			defer close(ended)
			tx := b.begin()
			b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
			n := ban(b, tx, s.Identity)
			b.commit(tx)
			ended <- n
		}()
		b.untilWaiting(2, row)
		b.commit(holder)
		b.succeeds(<-exchanged)
		if n := <-ended; n != 2 {
			t.Errorf("the ban ended %d sessions, want 2", n)
		}
	})
	t.Run("an exchange that waits for a bind carries the new person", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.person()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(1, row)
		// The person is newer than the exchange's snapshot.
		b.insertPerson(tx, p)
		b.exec(tx, `update identities set person_id = $2 where uuid = $1`, s.Identity, p.ID)
		b.commit(tx)
		r := <-exchanged
		if r.err != nil {
			t.Fatal(r.err)
		}
		if diff := cmp.Diff(&p, r.granted.Session.Person); diff != "" {
			t.Errorf("person (-want +got):\n%s", diff)
		}
		st, err := b.store.Session(t.Context(), r.granted.Session.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.granted.Session, st.Session); diff != "" {
			t.Errorf("the row differs (-granted +row):\n%s", diff)
		}
	})
	t.Run("two concurrent first log-ins share the identity", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		first := shardtest.NewID(appID, auth.OpenIDAccount("o-1"))
		tx := b.begin()
		b.exec(tx, `insert into identities (uuid, shard, appid, subject_kind, subject, sealed_session_key, created_at, last_login_at) values ($1, $4, $2, 'openid', 'o-1', 'k', $3, $3)`, first, appID, now, shard.Of(first))
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(1, row)
		b.commit(tx)
		r := <-exchanged
		if r.err != nil || r.granted.Session.Identity != first {
			t.Errorf("Exchange() = uuid %s, error %v; want %s", r.granted.Session.Identity, r.err, first)
		}
	})
}

func TestRefreshBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	t.Run("a refresh that waits for a bind carries the new person and ver", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.person()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		b.exec(tx, `select from sessions where id = $1 for update`, s.ID)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		b.insertPerson(tx, p)
		b.exec(tx, `update identities set person_id = $2 where uuid = $1`, s.Identity, p.ID)
		b.exec(tx, `update sessions set person_id = $2, ver = ver + 1 where id = $1`, s.ID, p.ID)
		b.commit(tx)
		r := <-refreshed
		if r.err != nil {
			t.Fatal(r.err)
		}
		if got := r.granted.Session; got.Ver != 2 || cmp.Diff(&p, got.Person) != "" || got.Generation != 2 {
			t.Errorf("Refresh() = ver %d, person %v, generation %d; want 2, %v, 2", got.Ver, got.Person, got.Generation, p)
		}
	})
	t.Run("a refresh that waits for an unbind has no person", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.personOf(s)
		b.exec(b.raw, `update sessions set person_id = $2, ver = 2 where id = $1`, s.ID, p.ID)
		tx := b.begin()
		b.exec(tx, `update identities set person_id = null where uuid = $1`, s.Identity)
		b.exec(tx, `update sessions set person_id = null, ver = ver + 1 where id = $1`, s.ID)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		b.commit(tx)
		r := <-refreshed
		if r.err != nil || r.granted.Session.Person != nil || r.granted.Session.Ver != 3 {
			t.Errorf("Refresh() = person %v, ver %d, error %v; want nil, 3, nil", r.granted.Session.Person, r.granted.Session.Ver, r.err)
		}
	})
	t.Run("a refresh that waits for a rebind carries the other person", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		old, other := b.person(), auth.Person{ID: newID(), ExternalID: "E-2", Name: "李"}
		b.insertPerson(b.raw, old)
		b.insertPerson(b.raw, other)
		b.exec(b.raw, `update sessions set person_id = $2, ver = 2 where id = $1`, s.ID, old.ID)
		// Ahead of the row, so that it is judged under locks.
		for _, presented := range []uint32{1, 9} {
			tx := b.begin()
			b.exec(tx, `update sessions set person_id = $2, ver = ver + 1 where id = $1`, s.ID, other.ID)
			refreshed := b.startRefresh(refreshParams(s.ID, presented))
			b.untilWaiting(1, row)
			b.commit(tx)
			r := <-refreshed
			if r.err != nil {
				t.Fatal(r.err)
			}
			if diff := cmp.Diff(&other, r.granted.Session.Person); diff != "" {
				t.Errorf("person with generation %d (-want +got):\n%s", presented, diff)
			}
			b.exec(b.raw, `update sessions set person_id = $2, ver = ver + 1 where id = $1`, s.ID, old.ID)
		}
	})
	t.Run("a refresh that waits for an end is revoked", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		tx := b.begin()
		b.exec(tx, `update sessions set ended_at = $2, end_reason = 'banned' where id = $1`, s.ID, now)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		b.commit(tx)
		if r := <-refreshed; !errors.Is(r.err, auth.SessionRevoked) {
			t.Errorf("Refresh() error = %v, want session_revoked", r.err)
		}
	})
	t.Run("a refresh cancelled while it waits writes nothing", func(t *testing.T) {
		t.Parallel()
		for name, presented := range map[string]uint32{"current": 3, "stolen": 1} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				s := b.exchange()
				b.rotate(s.ID, 1)
				b.rotate(s.ID, 2)
				before := b.dump()
				tx := b.begin()
				b.exec(tx, `select from sessions where id = $1 for update`, s.ID)
				ctx, cancel := context.WithCancel(t.Context())
				refreshed := start(func() (session.Granted, error) { return b.store.Refresh(ctx, refreshParams(s.ID, presented)) })
				b.untilWaiting(1, row)
				cancel()
				if r := <-refreshed; r.err != context.Canceled { //nolint:errorlint // as it is, not wrapped
					t.Errorf("Refresh() error = %v, want unwrapped context.Canceled", r.err)
				}
				// The cancellation reaches the server too: no call waits any more, and the
				// release of the lock has no effect.
				b.untilWaiting(0, row)
				b.commit(tx)
				if diff := cmp.Diff(before, b.dump()); diff != "" {
					t.Errorf("the cancelled call changed rows:\n%s", diff)
				}
			})
		}
	})
}

func TestEndingPathsBesideEachOther(t *testing.T) {
	t.Parallel()
	t.Run("the second call gets no cutoff id until the first has committed", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		first, second := b.exchange(), b.exchange()
		// As a path that ends a session: the lock, then the id, then a slow commit.
		tx := b.begin()
		b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
		id := b.number(tx, `insert into cutoffs (kind, session_id, ver, created_at, expires_at) values ('session', $1, 0, $2, $2) returning id`, first.ID, now)
		ended := b.startEnd(second.ID)
		b.untilWaiting(1, advisory)
		// A shared lock would wait for this transaction too, but for no other call that
		// ends a session.
		if n := b.number(b.raw, `select count(*) from pg_locks l join pg_database d on d.oid = l.database
			where d.datname = current_database() and locktype = 'advisory' and not granted and mode = 'ExclusiveLock'`); n != 1 {
			t.Errorf("%d calls wait for the exclusive lock, want 1", n)
		}
		if last := b.number(b.raw, `select last_value from pg_sequences, pg_get_serial_sequence('cutoffs', 'id') s where schemaname || '.' || sequencename = s`); last != id {
			t.Errorf("the sequence is at %d while the first call holds %d", last, id)
		}
		b.commit(tx)
		b.succeeds(<-ended)
		if got := b.number(b.raw, `select id from cutoffs where session_id = $1`, second.ID); got <= id {
			t.Errorf("second cutoff id = %d, first = %d", got, id)
		}
	})
	t.Run("a repeated log-out waits for no lock", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		b.succeeds(<-b.startEnd(s.ID))
		// As another repetition that waits for the standby would, if it took locks.
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		b.exec(tx, `select from sessions where id = $1 for update`, s.ID)
		b.succeeds(<-b.startEnd(s.ID))
		b.commit(tx)
	})
	t.Run("a late replay and a log-out end the session once, for one reason", func(t *testing.T) {
		t.Parallel()
		for range 5 {
			b := newBed(t)
			s := b.exchange()
			b.rotate(s.ID, 1)
			tx := b.begin()
			b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
			late := refreshParams(s.ID, 1)
			late.Now = now.Add(time.Hour)
			refreshed, ended := b.startRefresh(late), b.startEnd(s.ID)
			b.untilWaiting(2, row)
			b.commit(tx)
			b.succeeds(<-ended)
			r := <-refreshed
			reason, want := "", "logout"
			if err := b.raw.QueryRow(`select end_reason from sessions where id = $1`, s.ID).Scan(&reason); err != nil {
				t.Fatal(err)
			}
			switch {
			case errors.Is(r.err, auth.RefreshReused):
				want = "refresh.replay_late"
			case !errors.Is(r.err, auth.SessionRevoked):
				t.Fatalf("Refresh() error = %v", r.err)
			}
			if reason != want {
				t.Errorf("end reason = %q, but Refresh() error = %v", reason, r.err)
			}
			if n := b.number(b.raw, `select count(*) from cutoffs`); n != 1 {
				t.Errorf("%d cutoffs, want 1", n)
			}
			if n := b.number(b.raw, `select count(*) from audit where session_id = $1`, s.ID); n != 1 {
				t.Errorf("%d audit events, want 1", n)
			}
		}
	})
	t.Run("a late replay waits for the identity before it touches the session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		b.rotate(s.ID, 1)
		b.rotate(s.ID, 2)
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		// If the session were locked first, this would fail at once, and the two orders
		// would deadlock.
		b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
		b.commit(tx)
		if r := <-refreshed; !errors.Is(r.err, auth.RefreshReused) {
			t.Errorf("Refresh() error = %v, want refresh_reused", r.err)
		}
	})
	t.Run("a log-out waits for the identity before it touches the session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		ended := b.startEnd(s.ID)
		b.untilWaiting(1, row)
		b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
		b.commit(tx)
		b.succeeds(<-ended)
	})
	t.Run("deleting skips a locked row", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		held, free := b.exchange(), b.exchange()
		tx := b.begin()
		b.exec(tx, `select from sessions where id = $1 for update`, held.ID)
		n, err := b.store.DeleteExpired(t.Context(), now.Add(3*idle), now, 10)
		if err != nil || n != 1 {
			t.Errorf("DeleteExpired() = %d, %v; want 1, nil", n, err)
		}
		if left := b.number(tx, `select count(*) from sessions where id = $1`, free.ID); left != 0 {
			t.Error("the unlocked row was not deleted")
		}
	})
}
