package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

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
  array(select f.name from person_facts f where f.person_id = p.id order by f.name)`
)

func scanPerson(row pgx.Row) (auth.PersonRecord, error) {
	var (
		p          auth.PersonRecord
		phone      *string
		attributes string
	)
	err := row.Scan(&p.ID, &p.ExternalID, &p.Name, &phone, &attributes, &p.Source, &p.Disabled,
		&p.CreatedAt, &p.UpdatedAt, &p.Facts)
	if phone != nil {
		p.Phone = *phone
	}
	p.Attributes, p.Facts = []byte(attributes), nilIfEmpty(p.Facts)
	p.CreatedAt, p.UpdatedAt = p.CreatedAt.UTC(), p.UpdatedAt.UTC()
	return p, err
}

var personRecordSQL = statement(`select` + personColumns + ` from persons p where p.id = $1`)

// personRecord reads a person, or returns [auth.NotFound].
func personRecord(ctx context.Context, q querier, id uuid.UUID) (auth.PersonRecord, error) {
	p, err := scanPerson(q.QueryRow(ctx, personRecordSQL, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return auth.PersonRecord{}, auth.NotFound
	}
	return p, err
}

// Person implements [binding.Store] and [person.Store].
func (s *Store) Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error) {
	p, err := personRecord(ctx, s.pool, id)
	if err != nil {
		return auth.PersonRecord{}, s.fail(ctx, "Person", err)
	}
	return p, nil
}

// CreatePerson implements [person.Store].
func (s *Store) CreatePerson(ctx context.Context, d person.Draft, event auth.AuditEvent) (auth.PersonRecord, error) {
	var p auth.PersonRecord
	err := s.inTx(ctx, "CreatePerson", func(tx *transaction) error {
		created, err := insertPerson(ctx, tx, &d, event.At)
		if err != nil {
			return err
		}
		if !created {
			return auth.PersonConflict
		}
		var b pgx.Batch
		queueFacts(&b, d.ID, d.Facts)
		if err := queueAudit(&b, event.About(d.ID)); err != nil {
			return err
		}
		if err := run(ctx, tx, &b); err != nil {
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
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing`)

// insertPerson adds the row of a person without facts. It returns false if another
// person has the external_id or phone.
func insertPerson(ctx context.Context, tx *transaction, d *person.Draft, now time.Time) (bool, error) {
	row := d.Row()
	tag, err := tx.Exec(ctx, insertPersonSQL, row.ID, row.ExternalID, row.Name, textOrNull(row.Phone), string(row.Attributes),
		string(row.Source), auth.StoredTime(now))
	return err == nil && tag.RowsAffected() == 1, err
}

var (
	setFactsSQL = statement(`
insert into person_facts as p (person_id, name, mac)
select $1, f.name, f.mac from unnest($2::text[], $3::bytea[]) as f (name, mac)
on conflict (person_id, name) do update set mac = excluded.mac where p.mac <> excluded.mac`)
	removeFactsSQL = statement(`delete from person_facts where person_id = $1 and name = any ($2)`)
)

// queueFacts adds a draft's changes to a person's facts to the batch.
func queueFacts(b *pgx.Batch, person uuid.UUID, facts map[string][]byte) {
	var (
		names, removed []string
		macs           [][]byte
	)
	for name, mac := range facts {
		if mac == nil {
			removed = append(removed, name)
		} else {
			names, macs = append(names, name), append(macs, mac)
		}
	}
	if len(names) > 0 {
		b.Queue(setFactsSQL, person, names, macs)
	}
	if len(removed) > 0 {
		slices.Sort(removed)
		b.Queue(removeFactsSQL, person, removed)
	}
}

// updatePersonSQL leaves a column unchanged if its value is NULL. An empty phone removes
// the phone.
var updatePersonSQL = statement(`
update persons
set external_id = coalesce($2, external_id), name = coalesce($3, name),
    phone = case when $4::text is null then phone else nullif($4, '') end,
    attributes = coalesce($5, attributes), updated_at = $6
where id = $1`)

// updatePerson changes a locked row of a person, without facts. It returns
// [auth.PersonConflict] if another person has the external_id or phone; the
// transaction is then aborted.
func updatePerson(ctx context.Context, tx *transaction, id uuid.UUID, d *person.Draft, now time.Time) error {
	var attributes *string
	if d.Attributes != nil {
		text := string(d.Attributes)
		attributes = &text
	}
	_, err := tx.Exec(ctx, updatePersonSQL, id, textOrNull(d.ExternalID), d.Name, d.Phone, attributes, auth.StoredTime(now))
	if isUniqueViolation(err) {
		return auth.PersonConflict
	}
	return err
}

var lockPersonByExternalIDSQL = statement(`select id from persons where external_id = $1 for no key update`)

// savePerson creates or updates a person by external_id and leaves the row locked. It
// returns the person's id, whether the person is new, and the changed fields.
func savePerson(ctx context.Context, tx *transaction, d *person.Draft, now time.Time) (id uuid.UUID, created bool, changed []string, err error) {
	created, err = insertPerson(ctx, tx, d, now)
	if err != nil {
		return uuid.Nil, false, nil, err
	}
	id = d.ID
	if !created {
		err = tx.QueryRow(ctx, lockPersonByExternalIDSQL, d.ExternalID).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return uuid.Nil, false, nil, auth.PersonConflict // on the phone
		}
		if err != nil {
			return uuid.Nil, false, nil, err
		}
		known, err := lockKnown(ctx, tx, id)
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
	var b pgx.Batch
	queueFacts(&b, id, d.Facts)
	if b.Len() == 0 {
		return id, created, changed, nil
	}
	return id, created, changed, run(ctx, tx, &b)
}
