package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

var (
	attemptsSQL = statement(`select failures, at, blocked_until from bind_attempts where kind = ? and key = ?`)

	saveAttemptsSQL = statement(`
insert into bind_attempts (kind, key, failures, at, blocked_until, expires_at) values (?, ?, ?, ?, ?, ?)
on conflict (kind, key) do update
set failures = excluded.failures, at = excluded.at, blocked_until = excluded.blocked_until, expires_at = excluded.expires_at`)
)

// Reserve implements [binding.Store].
func (s *Store) Reserve(ctx context.Context, keys []auth.AttemptKey, now time.Time, event auth.AuditEvent) (binding.Reservation, error) {
	keys, now = binding.SortedKeys(keys), auth.StoredTime(now)
	var r binding.Reservation
	err := s.inTx(ctx, "Reserve", func(tx *writeTx) error {
		counted := make([]auth.Attempts, len(keys))
		for i, k := range keys {
			var err error
			if counted[i], err = attempts(ctx, tx, k); err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		delayed, wait := binding.Count(counted, now)
		if wait > 0 {
			r.Wait = wait
			return nil
		}
		r.Counted = counted
		for _, a := range delayed {
			if err := writeAudit(ctx, tx, binding.DelayedEvent(event, a)); err != nil {
				return err
			}
		}
		return saveAttempts(ctx, tx, counted)
	})
	if err != nil {
		return binding.Reservation{}, err
	}
	return r, nil
}

// Refund implements [binding.Store].
func (s *Store) Refund(ctx context.Context, r binding.Reservation) error {
	return s.inTx(ctx, "Refund", func(tx *writeTx) error {
		var counted []auth.Attempts
		for _, reserved := range r.Counted {
			a, err := attempts(ctx, tx, reserved.AttemptKey)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			counted = append(counted, a)
		}
		binding.Uncount(counted, r)
		return saveAttempts(ctx, tx, counted)
	})
}

// attempts reads a counter. If it does not exist, attempts returns a zero counter and
// [sql.ErrNoRows].
func attempts(ctx context.Context, tx *writeTx, key auth.AttemptKey) (auth.Attempts, error) {
	a := auth.Attempts{AttemptKey: key}
	err := tx.QueryRowContext(ctx, attemptsSQL, string(key.Kind), key.Key).Scan(&a.Failures, into(&a.At), into(&a.BlockedUntil))
	return a, err
}

func saveAttempts(ctx context.Context, tx *writeTx, counted []auth.Attempts) error {
	for _, a := range counted {
		_, err := tx.ExecContext(ctx, saveAttemptsSQL, string(a.Kind), a.Key, a.Failures, micros(a.At), micros(a.BlockedUntil),
			micros(binding.ForgottenAt(&a)))
		if err != nil {
			return err
		}
	}
	return nil
}

// RecordRefusal implements [binding.Store].
func (s *Store) RecordRefusal(ctx context.Context, event auth.AuditEvent) error {
	return s.inTx(ctx, "RecordRefusal", func(tx *writeTx) error { return writeAudit(ctx, tx, event) })
}
