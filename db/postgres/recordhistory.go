package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

// lastingHistorySQL names the current history for recording. It leaves out the start of
// the server, which changes with every restart.
func lastingHistorySQL(without []string) string {
	var parts []string
	for _, p := range historyParts {
		switch {
		case p.name == startPart:
		case slices.Contains(without, p.name):
			parts = append(parts, `'-'`)
		default:
			parts = append(parts, `(`+p.sql+`)::text`)
		}
	}
	return `array[` + strings.Join(parts, `, `) + `]::text[]`
}

func recordedHistorySQL(without []string) string {
	return `select d.history, case when ` + writable + ` then ` + lastingHistorySQL(without) + ` end from deployment d`
}

// recordHistorySQL records the current history if it is $1, or if $1 is null, and
// reports whether it is. It writes nothing if this history is already recorded, because
// every replica that starts records it, even while the standby is silent.
func recordHistorySQL(without []string) string {
	return `
with present as materialized (select ` + lastingHistorySQL(without) + ` as history),
written as (
  update deployment d set history = p.history from present p
  where d.history is distinct from p.history and p.history = coalesce($1::text[], p.history))
select history = coalesce($1::text[], history) from present`
}

var (
	_ = statement(recordedHistorySQL(nil))
	_ = statement(recordHistorySQL(nil))
)

// RecordedHistory implements [session.RestorationStore].
func (s *Store) RecordedHistory(ctx context.Context) (session.History, bool, error) {
	var recorded, present []string
	err := s.withHistory(ctx, func(without []string) error {
		err := s.pool.QueryRow(ctx, recordedHistorySQL(without)).Scan(&recorded, &present)
		return s.fail(ctx, "RecordedHistory", err)
	})
	switch {
	case err != nil:
		return nil, false, err
	case present == nil:
		s.reset()
		return nil, false, &auth.Error{Code: auth.StorageUnavailable, Err: errReadOnly}
	case recorded == nil:
		return present, true, nil
	}
	return present, slices.EqualFunc(recorded, present, func(a, b string) bool {
		return a == b || a == "-" || b == "-"
	}), nil
}

// RecordHistory implements [session.RestorationStore].
func (s *Store) RecordHistory(ctx context.Context, of session.History) error {
	return s.withHistory(ctx, func(without []string) error {
		var same bool
		err := s.write(ctx, func(c *pgxpool.Conn) error {
			return c.QueryRow(ctx, recordHistorySQL(without), []string(of)).Scan(&same)
		})
		if err == nil && !same {
			err = errHistoryChanged
		}
		return s.fail(ctx, "RecordHistory", err)
	})
}

var errHistoryChanged = &auth.Error{
	Code: auth.StorageUnavailable, Err: errors.New("postgres: the database's history changed while revocations were restored"),
}

// EndEverything implements [session.RestorationStore].
func (s *Store) EndEverything(ctx context.Context, event auth.AuditEvent, now time.Time) (apps int, err error) {
	err = s.withHistory(ctx, func(without []string) error {
		return s.inTx(ctx, "EndEverything", func(tx *transaction) error {
			if _, err := tx.Exec(ctx, advisoryLockSQL, lockKeys); err != nil {
				return err
			}
			raised, err := raiseEpochs(ctx, tx, nil, session.MaxRaise, now)
			if err != nil {
				return err
			}
			apps = len(raised)
			keys, compromised, err := retireKeys(ctx, tx, now)
			if err != nil {
				return err
			}
			event.Detail = map[string]any{"apps": apps, "keys": keys}
			var b pgx.Batch
			b.Queue(recordHistorySQL(without), nil)
			if err := queueAudit(&b, event); err != nil {
				return err
			}
			queueCutoffs(&b, now, append(raised, compromised...)...)
			return tx.commit(ctx, &b)
		})
	})
	return apps, err
}

var retireKeysSQL = statement(`update signing_keys set retired_at = $1, sealed = '' where retired_at is null returning kid, use`)

// retireKeys retires all keys. It returns their number and the cutoffs of the signing
// keys.
func retireKeys(ctx context.Context, tx *transaction, now time.Time) (n int, compromised []auth.Cutoff, err error) {
	rows, err := tx.Query(ctx, retireKeysSQL, auth.StoredTime(now))
	if err != nil {
		return 0, nil, err
	}
	var kid, use string
	_, err = pgx.ForEachRow(rows, []any{&kid, &use}, func() error {
		if n++; use == string(keyring.UseAccess) {
			compromised = append(compromised, auth.KeyCompromised(kid))
		}
		return nil
	})
	return n, compromised, err
}

// withHistory calls fn with the parts of a history or timeline that the server does not
// let the role read. If fn finds more of them, it is called again.
func (s *Store) withHistory(ctx context.Context, fn func(without []string) error) error {
	err := fn(s.HistoryWithout())
	if !refusesPart(err) {
		return err
	}
	h, err := s.readableTimeline(ctx)
	if err != nil {
		return s.fail(ctx, "history", err)
	}
	s.timeline.Store(h)
	return fn(h.without)
}
