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
)

// These tests hold a transaction open beside the store and look at what a call
// does that has to wait for it. They would pass by luck if they slept, so they
// ask PostgreSQL who is waiting.

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const (
	appID = "wxaaaaaaaaaaaaaaaa"
	idle  = 30 * 24 * time.Hour
)

// bed is a store and a way around it.
type bed struct {
	t     *testing.T
	store *postgres.Store
	raw   *sql.DB
}

func newBed(t *testing.T) *bed {
	t.Helper()
	h := open(t)
	b := &bed{t: t, store: h.Store.(*postgres.Store), raw: h.DB}
	b.addApp()
	return b
}

func (b *bed) addApp() {
	b.t.Helper()
	err := b.store.AddApp(b.t.Context(), auth.App{ID: appID, Platform: auth.PlatformWeChat, SealedSecret: []byte("s")},
		auth.AuditEvent{At: now, Action: auth.AuditAppAdded, Actor: auth.ActorCLI})
	if err != nil {
		b.t.Fatal(err)
	}
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

func exchangeParams() session.ExchangeParams {
	return session.ExchangeParams{
		AppID: appID, OpenID: "o-1", SealedSessionKey: []byte("k"), NewIdentity: newID(), NewSession: newID(),
		Now: now, IdleTTL: idle, MaxTTL: 2 * idle,
	}
}

func (b *bed) exchange() auth.Session {
	b.t.Helper()
	g, err := b.store.Exchange(b.t.Context(), exchangeParams())
	if err != nil {
		b.t.Fatal(err)
	}
	return g.Session
}

func refreshParams(id uuid.UUID, presented uint32) session.RefreshParams {
	return session.RefreshParams{Session: id, Presented: presented, AppID: appID, Now: now, Grace: time.Minute, IdleTTL: idle}
}

func (b *bed) rotate(id uuid.UUID, presented uint32) {
	b.t.Helper()
	if _, err := b.store.Refresh(b.t.Context(), refreshParams(id, presented)); err != nil {
		b.t.Fatal(err)
	}
}

func endParams(id uuid.UUID) session.EndParams {
	return session.EndParams{Session: id, AppID: appID, Reason: auth.EndLogout, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditSessionLogout, Actor: auth.ActorBearer}}
}

// begin opens a transaction beside the store.
func (b *bed) begin() *sql.Tx {
	b.t.Helper()
	tx, err := b.raw.BeginTx(context.WithoutCancel(b.t.Context()), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (b *bed) exec(e execer, query string, args ...any) {
	b.t.Helper()
	if _, err := e.ExecContext(b.t.Context(), query, args...); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
}

func (b *bed) number(e execer, query string, args ...any) int {
	b.t.Helper()
	var n int
	if err := e.QueryRowContext(b.t.Context(), query, args...).Scan(&n); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (b *bed) commit(tx *sql.Tx) {
	b.t.Helper()
	if err := tx.Commit(); err != nil {
		b.t.Fatal(err)
	}
}

// untilWaiting returns when so many backends of this database wait for a lock
// of the kind ("transactionid" for a row, "advisory").
func (b *bed) untilWaiting(n int, kind string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	for {
		var waiting int
		err := b.raw.QueryRowContext(ctx, `
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and wait_event = any (string_to_array($1, ','))`, kind).Scan(&waiting)
		if err != nil {
			b.t.Fatalf("waiting for %d to wait for a lock (%s): %v", n, kind, err)
		}
		if waiting == n {
			return
		}
	}
}

const (
	row      = "transactionid,tuple"
	advisory = "advisory"
)

type result struct {
	granted session.Granted
	err     error
}

// start runs a call in the background.
func start(call func() (session.Granted, error)) <-chan result {
	done := make(chan result, 1)
	go func() {
		g, err := call()
		done <- result{g, err}
	}()
	return done
}

func (b *bed) startExchange(x session.ExchangeParams) <-chan result {
	return start(func() (session.Granted, error) { return b.store.Exchange(b.t.Context(), x) })
}

func (b *bed) startRefresh(r session.RefreshParams) <-chan result {
	return start(func() (session.Granted, error) { return b.store.Refresh(b.t.Context(), r) })
}

func (b *bed) startEnd(id uuid.UUID) <-chan result {
	return start(func() (session.Granted, error) {
		return session.Granted{}, b.store.End(b.t.Context(), endParams(id))
	})
}

func (b *bed) person() auth.Person {
	return auth.Person{ID: newID(), ExternalID: "E-1", Name: "王小明"}
}

func (b *bed) insertPerson(e execer, p auth.Person) {
	b.t.Helper()
	b.exec(e, `insert into persons (id, external_id, name, created_at) values ($1, $2, $3, $4)`, p.ID, p.ExternalID, p.Name, now)
}

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
	t.Run("an_exchange_that_waits_for_the_ban_is_refused_and_leaves_no_session", func(t *testing.T) {
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
			t.Errorf("error %v, want identity_disabled", r.err)
		}
		if n := b.number(b.raw, `select count(*) from sessions where ended_at is null`); n != 0 {
			t.Errorf("%d sessions escaped the ban", n)
		}
	})
	t.Run("a_ban_that_waits_for_the_exchange_ends_its_session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.person()
		b.insertPerson(b.raw, p)
		b.exec(b.raw, `update identities set person_id = $2 where uuid = $1`, s.Identity, p.ID)
		// The exchange holds the identity and stops at the foreign key.
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
		if r := <-exchanged; r.err != nil {
			t.Fatal(r.err)
		}
		if n := <-ended; n != 2 {
			t.Errorf("the ban ended %d sessions, want both", n)
		}
	})
	t.Run("an_exchange_that_waits_for_a_bind_carries_the_new_person", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.person()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(1, row)
		// The person is younger than the exchange's snapshot.
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
	})
	t.Run("two_first_log_ins_at_once_share_the_identity", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		first := newID()
		tx := b.begin()
		b.exec(tx, `insert into identities (uuid, appid, openid, sealed_session_key, created_at, last_login_at) values ($1, $2, 'o-1', 'k', $3, $3)`, first, appID, now)
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(1, row)
		b.commit(tx)
		r := <-exchanged
		if r.err != nil || r.granted.Session.Identity != first {
			t.Errorf("uuid %s, error %v; want %s", r.granted.Session.Identity, r.err, first)
		}
	})
}

func TestRefreshBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	t.Run("a_refresh_that_waits_for_a_bind_carries_the_new_person_and_ver", func(t *testing.T) {
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
			t.Errorf("ver %d, person %v, generation %d; want 2, %v, 2", got.Ver, got.Person, got.Generation, p)
		}
	})
	t.Run("a_refresh_that_waits_for_an_unbind_carries_nobody", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.person()
		b.insertPerson(b.raw, p)
		b.exec(b.raw, `update identities set person_id = $2 where uuid = $1`, s.Identity, p.ID)
		b.exec(b.raw, `update sessions set person_id = $2, ver = 2 where id = $1`, s.ID, p.ID)
		tx := b.begin()
		b.exec(tx, `update identities set person_id = null where uuid = $1`, s.Identity)
		b.exec(tx, `update sessions set person_id = null, ver = ver + 1 where id = $1`, s.ID)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		b.commit(tx)
		r := <-refreshed
		if r.err != nil || r.granted.Session.Person != nil || r.granted.Session.Ver != 3 {
			t.Errorf("person %v, ver %d, error %v; want nobody, 3", r.granted.Session.Person, r.granted.Session.Ver, r.err)
		}
	})
	t.Run("a_refresh_that_waits_for_a_rebind_carries_the_other_person", func(t *testing.T) {
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
	t.Run("a_refresh_that_waits_for_an_end_is_revoked", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		tx := b.begin()
		b.exec(tx, `update sessions set ended_at = $2, end_reason = 'banned' where id = $1`, s.ID, now)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		b.commit(tx)
		if r := <-refreshed; !errors.Is(r.err, auth.SessionRevoked) {
			t.Errorf("error %v, want session_revoked", r.err)
		}
	})
	t.Run("a_refresh_that_is_cancelled_while_it_waits_leaves_nothing", func(t *testing.T) {
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
					t.Errorf("error %v, want context.Canceled itself", r.err)
				}
				// The server is told to give up as well: nobody waits any more,
				// and nothing happens once the lock is free.
				b.untilWaiting(0, row)
				b.commit(tx)
				if diff := cmp.Diff(before, b.dump()); diff != "" {
					t.Errorf("the cancelled call left something:\n%s", diff)
				}
			})
		}
	})
}

// dump is all that a refresh could change.
func (b *bed) dump() string {
	b.t.Helper()
	var s string
	err := b.raw.QueryRowContext(b.t.Context(), `
select concat((select jsonb_agg(to_jsonb(s)) from sessions s), (select jsonb_agg(to_jsonb(a)) from audit a),
  (select jsonb_agg(to_jsonb(c)) from cutoffs c))`).Scan(&s)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func TestEndingPathsBesideEachOther(t *testing.T) {
	t.Parallel()
	t.Run("the_second_ender_gets_no_cutoff_id_until_the_first_has_committed", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		first, second := b.exchange(), b.exchange()
		// As an ending path does: the lock, then the id, then a commit that
		// takes its time.
		tx := b.begin()
		b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
		id := b.number(tx, `insert into cutoffs (kind, session_id, ver, created_at, expires_at) values ('session', $1, 0, $2, $2) returning id`, first.ID, now)
		ended := b.startEnd(second.ID)
		b.untilWaiting(1, advisory)
		if last := b.number(b.raw, `select last_value from pg_sequences, pg_get_serial_sequence('cutoffs', 'id') s where schemaname || '.' || sequencename = s`); last != id {
			t.Errorf("the sequence stands at %d while the first holds %d", last, id)
		}
		b.commit(tx)
		if r := <-ended; r.err != nil {
			t.Fatal(r.err)
		}
		if got := b.number(b.raw, `select id from cutoffs where session_id = $1`, second.ID); got <= id {
			t.Errorf("second cutoff %d, first %d", got, id)
		}
	})
	t.Run("a_late_replay_beside_a_log_out_ends_the_session_once_for_one_reason", func(t *testing.T) {
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
			if r := <-ended; r.err != nil {
				t.Fatal(r.err)
			}
			r := <-refreshed
			reason, want := "", "logout"
			if err := b.raw.QueryRow(`select end_reason from sessions where id = $1`, s.ID).Scan(&reason); err != nil {
				t.Fatal(err)
			}
			switch {
			case errors.Is(r.err, auth.RefreshReused):
				want = "refresh.replay_late"
			case !errors.Is(r.err, auth.SessionRevoked):
				t.Fatalf("Refresh: %v", r.err)
			}
			if reason != want {
				t.Errorf("reason %q, but the refresh answered %v", reason, r.err)
			}
			if n := b.number(b.raw, `select count(*) from cutoffs`); n != 1 {
				t.Errorf("%d cutoffs, want 1", n)
			}
			if n := b.number(b.raw, `select count(*) from audit where session_id = $1`, s.ID); n != 1 {
				t.Errorf("%d audit events, want 1", n)
			}
		}
	})
	t.Run("a_late_replay_waits_for_the_identity_before_it_touches_the_session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		b.rotate(s.ID, 1)
		b.rotate(s.ID, 2)
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		// Were the session locked first, this would fail at once, and the two
		// orders would deadlock.
		b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
		b.commit(tx)
		if r := <-refreshed; !errors.Is(r.err, auth.RefreshReused) {
			t.Errorf("error %v, want refresh_reused", r.err)
		}
	})
	t.Run("a_log_out_waits_for_the_identity_before_it_touches_the_session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		ended := b.startEnd(s.ID)
		b.untilWaiting(1, row)
		b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
		b.commit(tx)
		if r := <-ended; r.err != nil {
			t.Error(r.err)
		}
	})
	t.Run("deleting_passes_over_a_locked_row", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		held, free := b.exchange(), b.exchange()
		tx := b.begin()
		b.exec(tx, `select from sessions where id = $1 for update`, held.ID)
		n, err := b.store.DeleteExpired(t.Context(), now.Add(3*idle), now, 10)
		if err != nil || n != 1 {
			t.Errorf("%d rows gone, error %v; want 1", n, err)
		}
		if left := b.number(tx, `select count(*) from sessions where id = $1`, free.ID); left != 0 {
			t.Error("the free row stayed")
		}
	})
}
