package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// startAdmin runs an admin's call in the background.
func (b *bed) startAdmin(do func(ctx context.Context) error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- do(b.t.Context()) }()
	return done
}

func adminEvent(action auth.AuditAction) auth.AuditEvent {
	return auth.AuditEvent{At: now, Action: action, Actor: auth.ActorCLI}
}

func (b *bed) startChange(do func(context.Context, person.IdentityChange) (person.IdentityRecord, error), identity, to uuid.UUID) <-chan error {
	return b.startAdmin(func(ctx context.Context) error {
		_, err := do(ctx, person.IdentityChange{
			Identity: identity, Person: to, Second: auth.SecondJoins, Now: now, Event: adminEvent("x"),
		})
		return err
	})
}

func (b *bed) startDisablePerson(id uuid.UUID) <-chan error {
	return b.startAdmin(func(ctx context.Context) error {
		_, err := b.store.DisablePerson(ctx, id, adminEvent(auth.AuditPersonDisabled))
		return err
	})
}

// boundTo inserts a person and binds the identity of a session to them.
func (b *bed) boundTo(s auth.Session) auth.Person {
	b.t.Helper()
	p := b.personOf(s)
	b.exec(b.raw, `update sessions set person_id = $2, ver = 2 where identity_uuid = $1`, s.Identity, p.ID)
	return p
}

// wantEndedWithCutoffs checks that no session of the identity is live and that each ended
// one has its cutoff.
func (b *bed) wantEndedWithCutoffs(identity uuid.UUID) {
	b.t.Helper()
	if n := b.liveOf(identity); n != 0 {
		b.t.Errorf("%d sessions are still live, want 0", n)
	}
	if n := b.number(b.raw, `
select count(*) from sessions s where ended_at is not null
  and 1 <> (select count(*) from cutoffs c where c.session_id = s.id and c.ver = 0)`); n != 0 {
		b.t.Errorf("%d sessions ended without a cutoff, want 0", n)
	}
}

func wantNoError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// TestAdminsBesideAnotherTransaction covers the races between admins' calls and other
// calls, each in both orders: the second call waits and sees the changes of the first.
func TestAdminsBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	// Calls that ban an account and end its sessions, and the error of a later log-in;
	// "" means that it may log in.
	bans := map[string]struct {
		start func(b *bed, s auth.Session, p auth.Person) <-chan error
		code  auth.Code
	}{
		"identity disabled": {func(b *bed, s auth.Session, _ auth.Person) <-chan error {
			return b.startChange(b.store.DisableIdentity, s.Identity, uuid.Nil)
		}, auth.IdentityDisabled},
		"person disabled": {func(b *bed, _ auth.Session, p auth.Person) <-chan error { return b.startDisablePerson(p.ID) }, auth.PersonDisabled},
		"identity erased": {func(b *bed, s auth.Session, _ auth.Person) <-chan error {
			return b.startChange(b.store.EraseIdentity, s.Identity, uuid.Nil)
		}, ""},
	}
	for name, ban := range bans {
		t.Run(name+": a log-in that waits for it is refused or gets a new identity", func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.exchange()
			p := b.boundTo(s)
			// The ban holds the identity and waits for the session.
			holder := b.begin()
			b.exec(holder, `select from sessions where id = $1 for update`, s.ID)
			banned := ban.start(b, s, p)
			b.untilWaiting(1, row)
			exchanged := b.startExchange(exchangeParams())
			b.untilWaiting(2, row)
			b.commit(holder)
			wantNoError(t, <-banned)
			r := <-exchanged
			if ban.code != "" && !errors.Is(r.err, ban.code) {
				t.Errorf("Exchange() error = %v, want %s", r.err, ban.code)
			}
			if ban.code == "" && (r.err != nil || r.granted.Session.Identity == s.Identity || r.granted.Session.Person != nil) {
				t.Errorf("Exchange() = %+v, %v; want a new identity", r.granted.Session, r.err)
			}
			b.wantEndedWithCutoffs(s.Identity)
		})
		t.Run(name+": it waits for a log-in and ends its session", func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.exchange()
			p := b.boundTo(s)
			login := b.begin()
			b.exec(login, `update identities set last_login_at = $2 where uuid = $1`, s.Identity, now)
			b.exec(login, `
insert into sessions (id, shard, identity_uuid, appid, person_id, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at)
select $2, shard, identity_uuid, appid, $3, ver, epoch, 1, rotated_at, started_at, idle_expires_at, expires_at from sessions where id = $1`,
				s.ID, shardtest.NewIDBeside(s.ID), p.ID)
			banned := ban.start(b, s, p)
			b.untilWaiting(1, row)
			b.commit(login)
			wantNoError(t, <-banned)
			b.wantEndedWithCutoffs(s.Identity)
			if n := b.number(b.raw, `select count(*) from sessions where ended_at is not null`); n != 2 {
				t.Errorf("%d sessions ended, want 2", n)
			}
		})
		t.Run(name+": a refresh that waits for it is revoked", func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.exchange()
			p := b.boundTo(s)
			// The ban has ended the session and waits before its cutoff.
			holder := b.begin()
			b.exec(holder, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
			banned := ban.start(b, s, p)
			b.untilWaiting(1, advisory)
			refreshed := b.startRefresh(refreshParams(s.ID, 1))
			b.untilWaiting(1, row)
			b.commit(holder)
			wantNoError(t, <-banned)
			if r := <-refreshed; !errors.Is(r.err, auth.SessionRevoked) {
				t.Errorf("Refresh() error = %v, want session_revoked", r.err)
			}
			b.wantEndedWithCutoffs(s.Identity)
		})
		t.Run(name+": the identity is locked before its sessions", func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.exchange()
			p := b.boundTo(s)
			tx := b.begin()
			b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
			banned := ban.start(b, s, p)
			b.untilWaiting(1, row)
			b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
			b.commit(tx)
			wantNoError(t, <-banned)
		})
	}
	t.Run("a binding that waits for the person to be disabled is refused", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.boundTo(s)
		x := exchangeParams()
		x.Account.Subject = "o-2"
		r := <-b.startExchange(x)
		// Disabling holds the person and waits for the session.
		holder := b.begin()
		b.exec(holder, `select from sessions where id = $1 for update`, s.ID)
		disabled := b.startDisablePerson(p.ID)
		b.untilWaiting(1, row)
		bound := b.startChange(b.store.BindIdentity, r.granted.Session.Identity, p.ID)
		b.untilWaiting(2, row)
		b.commit(holder)
		wantNoError(t, <-disabled)
		if err := <-bound; !errors.Is(err, auth.PersonDisabled) {
			t.Errorf("error of the binding = %v, want person_disabled", err)
		}
		b.wantEndedWithCutoffs(s.Identity)
		if n := b.liveOf(r.granted.Session.Identity); n != 1 {
			t.Errorf("%d ended sessions of the identity that was not bound, want 0", n)
		}
	})
	t.Run("disabling a person waits for a binding and disables the new identity", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.newPerson()
		// The binding holds the person and waits for the session.
		holder := b.begin()
		b.exec(holder, `select from sessions where id = $1 for update`, s.ID)
		bound := b.startChange(b.store.BindIdentity, s.Identity, p.ID)
		b.untilWaiting(1, row)
		disabled := b.startDisablePerson(p.ID)
		b.untilWaiting(2, row)
		b.commit(holder)
		wantNoError(t, <-bound)
		wantNoError(t, <-disabled)
		b.wantEndedWithCutoffs(s.Identity)
		if n := b.number(b.raw, `select count(*) from identities where person_disabled_at is not null`); n != 1 {
			t.Error("person_disabled_at of the bound identity is not set")
		}
	})
	t.Run("binding and disabling in either order leave a bound identity without sessions", func(t *testing.T) {
		t.Parallel()
		for _, bindFirst := range []bool{true, false} {
			b := newBed(t)
			s := b.exchange()
			p := b.newPerson()
			steps := []func() <-chan error{
				func() <-chan error { return b.startChange(b.store.BindIdentity, s.Identity, p.ID) },
				func() <-chan error { return b.startChange(b.store.DisableIdentity, s.Identity, uuid.Nil) },
			}
			if !bindFirst {
				steps[0], steps[1] = steps[1], steps[0]
			}
			holder := b.begin()
			b.exec(holder, `select from sessions where id = $1 for update`, s.ID)
			first := steps[0]()
			b.untilWaiting(1, row)
			second := steps[1]()
			b.untilWaiting(2, row)
			b.commit(holder)
			wantNoError(t, <-first)
			wantNoError(t, <-second)
			b.wantEndedWithCutoffs(s.Identity)
			i, err := b.store.Identity(t.Context(), s.Identity, nil)
			if err != nil || !i.Disabled || i.Person != p.ID {
				t.Errorf("Identity() = %+v, %v", i, err)
			}
			if want := map[bool]int{true: 2, false: 1}[bindFirst]; b.number(b.raw, `select count(*) from cutoffs`) != want {
				t.Errorf("bind first %t: wrong number of cutoffs, want %d", bindFirst, want)
			}
		}
	})
	t.Run("a refresh that waits for an admin's binding or unbinding returns its result", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.newPerson()
		for generation, change := range []func() <-chan error{
			func() <-chan error { return b.startChange(b.store.BindIdentity, s.Identity, p.ID) },
			func() <-chan error { return b.startChange(b.store.UnbindIdentity, s.Identity, uuid.Nil) },
		} {
			holder := b.begin()
			b.exec(holder, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
			changed := change()
			b.untilWaiting(1, advisory)
			refreshed := b.startRefresh(refreshParams(s.ID, uint32(generation+1)))
			b.untilWaiting(1, row)
			b.commit(holder)
			wantNoError(t, <-changed)
			r := <-refreshed
			if r.err != nil || r.granted.Session.Ver != int64(generation+2) || (r.granted.Session.Person != nil) != (generation == 0) {
				t.Errorf("Refresh() = %+v, %v", r.granted.Session, r.err)
			}
		}
	})
	t.Run("an erasure that locked the wrong person starts again", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.boundTo(s)
		other := auth.Person{ID: newID(), ExternalID: "E-2"}
		b.insertPerson(b.raw, other)
		tx := b.begin()
		b.exec(tx, `select from persons where id = $1 for no key update`, p.ID)
		erased := b.startChange(b.store.EraseIdentity, s.Identity, uuid.Nil)
		b.untilWaiting(1, row)
		b.exec(tx, `update identities set person_id = $2 where uuid = $1`, s.Identity, other.ID)
		b.commit(tx)
		wantNoError(t, <-erased)
		i, err := b.store.Identity(t.Context(), s.Identity, nil)
		if err != nil || i.ErasedAt.IsZero() || i.Person != uuid.Nil {
			t.Errorf("EraseIdentity() = %+v, %v", i, err)
		}
		b.wantEndedWithCutoffs(s.Identity)
	})
	t.Run("a person can log in while their phone changes", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		p := b.boundTo(s)
		tx := b.begin()
		b.exec(tx, `update persons set phone = '+8613800001001', external_id = 'E-9' where id = $1`, p.ID)
		if r := <-b.startExchange(exchangeParams()); r.err != nil {
			t.Error(r.err)
		}
		b.commit(tx)
	})
	t.Run("a batch that waits for a phone to be taken loses only that row", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		phone := "+8613800001001"
		draft := func(id string) person.Draft {
			return person.Draft{ID: newID(), ExternalID: id, Source: auth.PersonByAdmin}
		}
		for _, known := range []bool{false, true} {
			if known { // now an update
				b.exec(b.raw, `delete from persons where external_id = 'taker'`)
				b.exec(b.raw, `insert into persons (id, external_id, created_at) values ($1, 'A', $2)`, newID(), now)
			}
			taker := b.begin()
			b.exec(taker, `insert into persons (id, external_id, phone, created_at) values ($1, 'taker', $2, $3)`, newID(), phone, now)
			var done []person.Upserted
			upserted := b.startAdmin(func(ctx context.Context) (err error) {
				a := draft("A")
				a.Phone = &phone
				done, err = b.store.UpsertPersons(ctx, person.Upsert{Drafts: []person.Draft{a, draft("B")}, Event: adminEvent(auth.AuditPersonsImported)})
				return err
			})
			b.untilWaiting(1, row)
			b.commit(taker)
			wantNoError(t, <-upserted)
			if len(done) != 2 || !errors.Is(done[0].Err, auth.PersonConflict) || done[1].Err != nil {
				t.Errorf("UpsertPersons() with known %t = %+v", known, done)
			}
		}
	})
	t.Run("a batch waits for the batch before it", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		tx := b.begin()
		b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockPersons)
		upserted := b.startAdmin(func(ctx context.Context) error {
			_, err := b.store.UpsertPersons(ctx, person.Upsert{Drafts: []person.Draft{{ID: newID(), ExternalID: "A"}}, Event: adminEvent(auth.AuditPersonsImported)})
			return err
		})
		b.untilWaiting(1, advisory)
		b.commit(tx)
		wantNoError(t, <-upserted)
	})
}

// TestAdminQueriesUseIndexes checks that the cost of a search does not grow with the
// number of persons and identities.
func TestAdminQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.exec(b.raw, `
insert into persons (id, external_id, name, phone, created_at)
select gen_random_uuid(), 'E' || n, 'n' || n, '+86138' || lpad(n::text, 8, '0'), now() from generate_series(1, 5000) n`)
	b.exec(b.raw, `
insert into identities (uuid, shard, appid, subject_kind, subject, unionid, sealed_session_key, person_id, created_at, last_login_at)
select gen_random_uuid(), 0, '`+appID+`', 'openid', external_id, external_id, '', id, now(), now() from persons`)
	b.exec(b.raw, `analyze`)
	for _, q := range postgres.AdminQueries {
		args := []any{uuid.Nil, 10, nil, nil, nil, nil, nil}
		of := map[string]int{"external_id = ": 2, "phone = ": 3, "name >= ": 4, "subject = ": 3, "unionid = ": 4, "person_id = ": 5}
		if i := of[q.Cond]; i > 0 {
			args[i] = "x"
		}
		if q.Cond == "person_id = " {
			args[5] = uuid.Nil
		}
		if !strings.Contains(q.SQL, "$7") {
			args = args[:5]
		}
		var plan string
		if err := b.raw.QueryRowContext(t.Context(), `explain (format json) `+q.SQL, args...).Scan(&plan); err != nil {
			t.Fatalf("%v\n%s", err, q.SQL)
		}
		found := false
		for line := range strings.Lines(plan) {
			found = found || strings.Contains(line, `"Index Cond"`) && strings.Contains(line, q.Cond)
		}
		if !found {
			t.Errorf("no index is used for %q\n%s", q.Cond, plan)
		}
	}
}
