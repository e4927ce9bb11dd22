package sqlite

import (
	"context"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

var (
	eraseIdentitySQL = statement(`
update identities
set subject = 'erased:' || uuid, unionid = null, sealed_session_key = x'', person_id = null, disabled_at = null,
    person_disabled_at = null, bound_at = null, bound_by = null, erased_at = ?2
where uuid = ?1`)
	eraseSessionsSQL = statement(`update sessions set device = '', person_id = null where identity_uuid = ?`)
	eraseTicketsSQL  = statement(`delete from bind_tickets where used_by = ?`)
	eraseAttemptsSQL = statement(`delete from bind_attempts where kind = ? and key = ?`)
	eraseAuditSQL    = statement(`delete from audit_values where audit_id in (select id from audit where identity_uuid = ?)`)

	soleSQL = statement(`
select p.source = 'phone' and p.external_id = p.id
  and not exists (select 1 from identities i where i.person_id = p.id and i.uuid <> ?2)
from persons p where p.id = ?1`)
	forgetPersonSQL      = statement(`update persons set phone = null, name = '', attributes = '{}', updated_at = ?2 where id = ?1`)
	forgetPersonFactsSQL = statement(`delete from person_facts where person_id = ?`)
	forgetPersonAuditSQL = statement(`delete from audit_values where audit_id in (select id from audit where person_id = ?)`)
)

// EraseIdentity implements [person.Store].
func (s *Store) EraseIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	var i person.IdentityRecord
	err := s.inTx(ctx, "EraseIdentity", func(tx *writeTx) error {
		var err error
		if i, err = identity(ctx, tx, c.Identity, c.Apps); err != nil || !i.ErasedAt.IsZero() {
			return err
		}
		forget := false
		if i.Person != uuid.Nil {
			if err := tx.QueryRowContext(ctx, soleSQL, i.Person, i.UUID).Scan(&forget); err != nil {
				return err
			}
		}
		live, err := liveOf(ctx, tx, c.Now, i.UUID)
		if err != nil {
			return err
		}
		if err := endAll(ctx, tx, i.UUID, auth.EndErased, c.Now); err != nil {
			return err
		}
		type step struct {
			sql  string
			args []any
		}
		steps := []step{
			{eraseIdentitySQL, []any{i.UUID, micros(c.Now)}},
			{eraseSessionsSQL, []any{i.UUID}},
			{eraseTicketsSQL, []any{i.UUID}},
			{eraseAttemptsSQL, []any{string(auth.AttemptIdentity), i.UUID.String()}},
			{eraseAuditSQL, []any{i.UUID}},
		}
		if forget {
			steps = append(steps, step{forgetPersonSQL, []any{i.Person, micros(c.Now)}}, step{forgetPersonFactsSQL, []any{i.Person}},
				step{forgetPersonAuditSQL, []any{i.Person}})
		}
		for _, st := range steps {
			if _, err := tx.ExecContext(ctx, st.sql, st.args...); err != nil {
				return err
			}
		}
		event := c.ErasedEvent(&i, live, forget)
		i = i.Erase(auth.StoredTime(c.Now))
		return writeAudit(ctx, tx, event)
	})
	if err != nil {
		return person.IdentityRecord{}, err
	}
	return i, nil
}
