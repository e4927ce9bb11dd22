package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Bind implements [binding.Store].
func (s *Store) Bind(ctx context.Context, b binding.BindParams) (binding.BindResult, error) {
	var done binding.BindResult
	err := s.inTx(ctx, "Bind", func(tx *writeTx) error {
		f, created, err := findBind(ctx, tx, &b)
		if err != nil {
			return err
		}
		change, replaced, err := b.Decide(f)
		if err != nil {
			return err
		}
		requester := &f.State.Session
		if f.Ticket != nil && f.Ticket.UsedBy == uuid.Nil {
			if _, err := tx.ExecContext(ctx, useTicketSQL, b.Ticket[:], requester.Identity, micros(b.Now)); err != nil {
				return err
			}
		}
		if created {
			if err := writeAudit(ctx, tx, b.CreatedEvent(f)); err != nil {
				return err
			}
		}
		if len(f.Saved) > 0 {
			if err := writeAudit(ctx, tx, b.UpdatedEvent(f)); err != nil {
				return err
			}
		}
		done.Session, done.Changed = *requester, change
		if !change {
			return nil
		}
		for _, id := range replaced {
			if err := writeAudit(ctx, tx, b.ReplacedEvent(f, id)); err != nil {
				return err
			}
			if err := detach(ctx, tx, id); err != nil {
				return err
			}
			if err := endAll(ctx, tx, id, auth.EndReplaced, b.Now); err != nil {
				return err
			}
		}
		if err := writeAudit(ctx, tx, b.BoundEvent(f)); err != nil {
			return err
		}
		if err := attach(ctx, tx, requester.Identity, f.Person.ID, string(b.Method), b.Now); err != nil {
			return err
		}
		done.Session.Ver++
		done.Session.Person = &f.Person
		done.Replaced = replaced
		return raise(ctx, tx, requester.Identity, f.Person.ID, b.Now)
	})
	if err != nil {
		return binding.BindResult{}, err
	}
	return done, nil
}

// findBind reads what a binding depends on. It creates the person first if b says so,
// and reports whether it did.
func findBind(ctx context.Context, tx *writeTx, b *binding.BindParams) (f *binding.Locked, created bool, err error) {
	f = &binding.Locked{}
	if err = readRequester(ctx, tx, b.Session, f); err != nil {
		return nil, false, err
	}
	if created, err = targetPerson(ctx, tx, b, f); err != nil {
		return nil, false, err
	}
	if f.Others, err = othersOf(ctx, tx, f.Person.ID, f.State.Session.AppID, f.State.Session.Identity); err != nil {
		return nil, false, err
	}
	if b.Ticket != nil {
		t, err := ticket(ctx, tx, *b.Ticket)
		if err != nil {
			return nil, false, err
		}
		f.Ticket = &t
	}
	return f, created, nil
}

// Unbind implements [binding.Store].
func (s *Store) Unbind(ctx context.Context, u binding.UnbindParams) (binding.BindResult, error) {
	var done binding.BindResult
	err := s.inTx(ctx, "Unbind", func(tx *writeTx) error {
		var (
			f   binding.Locked
			err error
		)
		if err = readRequester(ctx, tx, u.Session, &f); err != nil {
			return err
		}
		done.Session = f.State.Session
		if done.Changed, err = u.Decide(&f); err != nil || !done.Changed {
			return err
		}
		if err := writeAudit(ctx, tx, u.UnboundEvent(&f)); err != nil {
			return err
		}
		if err := detach(ctx, tx, done.Session.Identity); err != nil {
			return err
		}
		done.Session.Ver++
		done.Session.Person = nil
		return raise(ctx, tx, done.Session.Identity, uuid.Nil, u.Now)
	})
	if err != nil {
		return binding.BindResult{}, err
	}
	return done, nil
}

var askerSQL = statement(`
select i.person_id, a.epoch, a.disabled_at is not null,` + sessionColumns + `
from sessions join apps a on a.appid = sessions.appid join identities i on i.uuid = sessions.identity_uuid
where sessions.id = ?`)

// readRequester reads the session that makes the request and the person that its identity
// is bound to.
func readRequester(ctx context.Context, tx *writeTx, id uuid.UUID, f *binding.Locked) error {
	var (
		row     sessionRow
		current uuid.NullUUID
	)
	err := tx.QueryRowContext(ctx, askerSQL, id).
		Scan(append([]any{&current, &f.State.AppEpoch, &f.State.AppDisabled}, row.targets()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return auth.SessionRevoked
	}
	f.State.Session, f.Current = row.session(), current.UUID
	return err
}

const targetSQL = `select id, external_id, name, disabled_at is not null from persons where `

var (
	targetPersonSQL = statement(targetSQL + `id = ?`)
	targetPhoneSQL  = statement(targetSQL + `phone = ?`)
)

// targetPerson finds the person to bind to. It creates the person first if b says so,
// and reports whether it did.
func targetPerson(ctx context.Context, tx *writeTx, b *binding.BindParams, f *binding.Locked) (created bool, err error) {
	query, key := targetPersonSQL, any(b.Target.Person)
	switch t := &b.Target; {
	case t.Save != nil:
		var id uuid.UUID
		if id, created, f.Saved, err = savePerson(ctx, tx, t.Save, b.Now); err != nil {
			return false, err
		}
		key = id
	case t.Phone != "":
		d := t.Draft()
		if created, err = insertPerson(ctx, tx, &d, b.Now); err != nil {
			return false, err
		}
		query, key = targetPhoneSQL, t.Phone
	}
	err = tx.QueryRowContext(ctx, query, key).Scan(&f.Person.ID, &f.Person.ExternalID, &f.Person.Name, &f.PersonDisabled)
	if errors.Is(err, sql.ErrNoRows) {
		err = auth.BindingNoMatch
	}
	return created, err
}

// othersOf returns the person's identities in the app except one.
func othersOf(ctx context.Context, tx *writeTx, person uuid.UUID, appID string, but uuid.UUID) ([]uuid.UUID, error) {
	rows, err := tx.QueryContext(ctx, personIdentitiesSQL, person)
	if err != nil {
		return nil, err
	}
	type identity struct {
		id    uuid.UUID
		appID string
	}
	all, err := collect(rows, func(rows *sql.Rows) (i identity, err error) { return i, rows.Scan(&i.id, &i.appID) })
	all = slices.DeleteFunc(all, func(i identity) bool { return i.appID != appID || i.id == but })
	var ids []uuid.UUID
	for _, i := range all {
		ids = append(ids, i.id)
	}
	return ids, err
}

var (
	attachSQL = statement(`
update identities set person_id = ?2, person_disabled_at = null, bound_by = ?3, bound_at = ?4 where uuid = ?1`)
	detachSQL = statement(`
update identities set person_id = null, person_disabled_at = null, bound_by = null, bound_at = null where uuid = ?1`)

	// Sessions whose tokens may be in use, by the same condition as sessionsToEndSQL.
	inUseSQL = statement(`
select s.id, s.ver from sessions s join apps a on a.appid = s.appid
where s.identity_uuid = ?1 and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > ?2
order by s.id`)
	raiseVerSQL = statement(`update sessions set person_id = ?2, ver = ver + 1 where id = ?1 returning appid`)
)

// attach binds an identity to a person, who must not be disabled. by is a method or
// [person.BoundByAdmin].
func attach(ctx context.Context, tx *writeTx, identity, person uuid.UUID, by string, now time.Time) error {
	_, err := tx.ExecContext(ctx, attachSQL, identity, person, by, micros(now))
	return err
}

// detach unbinds an identity.
func detach(ctx context.Context, tx *writeTx, identity uuid.UUID) error {
	_, err := tx.ExecContext(ctx, detachSQL, identity)
	return err
}

type inUse struct {
	id  uuid.UUID
	ver int64
}

// sessionsInUse returns the identity's sessions whose tokens may be in use.
func sessionsInUse(ctx context.Context, tx *writeTx, identity uuid.UUID, now time.Time) ([]inUse, error) {
	rows, err := tx.QueryContext(ctx, inUseSQL, identity, micros(session.IdleAfter(now)))
	if err != nil {
		return nil, err
	}
	return collect(rows, func(rows *sql.Rows) (s inUse, err error) { return s, rows.Scan(&s.id, &s.ver) })
}

// raise gives the identity's sessions the person, or no person for uuid.Nil, and the
// next ver, and writes their cutoffs.
func raise(ctx context.Context, tx *writeTx, identity, person uuid.UUID, now time.Time) error {
	sessions, err := sessionsInUse(ctx, tx, identity, now)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		var appID string
		if err := tx.QueryRowContext(ctx, raiseVerSQL, s.id, uuidOrNull(person)).Scan(&appID); err != nil {
			return err
		}
		if _, err := writeCutoff(ctx, tx, auth.SessionChanged(appID, s.id, s.ver+1, now), now); err != nil {
			return err
		}
	}
	return nil
}

// endAll ends the identity's sessions and writes their cutoffs.
func endAll(ctx context.Context, tx *writeTx, identity uuid.UUID, why auth.EndReason, now time.Time) error {
	sessions, err := sessionsInUse(ctx, tx, identity, now)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if _, err := end(ctx, tx, s.id, why, now); err != nil {
			return err
		}
	}
	return nil
}
