package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// A batch is passed to SQLite as JSON, so that each step is one statement for any number
// of persons. A null item reads as NULL.
var (
	knownSQL = statement(`
select` + personRowColumns + `, '[]' from persons p where p.external_id in (select value from json_each(?)) order by p.id`)
	knownFactsSQL = statement(`
select f.person_id, f.name, f.mac from persons p join person_facts f on f.person_id = p.id
where p.external_id in (select value from json_each(?))`)
	phoneOwnersSQL = statement(`select phone, id from persons where phone in (select value from json_each(?))`)

	freePhonesSQL    = statement(`update persons set phone = null where id in (select value from json_each(?))`)
	updatePersonsSQL = statement(`
update persons
set name = c.value ->> 2, phone = c.value ->> 3, attributes = c.value ->> 4, updated_at = ?2
from json_each(?1) c
where persons.id = c.value ->> 0`)
	insertPersonsSQL = statement(`
insert into persons (id, external_id, name, phone, attributes, source, created_at)
select c.value ->> 0, c.value ->> 1, c.value ->> 2, c.value ->> 3, c.value ->> 4, c.value ->> 5, ?2
from json_each(?1) c`)
	removeFactRowsSQL = statement(`
delete from person_facts where (person_id, name) in (select c.value ->> 0, c.value ->> 1 from json_each(?) c)`)
	// Without the condition the parser reads "on" as part of a join.
	setFactRowsSQL = statement(`
insert into person_facts (person_id, name, mac)
select c.value ->> 0, c.value ->> 1, unhex(c.value ->> 2) from json_each(?) c where true
on conflict (person_id, name) do update set mac = excluded.mac`)
)

// UpsertPersons implements [person.Store].
func (s *Store) UpsertPersons(ctx context.Context, u person.Upsert) ([]person.Upserted, error) {
	var plan person.UpsertPlan
	err := s.inTx(ctx, "UpsertPersons", func(tx *writeTx) error {
		known, owners, err := readBatch(ctx, tx, &u)
		if err != nil {
			return err
		}
		plan = person.PlanUpsert(&u, known, owners)
		if u.DryRun || !plan.Changes() {
			return nil
		}
		if err := writePlan(ctx, tx, &plan, micros(u.Event.At)); err != nil {
			return err
		}
		return writeAudit(ctx, tx, plan.Audit(u.Event))
	})
	if err != nil {
		return nil, err
	}
	return plan.Outcomes, nil
}

// readBatch reads the persons of a batch and finds the owners of its phones.
func readBatch(ctx context.Context, tx *writeTx, u *person.Upsert) ([]person.Known, map[string]uuid.UUID, error) {
	ids, phones := make(jsonList, len(u.Drafts)), jsonList{}
	for i := range u.Drafts {
		d := &u.Drafts[i]
		ids[i] = d.ExternalID
		if d.Phone != nil && *d.Phone != "" {
			phones = append(phones, *d.Phone)
		}
	}
	rows, err := tx.QueryContext(ctx, knownSQL, ids)
	if err != nil {
		return nil, nil, err
	}
	known, err := collect(rows, func(rows *sql.Rows) (person.Known, error) {
		p, err := scanPerson(rows)
		return person.Known{Person: p, Facts: map[string][]byte{}}, err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := readFacts(ctx, tx, known, knownFactsSQL, ids); err != nil {
		return nil, nil, err
	}
	owners := map[string]uuid.UUID{}
	rows, err = tx.QueryContext(ctx, phoneOwnersSQL, phones)
	if err != nil {
		return nil, nil, err
	}
	_, err = collect(rows, func(rows *sql.Rows) (struct{}, error) {
		var (
			phone string
			owner uuid.UUID
		)
		err := rows.Scan(&phone, &owner)
		owners[phone] = owner
		return struct{}{}, err
	})
	return known, owners, err
}

// writePlan writes the plan's changes, in the plan's order.
func writePlan(ctx context.Context, tx *writeTx, plan *person.UpsertPlan, now micros) error {
	for _, step := range []struct {
		sql   string
		items []any
		args  []any
	}{
		{freePhonesSQL, idItems(plan.FreePhones), nil},
		{updatePersonsSQL, personItems(plan.Update), []any{now}},
		{insertPersonsSQL, personItems(plan.Insert), []any{now}},
		{removeFactRowsSQL, factItems(plan.RemoveFacts), nil},
		{setFactRowsSQL, factItems(plan.SetFacts), nil},
	} {
		if len(step.items) == 0 {
			continue
		}
		j, err := json.Marshal(step.items)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, step.sql, append([]any{string(j)}, step.args...)...); err != nil {
			return err
		}
	}
	return nil
}

func idItems(ids []uuid.UUID) []any {
	items := make([]any, len(ids))
	for i, id := range ids {
		items[i] = id
	}
	return items
}

func personItems(persons []auth.PersonRecord) []any {
	items := make([]any, len(persons))
	for i := range persons {
		p := &persons[i]
		var phone any
		if p.Phone != "" {
			phone = p.Phone
		}
		items[i] = []any{p.ID, p.ExternalID, p.Name, phone, string(p.Attributes), p.Source}
	}
	return items
}

func factItems(facts []person.FactRow) []any {
	items := make([]any, len(facts))
	for i, f := range facts {
		items[i] = []any{f.Person, f.Name, hex.EncodeToString(f.MAC)}
	}
	return items
}
