package sqlite

import (
	"context"
	"database/sql"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// The person of a value is found by the facts that apps look persons up by; the index
// of the MACs begins with the names of these facts.
var listAttemptsSQL = statement(`
with named as materialized (
  select distinct policy ->> '$.facts.lookup' as name from apps where policy ->> '$.facts.lookup' is not null
)
select a.kind, a.key, a.failures, a.at, a.blocked_until, (
  select case when count(*) = 1 then min(f.person_id) end
  from named n join person_facts f on f.name = n.name and f.mac = unhex(a.key)
  where a.kind = 'value')
from bind_attempts a
where a.expires_at > ?1 and a.failures > 0 and (?2 is null or a.kind = ?2) and (?3 is null or a.key = ?3
    or a.kind = 'address' and a.key > ?3 || ' ' and a.key < ?3 || '!')
  and (?4 is null or a.kind = 'value' and a.key in (
    select lower(hex(f.mac)) from person_facts f where f.person_id = ?4))
  and (not ?5 or a.blocked_until > ?1)
  and (a.kind, a.key) > (?6, ?7)
order by a.kind, a.key limit ?8`)

// Attempts implements [person.Store].
func (s *Store) Attempts(ctx context.Context, q person.AttemptQuery) ([]auth.Attempts, error) {
	rows, err := s.r.QueryContext(ctx, listAttemptsSQL, micros(q.Now), textOrNull(string(q.Kind)), textOrNull(q.Key),
		uuidOrNull(q.Person), q.Delayed, string(q.After.Kind), q.After.Key, q.Limit)
	if err != nil {
		return nil, translate(ctx, "Attempts", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (auth.Attempts, error) {
		var (
			a      auth.Attempts
			person uuid.NullUUID
		)
		err := rows.Scan(&a.Kind, &a.Key, &a.Failures, into(&a.At), into(&a.BlockedUntil), &person)
		a.Person = person.UUID
		return a, err
	})
	return all, translate(ctx, "Attempts", err)
}

var liftDelaySQL = statement(`delete from bind_attempts where kind = ? and key = ? and expires_at > ? and failures > 0`)

// LiftDelay implements [person.Store].
func (s *Store) LiftDelay(ctx context.Context, key auth.AttemptKey, event auth.AuditEvent) error {
	return s.inTx(ctx, "LiftDelay", func(tx *writeTx) error {
		res, err := tx.ExecContext(ctx, liftDelaySQL, string(key.Kind), key.Key, micros(event.At))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return auth.NotFound
		}
		return writeAudit(ctx, tx, person.LiftedEvent(key, event))
	})
}
