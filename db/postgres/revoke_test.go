package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func identityOf(s auth.Session) session.Target { return session.Target{Identity: s.Identity} }

// liveOf returns the number of the identity's sessions that have not ended.
func (b *bed) liveOf(identity uuid.UUID) int {
	b.t.Helper()
	return b.number(b.raw, `select count(*) from sessions where identity_uuid = $1 and ended_at is null`, identity)
}

// wantCutoffs checks that there are want cutoffs, exactly one for each ended session.
func (b *bed) wantCutoffs(want int) {
	b.t.Helper()
	if n := b.number(b.raw, `select count(*) from cutoffs`); n != want {
		b.t.Errorf("%d cutoffs, want %d", n, want)
	}
	if n := b.number(b.raw, `
select count(*) from sessions s
where (s.ended_at is not null) <> (1 = (select count(*) from cutoffs c where c.session_id = s.id))`); n != 0 {
		b.t.Errorf("%d sessions whose end and cutoff disagree, want 0", n)
	}
}

func TestRevokeBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	t.Run("it waits for a log-in and ends its session", func(t *testing.T) {
		t.Parallel()
		for name, target := range map[string]func(auth.Session, auth.Person) session.Target{
			"identity": func(s auth.Session, _ auth.Person) session.Target { return identityOf(s) },
			"person":   func(_ auth.Session, p auth.Person) session.Target { return session.Target{Person: p.ID} },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				s := b.exchange()
				p := b.personOf(s)
				// The log-in holds the identity and waits at the foreign key.
				holder := b.begin()
				b.exec(holder, `select from persons where id = $1 for update`, p.ID)
				exchanged := b.startExchange(exchangeParams())
				b.untilWaiting(1, row)
				revoked := b.startRevoke(target(s, p))
				b.untilWaiting(2, row)
				b.commit(holder)
				b.succeeds(<-exchanged)
				b.succeeds(<-revoked)
				if n := b.liveOf(s.Identity); n != 0 {
					t.Errorf("%d sessions are still live, want 0", n)
				}
				b.wantCutoffs(2)
			})
		}
	})
	t.Run("it waits for a person's log-in at the identity", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.personOf(s)
		login := b.begin()
		b.exec(login, `update identities set last_login_at = $2 where uuid = $1`, s.Identity, now)
		b.exec(login, `
insert into sessions (id, shard, identity_uuid, appid, person_id, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at)
select $2, shard, identity_uuid, appid, $3, ver, epoch, 1, rotated_at, started_at, idle_expires_at, expires_at from sessions where id = $1`,
			s.ID, shardtest.NewIDBeside(s.ID), p.ID)
		revoked := b.startRevoke(session.Target{Person: p.ID})
		b.untilWaiting(1, row)
		b.commit(login)
		b.succeeds(<-revoked)
		if n := b.liveOf(s.Identity); n != 0 {
			t.Errorf("%d sessions are still live, want 0", n)
		}
		b.wantCutoffs(2)
	})
	t.Run("a log-in that waits for it starts a live session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		// The revocation holds the identity and waits for the session.
		holder := b.begin()
		b.exec(holder, `select from sessions where id = $1 for update`, s.ID)
		revoked := b.startRevoke(identityOf(s))
		b.untilWaiting(1, row)
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(2, row)
		b.commit(holder)
		b.succeeds(<-revoked)
		r := <-exchanged
		if r.err != nil {
			t.Fatal(r.err)
		}
		b.wantCutoffs(1)
		b.rotate(r.granted.Session.ID, 1)
	})
	t.Run("it waits for a refresh and ends its session", func(t *testing.T) {
		t.Parallel()
		for name, target := range map[string]func(auth.Session) session.Target{
			"session": func(s auth.Session) session.Target { return session.Target{Session: s.ID} }, "identity": identityOf,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				s := b.exchange()
				refresh := b.begin()
				b.exec(refresh, `update sessions set generation = 2 where id = $1`, s.ID)
				revoked := b.startRevoke(target(s))
				b.untilWaiting(1, row)
				b.commit(refresh)
				b.succeeds(<-revoked)
				b.wantCutoffs(1)
				if _, err := b.store.Refresh(t.Context(), refreshParams(s.ID, 2)); !errors.Is(err, auth.SessionRevoked) {
					t.Errorf("Refresh() error = %v, want session_revoked", err)
				}
			})
		}
	})
	t.Run("a refresh that waits for it is refused", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		// The revocation has ended the session and waits before its cutoff.
		holder := b.begin()
		b.exec(holder, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
		revoked := b.startRevoke(identityOf(s))
		b.untilWaiting(1, advisory)
		refreshed := b.startRefresh(refreshParams(s.ID, 1))
		b.untilWaiting(1, row)
		b.commit(holder)
		b.succeeds(<-revoked)
		if r := <-refreshed; !errors.Is(r.err, auth.SessionRevoked) {
			t.Errorf("Refresh() error = %v, want session_revoked", r.err)
		}
		b.wantCutoffs(1)
	})
	t.Run("a concurrent log-out leaves one cutoff", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		holder := b.begin()
		b.exec(holder, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
		ended := b.startEnd(s.ID)
		b.untilWaiting(1, advisory)
		revoked := b.startRevoke(identityOf(s))
		b.untilWaiting(1, row)
		b.commit(holder)
		for _, done := range []<-chan result{ended, revoked} {
			b.succeeds(<-done)
		}
		b.wantCutoffs(1)
	})
	t.Run("it waits for a binding and includes the new identity", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.newPerson()
		bind := b.begin()
		b.exec(bind, `select from persons where id = $1 for no key update`, p.ID)
		revoked := b.startRevoke(session.Target{Person: p.ID})
		b.untilWaiting(1, row)
		b.exec(bind, `select from identities where uuid = $1 for update`, s.Identity)
		b.exec(bind, `update identities set person_id = $2 where uuid = $1`, s.Identity, p.ID)
		b.exec(bind, `update sessions set person_id = $2, ver = ver + 1 where identity_uuid = $1`, s.Identity, p.ID)
		b.commit(bind)
		b.succeeds(<-revoked)
		b.wantCutoffs(1)
	})
	t.Run("the identity is locked before its sessions", func(t *testing.T) {
		t.Parallel()
		for name, target := range map[string]func(auth.Session) session.Target{
			"session": func(s auth.Session) session.Target { return session.Target{Session: s.ID} }, "identity": identityOf,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				s := b.exchange()
				tx := b.begin()
				b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
				revoked := b.startRevoke(target(s))
				b.untilWaiting(1, row)
				b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
				b.commit(tx)
				b.succeeds(<-revoked)
			})
		}
	})
	t.Run("an app is revoked while all its sessions are locked", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		tx := b.begin()
		b.exec(tx, `select from identities for update`)
		b.exec(tx, `select from sessions for update`)
		if r := <-b.startRevoke(session.Target{AppID: appID}); r.err != nil {
			t.Fatal(r.err)
		}
		b.commit(tx)
		if _, err := b.store.Refresh(t.Context(), refreshParams(s.ID, 1)); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("Refresh() error = %v, want session_revoked", err)
		}
	})
}

func TestRevokeAppEstimates(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for range 20 {
		b.exchange()
	}
	postgres.SetCountTimeout(b.store, time.Nanosecond)
	got, err := b.store.Revoke(t.Context(), revokeParams(session.Target{AppID: appID}))
	if err != nil || got.Sessions < 1 || got.CutoffID == 0 {
		t.Errorf("Revoke() = %+v, error %v; want an estimate and a cutoff", got, err)
	}
	if n := b.number(b.raw, `
select count(*) from audit where action = 'revoked' and detail = jsonb_build_object('estimated', true, 'sessions', $1::int)`, got.Sessions); n != 1 {
		t.Error("the audit event does not mark the count as an estimate")
	}
}

// TestRevokeUsesIndexes checks that the cost of a revocation does not grow with rows that
// it does not concern.
func TestRevokeUsesIndexes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.raw.SetMaxOpenConns(1) // the setting is the connection's
	b.exec(b.raw, `set enable_seqscan = off`)
	for _, query := range []string{
		`select uuid from identities where person_id = '00000000-0000-7000-8000-000000000000'`,
		`select s.id from sessions s where s.identity_uuid = any ('{00000000-0000-7000-8000-000000000000}') and s.ended_at is null order by s.id for update`,
	} {
		var plan string
		if err := b.raw.QueryRow(`explain (format json) ` + query).Scan(&plan); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(plan, "Index Cond") {
			t.Errorf("the query reads a whole table: %s\n%s", query, plan)
		}
	}
}

// TestEstimateByShard checks the estimate on distributed tables, with one session in each
// shard.
func TestEstimateByShard(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	if err := openStore(t, dsn).Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := partitionInto(t.Context(), dsn, "4"); err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, store: openStore(t, dsn), raw: openRaw(t, dsn)}
	b.addApp()
	b.exec(b.raw, `
insert into identities (uuid, shard, appid, subject_kind, subject, sealed_session_key, created_at, last_login_at)
select gen_random_uuid(), n, $1, 'openid', 'o-' || n, 'k', $2, $2 from generate_series(0, 1023) n`, appID, now)
	b.exec(b.raw, `
insert into sessions (id, shard, identity_uuid, appid, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at)
select gen_random_uuid(), shard, uuid, appid, 1, 0, 1, $1, $1, $2, $2 from identities`, now, now.Add(idle))
	if got := postgres.EstimateByShard(t.Context(), b.store, []string{appID}, now); got != shard.Count {
		t.Errorf("the estimate is %d, want %d", got, shard.Count)
	}
	postgres.SetCountTimeout(b.store, time.Nanosecond)
	if got := postgres.EstimateByShard(t.Context(), b.store, []string{appID}, now); got != 0 {
		t.Errorf("the estimate is %d after the timeout, want 0", got)
	}
}

// TestRevokePersonDuringUnbinding checks that a revocation leaves alone an identity that
// was unbound after it had found the person's identities.
func TestRevokePersonDuringUnbinding(t *testing.T) {
	t.Parallel()
	for name, to := range map[string]bool{"unbound": false, "bound to another person": true} {
		for _, call := range []struct {
			name string
			do   func(b *bed, p auth.Person) <-chan result
		}{
			{"a revocation", func(b *bed, p auth.Person) <-chan result { return b.startRevoke(session.Target{Person: p.ID}) }},
			{"a ban", func(b *bed, p auth.Person) <-chan result {
				return start(func() (session.Granted, error) {
					_, err := b.store.DisablePerson(b.t.Context(), p.ID, adminEvent("x"))
					return session.Granted{}, err
				})
			}},
		} {
			t.Run(call.name+" while the identity is "+name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				s := b.exchange()
				p := b.personOf(s)
				other := auth.Person{ID: newID(), ExternalID: "E-2"}
				b.insertPerson(b.raw, other)
				tx := b.begin()
				var next any
				if to {
					next = other.ID
				}
				b.exec(tx, `update identities set person_id = $2 where uuid = $1`, s.Identity, next)
				done := call.do(b, p)
				b.untilWaiting(1, row)
				b.commit(tx)
				b.succeeds(<-done)
				if n := b.number(b.raw, `select (select count(*) from sessions where ended_at is not null) + (select count(*) from cutoffs) + (select count(*) from identities where person_disabled_at is not null)`); n != 0 {
					t.Error("an identity of somebody else was affected")
				}
			})
		}
	}
}

// TestReconnectElsewhereKeepsTheKind checks that a refused database of another deployment
// does not change the form of the statements.
func TestReconnectElsewhereKeepsTheKind(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	before, err := postgres.TableKind(t.Context(), b.store)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := pgtest.Empty(t)
	if err := openStore(t, elsewhere).Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if before == "plain" {
		if err := partitionInto(t.Context(), elsewhere, "2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.Reconnect(t.Context(), elsewhere); err == nil {
		t.Error("Reconnect() accepts the database of another deployment")
	}
	if after, err := postgres.TableKind(t.Context(), b.store); err != nil || after != before {
		t.Errorf("the kind of tables was %s and is %s (%v)", before, after, err)
	}
}
