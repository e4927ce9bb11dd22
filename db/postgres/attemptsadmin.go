package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// The person of a value is found by the facts that apps look persons up by; the index
// of the MACs begins with the names of these facts.
var listAttemptsSQL = statement(`
with named as materialized (
  select distinct policy #>> '{facts,lookup}' as name from apps where policy #>> '{facts,lookup}' is not null
)
select a.kind, a.key, a.failures, a.at, a.blocked_until, (
  select case when count(*) = 1 then min(f.person_id::text)::uuid end
  from named n join person_facts f on f.name = n.name and f.mac = decode(a.key, 'hex')
  where a.kind = 'value')
from bind_attempts a
where a.expires_at > $1 and a.failures > 0 and ($2::text is null or a.kind = $2) and ($3::text is null or a.key = $3
    or a.kind = 'address' and a.key > $3 || ' ' and a.key < $3 || '!')
  and ($4::uuid is null or a.kind = 'value' and a.key in (
    select encode(f.mac, 'hex') from person_facts f where f.person_id = $4))
  and (not $5 or a.blocked_until > $1)
  and (a.kind collate "C", a.key) > ($6, $7)
order by a.kind collate "C", a.key limit $8`)

// Attempts implements [person.Store].
func (s *Store) Attempts(ctx context.Context, q person.AttemptQuery) ([]auth.Attempts, error) {
	rows, err := s.pool.Query(ctx, listAttemptsSQL, auth.StoredTime(q.Now), textOrNull(string(q.Kind)), textOrNull(q.Key),
		uuidOrNull(q.Person), q.Delayed, string(q.After.Kind), q.After.Key, q.Limit)
	if err != nil {
		return nil, s.fail(ctx, "Attempts", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (auth.Attempts, error) {
		var (
			a       auth.Attempts
			blocked *time.Time
			person  *uuid.UUID
		)
		err := row.Scan(&a.Kind, &a.Key, &a.Failures, &a.At, &blocked, &person)
		a.At, a.BlockedUntil = a.At.UTC(), timeOf(blocked)
		if person != nil {
			a.Person = *person
		}
		return a, err
	})
	return all, s.fail(ctx, "Attempts", err)
}

var liftDelaySQL = statement(`delete from bind_attempts where kind = $1 and key = $2 and expires_at > $3 and failures > 0`)

// LiftDelay implements [person.Store].
func (s *Store) LiftDelay(ctx context.Context, key auth.AttemptKey, event auth.AuditEvent) error {
	return s.inTx(ctx, "LiftDelay", func(tx *transaction) error {
		tag, err := tx.Exec(ctx, liftDelaySQL, string(key.Kind), key.Key, auth.StoredTime(event.At))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return auth.NotFound
		}
		var b pgx.Batch
		if err := queueAudit(&b, person.LiftedEvent(key, event)); err != nil {
			return err
		}
		return tx.commit(ctx, &b)
	})
}
