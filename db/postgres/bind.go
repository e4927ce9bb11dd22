package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// Bind implements [binding.Store].
func (s *Store) Bind(ctx context.Context, b binding.BindParams) (binding.BindResult, error) {
	var done binding.BindResult
	err := s.inTx(ctx, "Bind", func(tx *transaction) error {
		a, err := readRequester(ctx, tx, b.Session)
		if err != nil {
			return err
		}
		var f binding.Locked
		created, err := lockTargetPerson(ctx, tx, &b, &f)
		if err != nil {
			return err
		}
		c, err := lockAffected(ctx, tx, a.identity, f.Person.ID, a.appID, b.Second, b.Now)
		if err != nil {
			return err
		}
		if f.State, err = a.state(ctx, tx); err != nil {
			return err
		}
		f.Current, f.Others = c.current, c.others
		if b.Ticket != nil {
			t, err := ticket(ctx, tx, *b.Ticket)
			if err != nil {
				return err
			}
			f.Ticket = &t
		}
		change, replaced, err := b.Decide(&f)
		if err != nil {
			return err
		}
		var batch pgx.Batch
		if f.Ticket != nil && f.Ticket.UsedBy == uuid.Nil {
			batch.Queue(useTicketSQL, b.Ticket[:], a.identity, auth.StoredTime(b.Now))
		}
		if created {
			if err := queueAudit(&batch, b.CreatedEvent(&f)); err != nil {
				return err
			}
		}
		if len(f.Saved) > 0 {
			if err := queueAudit(&batch, b.UpdatedEvent(&f)); err != nil {
				return err
			}
		}
		done.Session, done.Changed = f.State.Session, change
		if change {
			if err := queueBind(&batch, &b, &f, c, replaced); err != nil {
				return err
			}
			done.Session.Ver++
			done.Session.Person = &f.Person
			done.Replaced = replaced
		}
		return tx.commit(ctx, &batch)
	})
	if err != nil {
		return binding.BindResult{}, err
	}
	return done, nil
}

// queueBind adds the change and then its cutoffs to the batch.
func queueBind(batch *pgx.Batch, b *binding.BindParams, f *binding.Locked, c *affected, replaced []uuid.UUID) error {
	for _, id := range replaced {
		if err := queueAudit(batch, b.ReplacedEvent(f, id)); err != nil {
			return err
		}
	}
	if err := queueAudit(batch, b.BoundEvent(f)); err != nil {
		return err
	}
	queueDetach(batch, replaced...)
	queueAttach(batch, c.identity, f.Person.ID, string(b.Method), b.Now)
	cutoffs := append(c.queueEnd(batch, replaced, auth.EndReplaced, b.Now), c.queueRaise(batch, f.Person.ID, b.Now)...)
	queueCutoffs(batch, b.Now, cutoffs...)
	return nil
}

// Unbind implements [binding.Store].
func (s *Store) Unbind(ctx context.Context, u binding.UnbindParams) (binding.BindResult, error) {
	var done binding.BindResult
	err := s.inTx(ctx, "Unbind", func(tx *transaction) error {
		a, err := readRequester(ctx, tx, u.Session)
		if err != nil {
			return err
		}
		c, err := lockAffected(ctx, tx, a.identity, uuid.Nil, a.appID, auth.SecondJoins, u.Now)
		if err != nil {
			return err
		}
		var f binding.Locked
		if f.State, err = a.state(ctx, tx); err != nil {
			return err
		}
		f.Current = c.current
		done.Session = f.State.Session
		if done.Changed, err = u.Decide(&f); err != nil || !done.Changed {
			return err
		}
		var batch pgx.Batch
		if err := queueAudit(&batch, u.UnboundEvent(&f)); err != nil {
			return err
		}
		queueDetach(&batch, c.identity)
		queueCutoffs(&batch, u.Now, c.queueRaise(&batch, uuid.Nil, u.Now)...)
		done.Session.Ver++
		done.Session.Person = nil
		return tx.commit(ctx, &batch)
	})
	if err != nil {
		return binding.BindResult{}, err
	}
	return done, nil
}

// requester is the session that makes the request, with the values that never change.
type requester struct {
	session, identity uuid.UUID
	appID             string
}

// readRequester reads the session without a lock, or returns [auth.SessionRevoked].
func readRequester(ctx context.Context, tx *transaction, id uuid.UUID) (requester, error) {
	a := requester{session: id}
	err := tx.QueryRow(ctx, ownerSQL, id, shard.Of(id)).Scan(&a.appID, &a.identity)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, auth.SessionRevoked
	}
	return a, err
}

// state reads the session and its app. [lockAffected] must have locked the session if
// it is live.
func (a *requester) state(ctx context.Context, tx *transaction) (session.State, error) {
	p, err := readPresented(ctx, tx, presentedSQL, session.RefreshParams{Session: a.session, AppID: a.appID})
	if errors.Is(err, pgx.ErrNoRows) {
		err = auth.SessionRevoked
	}
	return p.State, err
}

const targetPersonSQL = `select id, external_id, name, disabled_at is not null from persons where `

var (
	lockTargetPersonSQL = statement(targetPersonSQL + `id = $1 for no key update`)
	lockTargetPhoneSQL  = statement(targetPersonSQL + `phone = $1 for no key update`)
)

// lockTargetPerson locks the person to bind to. It creates the person first if b says
// so, and reports whether it did.
func lockTargetPerson(ctx context.Context, tx *transaction, b *binding.BindParams, f *binding.Locked) (created bool, err error) {
	sql, key := lockTargetPersonSQL, any(b.Target.Person)
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
		sql, key = lockTargetPhoneSQL, t.Phone
	}
	err = tx.QueryRow(ctx, sql, key).Scan(&f.Person.ID, &f.Person.ExternalID, &f.Person.Name, &f.PersonDisabled)
	if errors.Is(err, pgx.ErrNoRows) {
		err = auth.BindingNoMatch
	}
	return created, err
}

// affected holds the identities that a change of a binding affects and their
// sessions, all locked.
type affected struct {
	identity uuid.UUID
	appID    string
	// current is the person that the identity is bound to, or uuid.Nil.
	current uuid.UUID
	// others are the other identities of the person in the same app.
	others   []uuid.UUID
	sessions []concernedSession
}

type concernedSession struct {
	id, identity uuid.UUID
	ver          int64
}

var (
	othersSQL = statement(`select uuid from identities where person_id = $1 and appid = $2 and uuid <> $3`)

	lockIdentitiesSQL = statement(`
select uuid, person_id from identities where uuid = any ($1) and shard = $2 order by uuid for update`)

	// Sessions whose tokens may be in use, by the same condition as sessionsToEndSQL.
	lockSessionsSQL = statement(`
select s.id, s.identity_uuid, s.ver
from sessions s join apps a on a.appid = s.appid
where s.identity_uuid = any ($1) and s.shard = $2 and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > $3
order by s.id for update of s`)
)

// queueLockIdentities adds the locking of identities to the batch, in the order of their
// shards and uuids. locked gets each with the person to whom it is bound, or uuid.Nil.
//
// The identities of a person are read before, without a lock. Meanwhile one of them can
// have been unbound.
func queueLockIdentities(b *pgx.Batch, ids []uuid.UUID, locked func(id, person uuid.UUID)) {
	for n, ids := range byShard(ids) {
		b.Queue(lockIdentitiesSQL, ids, n).Query(func(rows pgx.Rows) error {
			var (
				id    uuid.UUID
				bound *uuid.UUID
			)
			_, err := pgx.ForEachRow(rows, []any{&id, &bound}, func() error {
				person := uuid.Nil
				if bound != nil {
					person = *bound
				}
				locked(id, person)
				return nil
			})
			return err
		})
	}
}

// lockAffected locks the identity, the other identities of the person in the app, and
// all their sessions, each in a statement of its own. The person must be locked, or
// uuid.Nil. If the rule lets a second identity join, the others are not affected. They
// are then not looked up, because that would search all shards. If the identity does not
// exist, it returns [pgx.ErrNoRows].
func lockAffected(ctx context.Context, tx *transaction, identity, person uuid.UUID, appID string, rule auth.SecondIdentity, now time.Time) (*affected, error) {
	c := &affected{appID: appID}
	ids := []uuid.UUID{identity}
	if rule != auth.SecondJoins {
		rows, err := tx.Query(ctx, othersSQL, person, appID, identity)
		if err != nil {
			return nil, err
		}
		if ids, err = pgx.AppendRows(ids, rows, pgx.RowTo[uuid.UUID]); err != nil {
			return nil, err
		}
	}
	var b pgx.Batch
	queueLockIdentities(&b, ids, func(id, bound uuid.UUID) {
		switch {
		case id == identity:
			c.identity, c.current = id, bound
		case bound == person:
			c.others = append(c.others, id)
		}
	})
	for n, ids := range byShard(ids) {
		b.Queue(lockSessionsSQL, ids, n, session.IdleAfter(now)).Query(func(rows pgx.Rows) (err error) {
			c.sessions, err = pgx.AppendRows(c.sessions, rows, func(row pgx.CollectableRow) (s concernedSession, err error) {
				return s, row.Scan(&s.id, &s.identity, &s.ver)
			})
			return err
		})
	}
	err := run(ctx, tx, &b)
	if err == nil && c.identity == uuid.Nil {
		err = pgx.ErrNoRows
	}
	return c, err
}

var (
	attachSQL = statement(`
update identities set person_id = $2, person_disabled_at = null, bound_by = $3, bound_at = $4 where uuid = $1 and shard = $5`)
	detachSQL = statement(`
update identities set person_id = null, person_disabled_at = null, bound_by = null, bound_at = null where uuid = $1 and shard = $2`)
	raiseVerSQL = statement(`update sessions set person_id = $2, ver = ver + 1 where id = any ($1) and shard = $3`)
)

// queueAttach adds the binding of an identity to a person to the batch. The identity
// must be locked and the person not disabled. by is a method or [person.BoundByAdmin].
func queueAttach(b *pgx.Batch, identity, person uuid.UUID, by string, now time.Time) {
	b.Queue(attachSQL, identity, person, by, auth.StoredTime(now), shard.Of(identity))
}

// queueDetach adds the removal of the identities' bindings to the batch. The identities
// must be locked.
func queueDetach(b *pgx.Batch, identities ...uuid.UUID) {
	for _, id := range identities {
		b.Queue(detachSQL, id, shard.Of(id))
	}
}

// queueRaise gives the identity's sessions the person, or no person for uuid.Nil, and
// the next ver. It returns their cutoffs, which must be queued last.
func (c *affected) queueRaise(b *pgx.Batch, person uuid.UUID, now time.Time) []auth.Cutoff {
	var (
		ids     []uuid.UUID
		cutoffs []auth.Cutoff
	)
	for _, s := range c.sessions {
		if s.identity == c.identity {
			ids = append(ids, s.id)
			cutoffs = append(cutoffs, auth.SessionChanged(c.appID, s.id, s.ver+1, now))
		}
	}
	if len(ids) > 0 {
		b.Queue(raiseVerSQL, ids, uuidOrNull(person), shard.Of(c.identity))
	}
	return cutoffs
}

// queueEnd adds the end of the sessions of some of the identities to the batch. It
// returns their cutoffs, which must be queued last.
func (c *affected) queueEnd(b *pgx.Batch, identities []uuid.UUID, why auth.EndReason, now time.Time) []auth.Cutoff {
	ending := make(map[uuid.UUID]bool, len(identities))
	for _, id := range identities {
		ending[id] = true
	}
	var sessions []sessionOfApp
	for _, s := range c.sessions {
		if ending[s.identity] {
			sessions = append(sessions, sessionOfApp{s.id, c.appID})
		}
	}
	return queueEndOnly(b, why, now, sessions...)
}
