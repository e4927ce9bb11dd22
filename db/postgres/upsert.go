package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// upsertAttempts bounds the attempts for a batch that collides with transactions that
// use the same phone or external_id.
const upsertAttempts = 5

// UpsertPersons implements [person.Store].
func (s *Store) UpsertPersons(ctx context.Context, u person.Upsert) ([]person.Upserted, error) {
	for attempt := 1; ; attempt++ {
		done, err := s.upsertPersons(ctx, &u)
		if err == nil || attempt == upsertAttempts || !collided(err) {
			return done, err
		}
	}
}

// collided reports whether a transaction failed because of another one that committed
// just before it or deadlocked with it. A new attempt sees the other's changes.
func collided(err error) bool {
	const deadlock = "40P01"
	var pg *pgconn.PgError
	return isUniqueViolation(err) || errors.As(err, &pg) && pg.Code == deadlock
}

// A batch locks the known persons in the order of their ids. One batch runs at a time,
// so that two batches never wait for each other's inserted rows.
var (
	// A plan that was good for few persons is bad for a million, and during an import
	// PostgreSQL keeps it until it has updated its statistics.
	customPlanSQL = statement(`set local plan_cache_mode = force_custom_plan`)

	lockKnownSQL   = statement(`select id from persons where external_id = any ($1) order by id for no key update`)
	knownSQL       = statement(`select` + personRowColumns + `, '{}'::text[] from persons p where p.external_id = any ($1)`)
	knownFactsSQL  = statement(`select f.person_id, f.name, f.mac from persons p join person_facts f on f.person_id = p.id where p.external_id = any ($1)`)
	phoneOwnersSQL = statement(`select phone, id from persons where phone = any ($1)`)

	freePhonesSQL    = statement(`update persons set phone = null where id = any ($1)`)
	updatePersonsSQL = statement(`
update persons p
set name = c.name, phone = c.phone, attributes = c.attributes, updated_at = $5
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as c (id, name, phone, attributes)
where p.id = c.id`)
	insertPersonsSQL = statement(`
insert into persons (id, external_id, name, phone, attributes, source, created_at)
select c.id, c.external_id, c.name, c.phone, c.attributes, c.source, $7
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
  as c (id, external_id, name, phone, attributes, source)`)
	removeFactRowsSQL = statement(`
delete from person_facts f
using unnest($1::uuid[], $2::text[]) as c (person_id, name)
where f.person_id = c.person_id and f.name = c.name`)
	setFactRowsSQL = statement(`
insert into person_facts (person_id, name, mac)
select c.person_id, c.name, c.mac from unnest($1::uuid[], $2::text[], $3::bytea[]) as c (person_id, name, mac)
on conflict (person_id, name) do update set mac = excluded.mac`)
)

func (s *Store) upsertPersons(ctx context.Context, u *person.Upsert) ([]person.Upserted, error) {
	var plan person.UpsertPlan
	err := s.inTx(ctx, "UpsertPersons", func(tx *transaction) error {
		known, owners, err := lockBatch(ctx, tx, u)
		if err != nil {
			return err
		}
		plan = person.PlanUpsert(u, known, owners)
		if u.DryRun || !plan.Changes() {
			return nil
		}
		var b pgx.Batch
		queuePlan(&b, &plan, u.Event.At)
		if err := queueAudit(&b, plan.Audit(u.Event)); err != nil {
			return err
		}
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return nil, err
	}
	return plan.Outcomes, nil
}

// lockBatch locks and reads the persons of a batch and finds the owners of its phones.
func lockBatch(ctx context.Context, tx *transaction, u *person.Upsert) ([]person.Known, map[string]uuid.UUID, error) {
	ids, phones := make([]string, len(u.Drafts)), []string{}
	for i := range u.Drafts {
		d := &u.Drafts[i]
		ids[i] = d.ExternalID
		if d.Phone != nil && *d.Phone != "" {
			phones = append(phones, *d.Phone)
		}
	}
	var (
		b      pgx.Batch
		known  []person.Known
		at     = map[uuid.UUID]int{}
		owners = map[string]uuid.UUID{}
	)
	b.Queue(customPlanSQL)
	b.Queue(advisoryLockSQL, lockPersons)
	b.Queue(lockKnownSQL, ids)
	b.Queue(knownSQL, ids).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			p, err := scanPerson(rows)
			if err != nil {
				return err
			}
			at[p.ID] = len(known)
			known = append(known, person.Known{Person: p, Facts: map[string][]byte{}})
		}
		return rows.Err()
	})
	b.Queue(knownFactsSQL, ids).Query(func(rows pgx.Rows) error {
		var f person.FactRow
		_, err := pgx.ForEachRow(rows, []any{&f.Person, &f.Name, &f.MAC}, func() error {
			known[at[f.Person]].Facts[f.Name] = f.MAC
			return nil
		})
		return err
	})
	b.Queue(phoneOwnersSQL, phones).Query(func(rows pgx.Rows) error {
		var (
			phone string
			owner uuid.UUID
		)
		_, err := pgx.ForEachRow(rows, []any{&phone, &owner}, func() error {
			owners[phone] = owner
			return nil
		})
		return err
	})
	return known, owners, run(ctx, tx, &b)
}

// queuePlan adds the plan's changes to the batch, in the plan's order.
func queuePlan(b *pgx.Batch, plan *person.UpsertPlan, now time.Time) {
	if len(plan.FreePhones) > 0 {
		b.Queue(freePhonesSQL, plan.FreePhones)
	}
	if c := columnsOf(plan.Update); len(c.ids) > 0 {
		b.Queue(updatePersonsSQL, c.ids, c.names, c.phones, c.attributes, timeOrNull(now))
	}
	if c := columnsOf(plan.Insert); len(c.ids) > 0 {
		b.Queue(insertPersonsSQL, c.ids, c.externalIDs, c.names, c.phones, c.attributes, c.sources, timeOrNull(now))
	}
	if persons, names, _ := factColumns(plan.RemoveFacts); len(persons) > 0 {
		b.Queue(removeFactRowsSQL, persons, names)
	}
	if persons, names, macs := factColumns(plan.SetFacts); len(persons) > 0 {
		b.Queue(setFactRowsSQL, persons, names, macs)
	}
}

// personArrays holds columns of persons, for unnest.
type personArrays struct {
	ids                                     []uuid.UUID
	externalIDs, names, attributes, sources []string
	phones                                  []*string
}

func columnsOf(persons []auth.PersonRecord) personArrays {
	var c personArrays
	for i := range persons {
		p := &persons[i]
		c.ids, c.externalIDs, c.names = append(c.ids, p.ID), append(c.externalIDs, p.ExternalID), append(c.names, p.Name)
		c.phones, c.attributes = append(c.phones, textOrNull(p.Phone)), append(c.attributes, string(p.Attributes))
		c.sources = append(c.sources, string(p.Source))
	}
	return c
}

func factColumns(facts []person.FactRow) (persons []uuid.UUID, names []string, macs [][]byte) {
	for _, f := range facts {
		persons, names, macs = append(persons, f.Person), append(names, f.Name), append(macs, f.MAC)
	}
	return persons, names, macs
}
