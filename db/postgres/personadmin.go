package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// Persons are searched by a unique value, by the beginning of the name, or without a
// condition. Each search is a statement of its own, so that each plan uses its index.
var (
	personsByExternalIDSQL = statement(personsSQL(`p.external_id = $3`))
	personsByPhoneSQL      = statement(personsSQL(`p.phone = $4`))
	personsByNameSQL       = statement(personsSQL(`p.name collate "C" >= $5 and p.name collate "C" < $5 || chr(1114111)`))
	personsAllSQL          = statement(personsSQL(`true`))
)

func personsSQL(by string) string {
	return `
select` + personColumns + `
from persons p
where p.id > $1 and ` + by + `
  and ($3::text is null or p.external_id = $3) and ($4::text is null or p.phone = $4)
  and ($5::text is null or starts_with(p.name, $5))
order by p.id limit $2`
}

// Persons implements [person.Store].
func (s *Store) Persons(ctx context.Context, q person.Query) ([]auth.PersonRecord, error) {
	sql := personsAllSQL
	switch {
	case q.ExternalID != "":
		sql = personsByExternalIDSQL
	case q.Phone != "":
		sql = personsByPhoneSQL
	case q.Name != "":
		sql = personsByNameSQL
	}
	rows, err := s.pool.Query(ctx, sql, q.After, q.Limit, textOrNull(q.ExternalID), textOrNull(q.Phone), textOrNull(q.Name))
	if err != nil {
		return nil, s.fail(ctx, "Persons", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (auth.PersonRecord, error) { return scanPerson(row) })
	return found, s.fail(ctx, "Persons", err)
}

var personFactsSQL = statement(`select name, mac from person_facts where person_id = $1`)

// UpdatePerson implements [person.Store].
func (s *Store) UpdatePerson(ctx context.Context, id uuid.UUID, d person.Draft, event auth.AuditEvent) (auth.PersonRecord, error) {
	var p auth.PersonRecord
	err := s.inTx(ctx, "UpdatePerson", func(tx *transaction) error {
		known, err := lockKnown(ctx, tx, id)
		if err != nil {
			return err
		}
		c, err := d.Apply(known, event.At)
		if err != nil {
			return err
		}
		p = c.After.Person
		if len(c.Fields) == 0 {
			return nil
		}
		if err := updatePerson(ctx, tx, id, &d, event.At); err != nil {
			return err
		}
		var b pgx.Batch
		queueFacts(&b, id, d.Facts)
		if err := queueAudit(&b, event.About(id).With(map[string]any{"changed": c.Fields})); err != nil {
			return err
		}
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return auth.PersonRecord{}, err
	}
	return p, nil
}

// lockKnown locks a person and reads them with their facts, or returns [auth.NotFound].
func lockKnown(ctx context.Context, tx *transaction, id uuid.UUID) (person.Known, error) {
	var k person.Known
	if err := lockPerson(ctx, tx, id); err != nil {
		return k, err
	}
	var err error
	if k.Person, err = personRecord(ctx, tx, id); err != nil {
		return k, err
	}
	rows, err := tx.Query(ctx, personFactsSQL, id)
	if err != nil {
		return k, err
	}
	k.Facts = map[string][]byte{}
	var (
		name string
		mac  []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&name, &mac}, func() error {
		k.Facts[name] = mac
		return nil
	})
	return k, err
}

// lockPerson takes the lock of every change to a person or to their bindings, or returns
// [auth.NotFound].
func lockPerson(ctx context.Context, tx *transaction, id uuid.UUID) error {
	err := tx.QueryRow(ctx, lockPersonSQL, id).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return auth.NotFound
	}
	return err
}

// DisablePerson implements [person.Store].
func (s *Store) DisablePerson(ctx context.Context, id uuid.UUID, event auth.AuditEvent) (auth.PersonRecord, error) {
	return s.switchPerson(ctx, "DisablePerson", id, true, event)
}

// EnablePerson implements [person.Store].
func (s *Store) EnablePerson(ctx context.Context, id uuid.UUID, event auth.AuditEvent) (auth.PersonRecord, error) {
	return s.switchPerson(ctx, "EnablePerson", id, false, event)
}

var (
	switchPersonSQL           = statement(`update persons set disabled_at = $2, updated_at = $3 where id = $1`)
	switchPersonIdentitiesSQL = statement(`update identities set person_disabled_at = $2 where uuid = any ($1) and shard = $3`)
)

// switchPerson disables or enables a person. The lock of the person's row prevents new
// bindings, and the locks of their identities prevent log-ins.
func (s *Store) switchPerson(ctx context.Context, op string, id uuid.UUID, disable bool, event auth.AuditEvent) (auth.PersonRecord, error) {
	var p auth.PersonRecord
	err := s.inTx(ctx, op, func(tx *transaction) error {
		err := lockPerson(ctx, tx, id)
		if err != nil {
			return err
		}
		if p, err = personRecord(ctx, tx, id); err != nil || p.Disabled == disable {
			return err
		}
		identities, err := lockPersonIdentities(ctx, tx, id, nil)
		if err != nil {
			return err
		}
		var disabledAt time.Time
		detail := map[string]any{"identities": len(identities)}
		ending := &sessionsToEnd{}
		if disable {
			disabledAt = event.At
			if ending, err = lockSessionsToEnd(ctx, tx, event.At, identities...); err != nil {
				return err
			}
			detail["sessions"] = ending.live
		}
		p.Disabled, p.UpdatedAt = disable, auth.StoredTime(event.At)
		var b pgx.Batch
		b.Queue(switchPersonSQL, id, timeOrNull(disabledAt), p.UpdatedAt)
		for n, ids := range byShard(identities) {
			b.Queue(switchPersonIdentitiesSQL, ids, timeOrNull(disabledAt), n)
		}
		if err := queueAudit(&b, event.About(id).With(detail)); err != nil {
			return err
		}
		if len(ending.sessions) > 0 {
			queueEnd(&b, auth.EndPersonDisabled, event.At, ending.sessions...)
		}
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return auth.PersonRecord{}, err
	}
	return p, nil
}
