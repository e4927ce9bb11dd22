package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// As in locks_test.go, these tests hold a transaction open and ask PostgreSQL which calls
// wait.

func bindParams(s auth.Session, person uuid.UUID) binding.BindParams {
	return binding.BindParams{
		Session: s.ID, Ver: s.Ver, Target: binding.Target{Person: person}, Method: auth.BindFacts, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditBound, Actor: auth.ActorBearer},
	}
}

func unbindParams(s auth.Session) binding.UnbindParams {
	return binding.UnbindParams{Session: s.ID, Ver: s.Ver, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditUnbound, Actor: auth.ActorBearer}}
}

func (b *bed) startBind(p binding.BindParams) <-chan result {
	return start(func() (session.Granted, error) {
		done, err := b.store.Bind(b.t.Context(), p)
		return session.Granted{Session: done.Session}, err
	})
}

func (b *bed) startUnbind(s auth.Session) <-chan result {
	return start(func() (session.Granted, error) {
		done, err := b.store.Unbind(b.t.Context(), unbindParams(s))
		return session.Granted{Session: done.Session}, err
	})
}

// bound returns a session whose identity is bound to a person.
func (b *bed) bound(p auth.Person) auth.Session {
	b.t.Helper()
	done, err := b.store.Bind(b.t.Context(), bindParams(b.exchange(), p.ID))
	if err != nil {
		b.t.Fatal(err)
	}
	return done.Session
}

// wantUnbound fails the test if any row is bound to a person.
func (b *bed) wantUnbound() {
	b.t.Helper()
	if n := b.number(b.raw, `select (select count(*) from identities where person_id is not null) + (select count(*) from sessions where person_id is not null)`); n != 0 {
		b.t.Errorf("%d rows are bound, want 0", n)
	}
}

func TestBindBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	t.Run("a bind that waits for a ban is refused", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s, p := b.exchange(), b.newPerson()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		bound := b.startBind(bindParams(s, p.ID))
		b.untilWaiting(1, row)
		b.exec(tx, `update identities set disabled_at = $2 where uuid = $1`, s.Identity, now)
		b.exec(tx, `update sessions set ended_at = $2, end_reason = 'identity_disabled' where identity_uuid = $1`, s.Identity, now)
		b.commit(tx)
		if r := <-bound; !errors.Is(r.err, auth.SessionRevoked) {
			t.Errorf("Bind() error = %v, want session_revoked", r.err)
		}
		b.wantUnbound()
	})
	t.Run("a ban that waits for a bind ends the session that the bind raised", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s, p := b.exchange(), b.newPerson()
		// The bind holds all its locks and waits before its cutoff.
		holder := b.holdCutoffs()
		bound := b.startBind(bindParams(s, p.ID))
		b.untilWaiting(1, "relation")
		revoked := b.startRevoke(session.Target{Identity: s.Identity})
		b.untilWaiting(1, row)
		b.commit(holder)
		if r := <-bound; r.err != nil || r.granted.Session.Ver != 2 {
			t.Errorf("Bind() = ver %d, error %v", r.granted.Session.Ver, r.err)
		}
		if r := <-revoked; r.err != nil {
			t.Errorf("Revoke() error = %v", r.err)
		}
		if n := b.number(b.raw, `select count(*) from sessions where ended_at is not null and ver = 2`); n != 1 {
			t.Errorf("%d sessions ended, want 1", n)
		}
		// In the order of the commits: first the raised ver, then the end.
		if n := b.number(b.raw, `select count(*) from cutoffs a join cutoffs b on b.id > a.id where a.ver = 2 and b.ver = 0`); n != 1 {
			t.Error("the cutoffs are not in the order of the commits")
		}
	})
	t.Run("a bind that waits for a log-out is refused", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s, p := b.exchange(), b.newPerson()
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		b.exec(tx, `select from sessions where id = $1 for update`, s.ID)
		bound := b.startBind(bindParams(s, p.ID))
		b.untilWaiting(1, row)
		b.exec(tx, `update sessions set ended_at = $2, end_reason = 'logout' where id = $1`, s.ID, now)
		b.commit(tx)
		if r := <-bound; !errors.Is(r.err, auth.SessionRevoked) {
			t.Errorf("Bind() error = %v, want session_revoked", r.err)
		}
		b.wantUnbound()
	})
	t.Run("a log-out that waits for a bind ends the session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s, p := b.exchange(), b.newPerson()
		holder := b.holdCutoffs()
		bound := b.startBind(bindParams(s, p.ID))
		b.untilWaiting(1, "relation")
		ended := b.startEnd(s.ID)
		b.untilWaiting(1, row)
		b.commit(holder)
		b.succeeds(<-bound)
		b.succeeds(<-ended)
		if n := b.number(b.raw, `select count(*) from sessions where ended_at is not null and person_id is not null`); n != 1 {
			t.Error("the session has not ended")
		}
	})
	t.Run("a bind that waits only for the session reads it again", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s, p := b.exchange(), b.newPerson()
		tx := b.begin()
		b.exec(tx, `update sessions set ver = ver + 1 where id = $1`, s.ID)
		bound := b.startBind(bindParams(s, p.ID))
		b.untilWaiting(1, row)
		b.commit(tx)
		if r := <-bound; !errors.Is(r.err, auth.SessionRevoked) {
			t.Errorf("Bind() error = %v, want session_revoked", r.err)
		}
		b.wantUnbound()
	})
	t.Run("a bind that waits for the person to be disabled is refused", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s, p := b.exchange(), b.newPerson()
		tx := b.begin()
		b.exec(tx, `update persons set disabled_at = $2 where id = $1`, p.ID, now)
		bound := b.startBind(bindParams(s, p.ID))
		b.untilWaiting(1, row)
		// The person comes first in the order of locks: no other lock is held.
		b.exec(tx, `select from identities where uuid = $1 for update nowait`, s.Identity)
		b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
		b.commit(tx)
		if r := <-bound; !errors.Is(r.err, auth.PersonDisabled) {
			t.Errorf("Bind() error = %v, want person_disabled", r.err)
		}
		b.wantUnbound()
	})
	t.Run("a second identity that waits for the first sees it", func(t *testing.T) {
		t.Parallel()
		for rule, want := range map[auth.SecondIdentity]auth.Code{auth.SecondRefused: auth.PersonTaken, auth.SecondReplaces: "", auth.SecondJoins: ""} {
			t.Run(string(rule), func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				p, first := b.newPerson(), b.exchange()
				second := b.exchangeAs("o-2")
				holder := b.holdCutoffs()
				one := b.startBind(bindParams(first, p.ID))
				b.untilWaiting(1, "relation")
				params := bindParams(second, p.ID)
				params.Second = rule
				two := b.startBind(params)
				b.untilWaiting(1, row)
				b.commit(holder)
				b.succeeds(<-one)
				if r := <-two; auth.CodeOf(r.err) != want {
					t.Errorf("Bind() error = %v, want %q", r.err, want)
				}
				stay := map[auth.SecondIdentity]int{auth.SecondRefused: 1, auth.SecondReplaces: 1, auth.SecondJoins: 2}[rule]
				if n := b.number(b.raw, `select count(*) from identities where person_id = $1`, p.ID); n != stay {
					t.Errorf("the person has %d identities, want %d", n, stay)
				}
			})
		}
	})
	t.Run("one of two binds with one ticket succeeds", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		p, first := b.newPerson(), b.exchange()
		second := b.exchangeAs("o-2")
		hash := [32]byte{1}
		err := b.store.AddTicket(t.Context(), person.Ticket{Hash: hash, Person: p, CreatedAt: now, ExpiresAt: now.Add(idle)}, auth.AuditEvent{At: now})
		if err != nil {
			t.Fatal(err)
		}
		by := func(s auth.Session) binding.BindParams {
			params := bindParams(s, p.ID)
			params.Ticket, params.Second = &hash, auth.SecondJoins
			return params
		}
		holder := b.holdCutoffs()
		one := b.startBind(by(first))
		b.untilWaiting(1, "relation")
		two := b.startBind(by(second))
		b.untilWaiting(1, row)
		b.commit(holder)
		b.succeeds(<-one)
		if r := <-two; !errors.Is(r.err, auth.TicketInvalid) {
			t.Errorf("Bind() error = %v, want ticket_invalid", r.err)
		}
	})
	t.Run("a bind that replaces leaves an identity that was unbound while it waited", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		p := b.newPerson()
		first := b.bound(p)
		second := b.exchangeAs("o-2")
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, first.Identity)
		params := bindParams(second, p.ID)
		params.Second = auth.SecondReplaces
		bound := b.startBind(params)
		b.untilWaiting(1, row)
		b.exec(tx, `update identities set person_id = null where uuid = $1`, first.Identity)
		b.commit(tx)
		b.succeeds(<-bound)
		if n := b.number(b.raw, `select count(*) from sessions where ended_at is not null`); n != 0 {
			t.Errorf("%d sessions of the unbound identity ended, want 0", n)
		}
	})
	t.Run("a bind cancelled while it waits writes nothing", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s, p := b.exchange(), b.newPerson()
		before := b.dump()
		tx := b.begin()
		b.exec(tx, `select from sessions where id = $1 for update`, s.ID)
		ctx, cancel := context.WithCancel(t.Context())
		bound := start(func() (session.Granted, error) {
			_, err := b.store.Bind(ctx, bindParams(s, p.ID))
			return session.Granted{}, err
		})
		b.untilWaiting(1, row)
		cancel()
		if r := <-bound; r.err != context.Canceled { //nolint:errorlint // as it is, not wrapped
			t.Errorf("Bind() error = %v, want unwrapped context.Canceled", r.err)
		}
		b.untilWaiting(0, row)
		b.commit(tx)
		if b.dump() != before {
			t.Error("the cancelled call changed rows")
		}
		b.wantUnbound()
	})
}

func TestUnbindBesideARefresh(t *testing.T) {
	t.Parallel()
	for name, presented := range map[string]uint32{"with the current token": 1, "with a token ahead of the row": 9} {
		t.Run("a refresh "+name+" that waits for the unbind has no person", func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.bound(b.newPerson())
			holder := b.holdCutoffs()
			unbound := b.startUnbind(s)
			b.untilWaiting(1, "relation")
			refreshed := b.startRefresh(refreshParams(s.ID, presented))
			b.untilWaiting(1, row)
			b.commit(holder)
			if r := <-unbound; r.err != nil || r.granted.Session.Ver != 3 {
				t.Errorf("Unbind() = ver %d, error %v", r.granted.Session.Ver, r.err)
			}
			r := <-refreshed
			if r.err != nil || r.granted.Session.Person != nil || r.granted.Session.Ver != 3 {
				t.Errorf("Refresh() = person %v, ver %d, error %v; want nil, 3, nil", r.granted.Session.Person, r.granted.Session.Ver, r.err)
			}
		})
	}
	t.Run("an unbind that waited cuts off the tokens of the earlier refresh", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.bound(b.newPerson())
		tx := b.begin()
		b.exec(tx, `update sessions set generation = generation + 1, rotated_at = $2 where id = $1`, s.ID, now)
		unbound := b.startUnbind(s)
		b.untilWaiting(1, row)
		b.commit(tx)
		if r := <-unbound; r.err != nil || r.granted.Session.Generation != 2 {
			t.Errorf("Refresh() = generation %d, error %v", r.granted.Session.Generation, r.err)
		}
		if n := b.number(b.raw, `select count(*) from cutoffs where session_id = $1 and ver = 3`, s.ID); n != 1 {
			t.Errorf("%d cutoffs at ver 3, want 1", n)
		}
	})
	t.Run("an unbind waits for the identity before it touches the session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.bound(b.newPerson())
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		unbound := b.startUnbind(s)
		b.untilWaiting(1, row)
		b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
		b.commit(tx)
		b.succeeds(<-unbound)
	})
	t.Run("a log-in that waits for the unbind has no person", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.bound(b.newPerson())
		holder := b.holdCutoffs()
		unbound := b.startUnbind(s)
		b.untilWaiting(1, "relation")
		exchanged := b.startExchange(exchangeParams())
		b.untilWaiting(1, row)
		b.commit(holder)
		b.succeeds(<-unbound)
		if r := <-exchanged; r.err != nil || r.granted.Session.Person != nil {
			t.Errorf("Exchange() = person %v, error %v; want nil, nil", r.granted.Session.Person, r.err)
		}
	})
	t.Run("a bind that changes the person's phone does not deadlock with their log-in", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		p := b.newPerson()
		s := b.bound(p)
		phone := "+8613800001001"
		params := bindParams(s, uuid.Nil)
		params.Target = binding.Target{Save: &person.Draft{ID: newID(), ExternalID: p.ExternalID, Phone: &phone}}
		tx := b.begin()
		b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
		bound := b.startBind(params)
		b.untilWaiting(1, row) // it holds the person and waits for the identity
		b.exec(tx, `select from persons where id = $1 for key share nowait`, p.ID)
		b.commit(tx)
		b.succeeds(<-bound)
	})
}

func TestAttemptsBesideAnother(t *testing.T) {
	t.Parallel()
	t.Run("a guess that waits for the fifth is refused", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		keys := []auth.AttemptKey{auth.ValueAttempts([]byte{1})}
		reserve := func() (binding.Reservation, error) {
			return b.store.Reserve(t.Context(), keys, now, auth.AuditEvent{At: now})
		}
		for range 4 {
			if _, err := reserve(); err != nil {
				t.Fatal(err)
			}
		}
		holder := b.begin()
		b.exec(holder, `lock table audit in share mode`) // where the fifth attempt waits
		type reserved struct {
			binding.Reservation
			err error
		}
		done := make(chan reserved, 2)
		guess := func() {
			r, err := reserve()
			done <- reserved{r, err}
		}
		go guess()
		b.untilWaiting(1, "relation")
		go guess()
		b.untilWaiting(1, row)
		b.commit(holder)
		first, second := <-done, <-done
		if first.err != nil || second.err != nil || (first.Wait == 0) == (second.Wait == 0) {
			t.Errorf("Reserve() = %+v and %+v; want one of them to wait", first, second)
		}
	})
}
