package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// personColumns are the columns of persons p that scanPerson scans. The last one reads
// another table.
const (
	personRowColumns = `
  p.id, p.external_id, p.name, p.phone, p.attributes, p.source, p.disabled_at is not null,
  p.created_at, coalesce(p.updated_at, p.created_at)`
	personColumns = personRowColumns + `,
  (select coalesce(json_group_array(f.name), '[]') from (
    select name from person_facts where person_id = p.id order by name) f)`
)

func scanPerson(row interface{ Scan(...any) error }) (auth.PersonRecord, error) {
	var (
		p          auth.PersonRecord
		phone      sql.NullString
		attributes string
	)
	err := row.Scan(&p.ID, &p.ExternalID, &p.Name, &phone, &attributes, &p.Source, &p.Disabled,
		into(&p.CreatedAt), into(&p.UpdatedAt), (*jsonList)(&p.Facts))
	p.Phone, p.Attributes = phone.String, []byte(attributes)
	return p, err
}

var personRecordSQL = statement(`select` + personColumns + ` from persons p where p.id = ?`)

// personRecord reads a person, or returns [auth.NotFound].
func personRecord(ctx context.Context, q querier, id uuid.UUID) (auth.PersonRecord, error) {
	p, err := scanPerson(q.QueryRowContext(ctx, personRecordSQL, id))
	if errors.Is(err, sql.ErrNoRows) {
		return auth.PersonRecord{}, auth.NotFound
	}
	return p, err
}

// Person implements [binding.Store] and [person.Store].
func (s *Store) Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error) {
	p, err := personRecord(ctx, s.r, id)
	if err != nil {
		return auth.PersonRecord{}, translate(ctx, "Person", err)
	}
	return p, nil
}

// CreatePerson implements [person.Store].
func (s *Store) CreatePerson(ctx context.Context, d person.Draft, event auth.AuditEvent) (auth.PersonRecord, error) {
	var p auth.PersonRecord
	err := s.inTx(ctx, "CreatePerson", func(tx *writeTx) error {
		created, err := insertPerson(ctx, tx, &d, event.At)
		if err != nil {
			return err
		}
		if !created {
			return auth.PersonConflict
		}
		if err := writeFacts(ctx, tx, d.ID, d.Facts); err != nil {
			return err
		}
		if err := writeAudit(ctx, tx, event.About(d.ID)); err != nil {
			return err
		}
		p, err = personRecord(ctx, tx, d.ID)
		return err
	})
	if err != nil {
		return auth.PersonRecord{}, err
	}
	return p, nil
}

var insertPersonSQL = statement(`
insert into persons (id, external_id, name, phone, attributes, source, created_at)
values (?, ?, ?, ?, ?, ?, ?)
on conflict do nothing`)

// insertPerson adds the row of a person without facts. It returns false if another
// person has the external_id or phone.
func insertPerson(ctx context.Context, tx *writeTx, d *person.Draft, now time.Time) (bool, error) {
	row := d.Row()
	res, err := tx.ExecContext(ctx, insertPersonSQL, row.ID, row.ExternalID, row.Name, textOrNull(row.Phone), string(row.Attributes),
		string(row.Source), micros(now))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

var (
	setFactSQL = statement(`
insert into person_facts (person_id, name, mac) values (?, ?, ?)
on conflict (person_id, name) do update set mac = excluded.mac where mac <> excluded.mac`)
	removeFactSQL = statement(`delete from person_facts where person_id = ? and name = ?`)
)

// writeFacts writes a draft's changes to a person's facts.
func writeFacts(ctx context.Context, tx *writeTx, person uuid.UUID, facts map[string][]byte) error {
	for name, mac := range facts {
		var err error
		if mac == nil {
			_, err = tx.ExecContext(ctx, removeFactSQL, person, name)
		} else {
			_, err = tx.ExecContext(ctx, setFactSQL, person, name, mac)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// updatePersonSQL leaves a column unchanged if its value is NULL. An empty phone removes
// the phone.
var updatePersonSQL = statement(`
update persons
set external_id = coalesce(?2, external_id), name = coalesce(?3, name),
    phone = case when ?4 is null then phone else nullif(?4, '') end,
    attributes = coalesce(?5, attributes), updated_at = ?6
where id = ?1`)

// updatePerson changes the row of a person, without facts. It returns
// [auth.PersonConflict] if another person has the external_id or phone.
func updatePerson(ctx context.Context, tx *writeTx, id uuid.UUID, d *person.Draft, now time.Time) error {
	_, err := tx.ExecContext(ctx, updatePersonSQL, id, textOrNull(d.ExternalID), d.Name, d.Phone,
		sql.NullString{String: string(d.Attributes), Valid: d.Attributes != nil}, micros(now))
	if isUniqueViolation(err) {
		return auth.PersonConflict
	}
	return err
}

// isUniqueViolation reports whether a row was refused because another row has its key.
func isUniqueViolation(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
}

var personByExternalIDSQL = statement(`select id from persons where external_id = ?`)

// savePerson creates or updates a person by external_id. It returns the person's id,
// whether the person is new, and the changed fields.
func savePerson(ctx context.Context, tx *writeTx, d *person.Draft, now time.Time) (id uuid.UUID, created bool, changed []string, err error) {
	created, err = insertPerson(ctx, tx, d, now)
	if err != nil {
		return uuid.Nil, false, nil, err
	}
	id = d.ID
	if !created {
		err = tx.QueryRowContext(ctx, personByExternalIDSQL, d.ExternalID).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return uuid.Nil, false, nil, auth.PersonConflict // on the phone
		}
		if err != nil {
			return uuid.Nil, false, nil, err
		}
		known, err := knownPerson(ctx, tx, id)
		if err != nil {
			return uuid.Nil, false, nil, err
		}
		c, err := d.Apply(known, now)
		if err != nil || len(c.Fields) == 0 {
			return id, false, nil, err
		}
		changed = c.Fields
		if err := updatePerson(ctx, tx, id, d, now); err != nil {
			return uuid.Nil, false, nil, err
		}
	}
	return id, created, changed, writeFacts(ctx, tx, id, d.Facts)
}
