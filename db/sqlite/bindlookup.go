package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/person"
)

var (
	factKeySQL    = statement(`select sealed from fact_keys where id = 1`)
	addFactKeySQL = statement(`insert into fact_keys (id, sealed, created_at) values (1, ?, ?) on conflict (id) do nothing`)
)

// FactKey implements [person.FactKeyStore].
func (s *Store) FactKey(ctx context.Context) ([]byte, error) {
	var sealed []byte
	err := s.r.QueryRowContext(ctx, factKeySQL).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return sealed, translate(ctx, "FactKey", err)
}

// AddFactKey implements [person.FactKeyStore].
func (s *Store) AddFactKey(ctx context.Context, sealed []byte, now time.Time) ([]byte, error) {
	err := s.inTx(ctx, "AddFactKey", func(tx *writeTx) error {
		if _, err := tx.ExecContext(ctx, addFactKeySQL, sealed, micros(now)); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, factKeySQL).Scan(&sealed)
	})
	if err != nil {
		return nil, err
	}
	return sealed, nil
}

// candidateSQL does the same work whether or not a person has the value. It goes down
// the index twice and takes the first row at or after the value, or the first row of
// all if the value is after the last. Then it reads that person's facts.
var candidateSQL = statement(`
with next as materialized (
  select person_id, mac from person_facts where name = ?1 and mac >= ?2 order by name, mac, person_id limit 1
), first as materialized (
  select person_id, mac from person_facts where name = ?1 order by name, mac, person_id limit 1
), chosen as materialized (
  select person_id, mac from (select 0 as turn, n.* from next n union all select 1, f.* from first f) c order by turn limit 1
)
select c.person_id, c.mac,
  exists (select 1 from person_facts o where o.name = ?1 and o.mac = c.mac and o.person_id > c.person_id),
  f.name, f.mac
from chosen c join person_facts f on f.person_id = c.person_id`)

// Candidate implements [binding.Store].
func (s *Store) Candidate(ctx context.Context, lookup string, mac []byte) (binding.Candidate, error) {
	c := binding.Candidate{Facts: map[string][]byte{}}
	rows, err := s.r.QueryContext(ctx, candidateSQL, lookup, mac)
	if err == nil {
		_, err = collect(rows, func(rows *sql.Rows) (struct{}, error) {
			var (
				name string
				fact []byte
			)
			err := rows.Scan(&c.Person, &c.Lookup, &c.Shared, &name, &fact)
			c.Facts[name] = fact
			return struct{}{}, err
		})
	}
	if err != nil || len(c.Facts) == 0 {
		return binding.Candidate{}, translate(ctx, "Candidate", err)
	}
	return c, nil
}

var phoneCandidateSQL = statement(`
select p.id, f.name, f.mac from persons p left join person_facts f on f.person_id = p.id where p.phone = ?`)

// PhoneCandidate implements [binding.Store].
func (s *Store) PhoneCandidate(ctx context.Context, phone string) (binding.Candidate, error) {
	c := binding.Candidate{Facts: map[string][]byte{}}
	rows, err := s.r.QueryContext(ctx, phoneCandidateSQL, phone)
	if err == nil {
		_, err = collect(rows, func(rows *sql.Rows) (struct{}, error) {
			var (
				name sql.NullString
				fact []byte
			)
			err := rows.Scan(&c.Person, &name, &fact)
			if name.Valid {
				c.Facts[name.String] = fact
			}
			return struct{}{}, err
		})
	}
	if err != nil || c.Person == uuid.Nil {
		return binding.Candidate{}, translate(ctx, "PhoneCandidate", err)
	}
	return c, nil
}

var (
	ticketSQL = statement(`
select t.hash, p.id, p.external_id, p.name, t.appid, t.created_at, t.expires_at, t.used_by
from bind_tickets t join persons p on p.id = t.person_id where t.hash = ?`)
	useTicketSQL      = statement(`update bind_tickets set used_by = ?2, used_at = ?3 where hash = ?1`)
	addTicketSQL      = statement(`insert into bind_tickets (hash, person_id, appid, created_at, expires_at) values (?, ?, ?, ?, ?)`)
	personDisabledSQL = statement(`select disabled_at is not null from persons where id = ?`)
)

// ticket reads a ticket, or returns [auth.TicketInvalid].
func ticket(ctx context.Context, q querier, hash [32]byte) (person.Ticket, error) {
	var (
		t      person.Ticket
		key    []byte
		appID  sql.NullString
		usedBy uuid.NullUUID
	)
	err := q.QueryRowContext(ctx, ticketSQL, hash[:]).
		Scan(&key, &t.Person.ID, &t.Person.ExternalID, &t.Person.Name, &appID, into(&t.CreatedAt), into(&t.ExpiresAt), &usedBy)
	if errors.Is(err, sql.ErrNoRows) {
		return person.Ticket{}, auth.TicketInvalid
	}
	if err != nil {
		return person.Ticket{}, err
	}
	t.Hash, t.AppID, t.UsedBy = [32]byte(key), appID.String, usedBy.UUID
	return t, nil
}

// Ticket implements [binding.Store].
func (s *Store) Ticket(ctx context.Context, hash [32]byte) (person.Ticket, error) {
	t, err := ticket(ctx, s.r, hash)
	if err != nil {
		return person.Ticket{}, translate(ctx, "Ticket", err)
	}
	return t, nil
}

// AddTicket implements [person.Store].
func (s *Store) AddTicket(ctx context.Context, t person.Ticket, event auth.AuditEvent) error {
	return s.inTx(ctx, "AddTicket", func(tx *writeTx) error {
		var disabled bool
		err := tx.QueryRowContext(ctx, personDisabledSQL, t.Person.ID).Scan(&disabled)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return auth.NotFound
		case err != nil:
			return err
		case disabled:
			return auth.PersonDisabled
		}
		if t.AppID != "" {
			if _, err := readApp(ctx, tx, t.AppID); err != nil {
				return err
			}
		}
		event = event.About(t.Person.ID)
		event.AppID = t.AppID
		if err := writeAudit(ctx, tx, event); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, addTicketSQL, t.Hash[:], t.Person.ID, textOrNull(t.AppID), micros(t.CreatedAt), micros(t.ExpiresAt))
		return err
	})
}
