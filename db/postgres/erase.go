package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/shard"
)

var (
	eraseIdentitySQL = statement(`
update identities
set subject = $4, unionid = null, sealed_session_key = '', person_id = null, disabled_at = null,
    person_disabled_at = null, bound_at = null, bound_by = null, erased_at = $2
where uuid = $1 and shard = $3`)
	eraseSessionsSQL = statement(`update sessions set device = '', person_id = null where identity_uuid = $1 and shard = $2`)
	eraseTicketsSQL  = statement(`delete from bind_tickets where used_by = $1`)
	eraseAttemptsSQL = statement(`delete from bind_attempts where kind = $1 and key = $2`)
	eraseAuditSQL    = statement(`delete from audit_values where audit_id in (select id from audit where identity_uuid = $1)`)

	madeByPhoneSQL = statement(`select source = 'phone' and external_id = id::text from persons where id = $1`)
	// Another binding to the person locks the person's row first, which is locked here.
	sharedSQL            = statement(`select exists (select 1 from identities where person_id = $1 and uuid <> $2)`)
	forgetPersonSQL      = statement(`update persons set phone = null, name = '', attributes = '{}', updated_at = $2 where id = $1`)
	forgetPersonFactsSQL = statement(`delete from person_facts where person_id = $1`)
	forgetPersonAuditSQL = statement(`delete from audit_values where audit_id in (select id from audit where person_id = $1)`)
)

// errRebound says that the identity was bound to another person between the read that
// told which person to lock and the lock.
var errRebound = errors.New("the identity was bound to another person before it was locked")

// EraseIdentity implements [person.Store].
func (s *Store) EraseIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	for {
		i, err := s.erase(ctx, &c)
		if !errors.Is(err, errRebound) {
			return i, err
		}
	}
}

func (s *Store) erase(ctx context.Context, c *person.IdentityChange) (person.IdentityRecord, error) {
	var i person.IdentityRecord
	err := s.inTx(ctx, "EraseIdentity", func(tx *transaction) error {
		// The person comes first in the order of locks, and only the identity says which
		// person it is.
		before, err := identity(ctx, tx, identityReadSQL, c.Identity, c.Apps)
		if err != nil {
			return err
		}
		if before.Person != uuid.Nil {
			if err := lockPerson(ctx, tx, before.Person); err != nil {
				return err
			}
		}
		if i, err = identity(ctx, tx, identityLockedSQL, c.Identity, c.Apps); err != nil || !i.ErasedAt.IsZero() {
			return err
		}
		if i.Person != before.Person {
			return errRebound
		}
		forget, err := mustForget(ctx, tx, &i)
		if err != nil {
			return err
		}
		ending, err := lockSessionsToEnd(ctx, tx, c.Now, i.UUID)
		if err != nil {
			return err
		}
		var b pgx.Batch
		now := auth.StoredTime(c.Now)
		if forget {
			b.Queue(forgetPersonSQL, i.Person, now)
			b.Queue(forgetPersonFactsSQL, i.Person)
			b.Queue(forgetPersonAuditSQL, i.Person)
		}
		b.Queue(eraseIdentitySQL, i.UUID, now, shard.Of(i.UUID), "erased:"+i.UUID.String())
		b.Queue(eraseSessionsSQL, i.UUID, shard.Of(i.UUID))
		b.Queue(eraseTicketsSQL, i.UUID)
		b.Queue(eraseAttemptsSQL, string(auth.AttemptIdentity), i.UUID.String())
		b.Queue(eraseAuditSQL, i.UUID)
		if err := queueAudit(&b, c.ErasedEvent(&i, ending.live, forget)); err != nil {
			return err
		}
		if len(ending.sessions) > 0 {
			queueEnd(&b, auth.EndErased, c.Now, ending.sessions...)
		}
		i = i.Erase(now)
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return person.IdentityRecord{}, err
	}
	return i, nil
}

// mustForget reports whether the person of an identity is forgotten with it: a person that
// a phone number made, without another identity.
func mustForget(ctx context.Context, tx *transaction, i *person.IdentityRecord) (bool, error) {
	if i.Person == uuid.Nil {
		return false, nil
	}
	var (
		b            pgx.Batch
		made, shared bool
	)
	b.Queue(madeByPhoneSQL, i.Person).QueryRow(func(row pgx.Row) error { return row.Scan(&made) })
	b.Queue(sharedSQL, i.Person, i.UUID).QueryRow(func(row pgx.Row) error { return row.Scan(&shared) })
	err := run(ctx, tx, &b)
	return made && !shared, err
}
