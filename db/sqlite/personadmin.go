package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Persons are searched by a unique value, by the beginning of the name, or without a
// condition. Each search is a statement of its own, so that each plan uses its index.
var (
	personsByExternalIDSQL = statement(personsSQL(`p.external_id = ?3`))
	personsByPhoneSQL      = statement(personsSQL(`p.phone = ?4`))
	personsByNameSQL       = statement(personsSQL(`p.name >= ?5 and p.name < ?5 || char(1114111)`))
	personsAllSQL          = statement(personsSQL(`true`))
)

func personsSQL(by string) string {
	return `
select` + personColumns + `
from persons p
where p.id > ?1 and ` + by + `
  and (?3 is null or p.external_id = ?3) and (?4 is null or p.phone = ?4)
  and (?5 is null or substr(p.name, 1, length(?5)) = ?5)
order by p.id limit ?2`
}

// Persons implements [person.Store].
func (s *Store) Persons(ctx context.Context, q person.Query) ([]auth.PersonRecord, error) {
	query := personsAllSQL
	switch {
	case q.ExternalID != "":
		query = personsByExternalIDSQL
	case q.Phone != "":
		query = personsByPhoneSQL
	case q.Name != "":
		query = personsByNameSQL
	}
	rows, err := s.r.QueryContext(ctx, query, q.After, q.Limit, textOrNull(q.ExternalID), textOrNull(q.Phone), textOrNull(q.Name))
	if err != nil {
		return nil, translate(ctx, "Persons", err)
	}
	found, err := collect(rows, func(rows *sql.Rows) (auth.PersonRecord, error) { return scanPerson(rows) })
	return found, translate(ctx, "Persons", err)
}

var personFactsSQL = statement(`select person_id, name, mac from person_facts where person_id = ?`)

// UpdatePerson implements [person.Store].
func (s *Store) UpdatePerson(ctx context.Context, id uuid.UUID, d person.Draft, event auth.AuditEvent) (auth.PersonRecord, error) {
	var p auth.PersonRecord
	err := s.inTx(ctx, "UpdatePerson", func(tx *writeTx) error {
		known, err := knownPerson(ctx, tx, id)
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
		if err := writeFacts(ctx, tx, id, d.Facts); err != nil {
			return err
		}
		return writeAudit(ctx, tx, event.About(id).With(map[string]any{"changed": c.Fields}))
	})
	if err != nil {
		return auth.PersonRecord{}, err
	}
	return p, nil
}

// knownPerson reads a person with their facts, or returns [auth.NotFound].
func knownPerson(ctx context.Context, tx *writeTx, id uuid.UUID) (person.Known, error) {
	p, err := personRecord(ctx, tx, id)
	if err != nil {
		return person.Known{}, err
	}
	known := []person.Known{{Person: p, Facts: map[string][]byte{}}}
	err = readFacts(ctx, tx, known, personFactsSQL, id)
	return known[0], err
}

// readFacts reads facts of the known persons.
func readFacts(ctx context.Context, tx *writeTx, known []person.Known, query string, arg any) error {
	at := make(map[uuid.UUID]int, len(known))
	for i := range known {
		at[known[i].Person.ID] = i
	}
	rows, err := tx.QueryContext(ctx, query, arg)
	if err != nil {
		return err
	}
	_, err = collect(rows, func(rows *sql.Rows) (struct{}, error) {
		var f person.FactRow
		err := rows.Scan(&f.Person, &f.Name, &f.MAC)
		if i, ok := at[f.Person]; ok {
			known[i].Facts[f.Name] = f.MAC
		}
		return struct{}{}, err
	})
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
	switchPersonSQL           = statement(`update persons set disabled_at = ?2, updated_at = ?3 where id = ?1`)
	switchPersonIdentitiesSQL = statement(`update identities set person_disabled_at = ?2 where person_id = ?1`)
)

// switchPerson disables or enables a person.
func (s *Store) switchPerson(ctx context.Context, op string, id uuid.UUID, disable bool, event auth.AuditEvent) (auth.PersonRecord, error) {
	var p auth.PersonRecord
	err := s.inTx(ctx, op, func(tx *writeTx) error {
		var err error
		if p, err = personRecord(ctx, tx, id); err != nil || p.Disabled == disable {
			return err
		}
		v := endTargets{}
		if err := v.ofPerson(ctx, tx, &session.RevokeParams{Target: session.Target{Person: id}}); err != nil {
			return err
		}
		var disabledAt time.Time
		detail := map[string]any{"identities": len(v.identities)}
		if disable {
			disabledAt = event.At
			if detail["sessions"], err = liveOf(ctx, tx, event.At, v.identities...); err != nil {
				return err
			}
		}
		p.Disabled, p.UpdatedAt = disable, auth.StoredTime(event.At)
		if _, err := tx.ExecContext(ctx, switchPersonSQL, id, micros(disabledAt), micros(event.At)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, switchPersonIdentitiesSQL, id, micros(disabledAt)); err != nil {
			return err
		}
		if err := writeAudit(ctx, tx, event.About(id).With(detail)); err != nil {
			return err
		}
		if !disable {
			return nil
		}
		for _, identity := range v.identities {
			if err := endAll(ctx, tx, identity, auth.EndPersonDisabled, event.At); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return auth.PersonRecord{}, err
	}
	return p, nil
}

var liveOfIdentitySQL = statement(`
select count(*) from sessions s join apps a on a.appid = s.appid
where s.identity_uuid = ? and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > ?`)

// liveOf counts the live sessions of identities.
func liveOf(ctx context.Context, tx *writeTx, now time.Time, identities ...uuid.UUID) (int, error) {
	all := 0
	for _, id := range identities {
		var n int
		if err := tx.QueryRowContext(ctx, liveOfIdentitySQL, id, micros(now)).Scan(&n); err != nil {
			return 0, err
		}
		all += n
	}
	return all, nil
}
