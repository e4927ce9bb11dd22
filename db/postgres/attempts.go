package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

var (
	// The row must exist before it can be locked.
	beginAttemptsSQL = statement(`
insert into bind_attempts (kind, key, failures, at, expires_at)
select k.kind, k.key, 0, $3, $3 from unnest($1::text[], $2::text[]) with ordinality as k (kind, key, n) order by k.n
on conflict (kind, key) do nothing`)

	lockAttemptsSQL = statement(`
select a.kind, a.key, a.failures, a.at, a.blocked_until
from bind_attempts a join unnest($1::text[], $2::text[]) as k (kind, key) on k.kind = a.kind and k.key = a.key
order by a.kind collate "C", a.key for update of a`)

	saveAttemptsSQL = statement(`
update bind_attempts set failures = $3, at = $4, blocked_until = $5, expires_at = $6 where kind = $1 and key = $2`)
)

// errBlocked rolls back a reservation.
var errBlocked = errors.New("the attempt must wait")

// Reserve implements [binding.Store].
func (s *Store) Reserve(ctx context.Context, keys []auth.AttemptKey, now time.Time, event auth.AuditEvent) (binding.Reservation, error) {
	keys, now = binding.SortedKeys(keys), auth.StoredTime(now)
	for {
		var r binding.Reservation
		missed := false
		err := s.inTx(ctx, "Reserve", func(tx *transaction) error {
			counted, err := lockAttempts(ctx, tx, keys, &now)
			if err != nil {
				return err
			}
			// An expired counter was deleted between the two statements.
			missed = len(counted) < len(keys)
			if missed {
				return errBlocked
			}
			delayed, wait := binding.Count(counted, now)
			if wait > 0 {
				r.Wait = wait
				return errBlocked
			}
			r.Counted = counted
			var b pgx.Batch
			queueAttempts(&b, counted)
			for _, a := range delayed {
				if err := queueAudit(&b, binding.DelayedEvent(event, a)); err != nil {
					return err
				}
			}
			return tx.commit(ctx, &b)
		})
		switch {
		case err == nil, errors.Is(err, errBlocked) && !missed:
			return r, nil
		case !errors.Is(err, errBlocked):
			return binding.Reservation{}, err
		}
	}
}

// Refund implements [binding.Store].
func (s *Store) Refund(ctx context.Context, r binding.Reservation) error {
	if len(r.Counted) == 0 {
		return nil
	}
	keys := make([]auth.AttemptKey, len(r.Counted))
	for i, a := range r.Counted {
		keys[i] = a.AttemptKey
	}
	return s.inTx(ctx, "Refund", func(tx *transaction) error {
		counted, err := lockAttempts(ctx, tx, keys, nil)
		if err != nil {
			return err
		}
		binding.Uncount(counted, r)
		var b pgx.Batch
		queueAttempts(&b, counted)
		return tx.commit(ctx, &b)
	})
}

// lockAttempts locks the counters and returns them in the order of keys, which must be
// sorted. If now is not nil, it creates missing counters.
func lockAttempts(ctx context.Context, tx *transaction, keys []auth.AttemptKey, now *time.Time) ([]auth.Attempts, error) {
	kinds, names := make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		kinds[i], names[i] = string(k.Kind), k.Key
	}
	var (
		b       pgx.Batch
		counted []auth.Attempts
	)
	if now != nil {
		b.Queue(beginAttemptsSQL, kinds, names, *now)
	}
	b.Queue(lockAttemptsSQL, kinds, names).Query(func(rows pgx.Rows) (err error) {
		counted, err = pgx.CollectRows(rows, scanAttempts)
		return err
	})
	return counted, run(ctx, tx, &b)
}

func scanAttempts(row pgx.CollectableRow) (auth.Attempts, error) {
	var (
		a       auth.Attempts
		blocked *time.Time
	)
	err := row.Scan(&a.Kind, &a.Key, &a.Failures, &a.At, &blocked)
	a.At, a.BlockedUntil = a.At.UTC(), timeOf(blocked)
	return a, err
}

func queueAttempts(b *pgx.Batch, counted []auth.Attempts) {
	for _, a := range counted {
		b.Queue(saveAttemptsSQL, string(a.Kind), a.Key, a.Failures, a.At, timeOrNull(a.BlockedUntil), binding.ForgottenAt(&a))
	}
}

// RecordRefusal implements [binding.Store].
func (s *Store) RecordRefusal(ctx context.Context, event auth.AuditEvent) error {
	var b pgx.Batch
	if err := queueAudit(&b, event); err != nil {
		return s.fail(ctx, "RecordRefusal", err)
	}
	return s.fail(ctx, "RecordRefusal", s.write(ctx, func(c *pgxpool.Conn) error { return c.SendBatch(ctx, &b).Close() }))
}
