package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/person"
)

var (
	factKeySQL    = statement(`select sealed from fact_keys where id = 1`)
	addFactKeySQL = statement(`insert into fact_keys (id, sealed, created_at) values (1, $1, $2) on conflict (id) do nothing`)
)

// FactKey implements [person.FactKeyStore].
func (s *Store) FactKey(ctx context.Context) ([]byte, error) {
	var sealed []byte
	err := s.pool.QueryRow(ctx, factKeySQL).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return sealed, s.fail(ctx, "FactKey", err)
}

// AddFactKey implements [person.FactKeyStore].
func (s *Store) AddFactKey(ctx context.Context, sealed []byte, now time.Time) ([]byte, error) {
	if _, err := s.exec(ctx, addFactKeySQL, sealed, auth.StoredTime(now)); err != nil {
		return nil, s.fail(ctx, "AddFactKey", err)
	}
	return s.FactKey(ctx)
}

// candidateSQL does the same work whether or not a person has the value. It goes down
// the index twice and takes the first row at or after the value, or the first row of
// all if the value is after the last. Then it reads that person's facts.
var candidateSQL = statement(`
with next as materialized (
  select person_id, mac from person_facts where name = $1 and mac >= $2 order by name, mac, person_id limit 1
), first as materialized (
  select person_id, mac from person_facts where name = $1 order by name, mac, person_id limit 1
), chosen as (
  select person_id, mac from (select 0 as turn, n.* from next n union all select 1, f.* from first f) c order by turn limit 1
)
select c.person_id, c.mac,
  exists (select from person_facts o where o.name = $1 and o.mac = c.mac and o.person_id > c.person_id),
  f.name, f.mac
from chosen c join person_facts f on f.person_id = c.person_id`)

// Candidate implements [binding.Store].
func (s *Store) Candidate(ctx context.Context, lookup string, mac []byte) (binding.Candidate, error) {
	var (
		c    = binding.Candidate{Facts: map[string][]byte{}}
		name string
		fact []byte
	)
	rows, err := s.pool.Query(ctx, candidateSQL, lookup, mac)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&c.Person, &c.Lookup, &c.Shared, &name, &fact}, func() error {
			c.Facts[name], fact = fact, nil
			return nil
		})
	}
	if err != nil || len(c.Facts) == 0 {
		return binding.Candidate{}, s.fail(ctx, "Candidate", err)
	}
	return c, nil
}

var phoneCandidateSQL = statement(`
select p.id, f.name, f.mac from persons p left join person_facts f on f.person_id = p.id where p.phone = $1`)

// PhoneCandidate implements [binding.Store].
func (s *Store) PhoneCandidate(ctx context.Context, phone string) (binding.Candidate, error) {
	var (
		c    = binding.Candidate{Facts: map[string][]byte{}}
		name *string
		fact []byte
	)
	rows, err := s.pool.Query(ctx, phoneCandidateSQL, phone)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&c.Person, &name, &fact}, func() error {
			if name != nil {
				c.Facts[*name], fact = fact, nil
			}
			return nil
		})
	}
	if err != nil || c.Person == uuid.Nil {
		return binding.Candidate{}, s.fail(ctx, "PhoneCandidate", err)
	}
	return c, nil
}

var (
	ticketSQL = statement(`
select t.hash, p.id, p.external_id, p.name, t.appid, t.created_at, t.expires_at, t.used_by
from bind_tickets t join persons p on p.id = t.person_id where t.hash = $1`)
	useTicketSQL     = statement(`update bind_tickets set used_by = $2, used_at = $3 where hash = $1`)
	addTicketSQL     = statement(`insert into bind_tickets (hash, person_id, appid, created_at, expires_at) values ($1, $2, $3, $4, $5)`)
	sharePersonSQL   = statement(`select disabled_at is not null from persons where id = $1 for share`)
	appRegisteredSQL = statement(`select exists (select from apps where appid = $1)`)
)

// ticket reads a ticket, or returns [auth.TicketInvalid]. It takes no lock: a call that
// uses the ticket up holds the person's lock.
func ticket(ctx context.Context, q querier, hash [32]byte) (person.Ticket, error) {
	var (
		t      person.Ticket
		key    []byte
		appID  *string
		usedBy *uuid.UUID
	)
	err := q.QueryRow(ctx, ticketSQL, hash[:]).
		Scan(&key, &t.Person.ID, &t.Person.ExternalID, &t.Person.Name, &appID, &t.CreatedAt, &t.ExpiresAt, &usedBy)
	if errors.Is(err, pgx.ErrNoRows) {
		return person.Ticket{}, auth.TicketInvalid
	}
	if err != nil {
		return person.Ticket{}, err
	}
	t.Hash = [32]byte(key)
	t.CreatedAt, t.ExpiresAt = t.CreatedAt.UTC(), t.ExpiresAt.UTC()
	if appID != nil {
		t.AppID = *appID
	}
	if usedBy != nil {
		t.UsedBy = *usedBy
	}
	return t, nil
}

// Ticket implements [binding.Store].
func (s *Store) Ticket(ctx context.Context, hash [32]byte) (person.Ticket, error) {
	t, err := ticket(ctx, s.pool, hash)
	if err != nil {
		return person.Ticket{}, s.fail(ctx, "Ticket", err)
	}
	return t, nil
}

// AddTicket implements [person.Store].
func (s *Store) AddTicket(ctx context.Context, t person.Ticket, event auth.AuditEvent) error {
	return s.inTx(ctx, "AddTicket", func(tx *transaction) error {
		var disabled bool
		err := tx.QueryRow(ctx, sharePersonSQL, t.Person.ID).Scan(&disabled)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return auth.NotFound
		case err != nil:
			return err
		case disabled:
			return auth.PersonDisabled
		}
		if t.AppID != "" {
			var registered bool
			if err := tx.QueryRow(ctx, appRegisteredSQL, t.AppID).Scan(&registered); err != nil {
				return err
			}
			if !registered {
				return auth.AppUnknown
			}
		}
		event = event.About(t.Person.ID)
		event.AppID = t.AppID
		var b pgx.Batch
		if err := queueAudit(&b, event); err != nil {
			return err
		}
		b.Queue(addTicketSQL, t.Hash[:], t.Person.ID, textOrNull(t.AppID), auth.StoredTime(t.CreatedAt), auth.StoredTime(t.ExpiresAt))
		return tx.commit(ctx, &b)
	})
}
