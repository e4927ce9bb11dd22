package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

var keysSQL = statement(`
select kid, use, alg, sealed, public_jwk, created_at, active_at, retired_at
from signing_keys order by created_at, kid`)

func keys(ctx context.Context, q querier) ([]keyring.StoredKey, error) {
	rows, err := q.Query(ctx, keysSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (keyring.StoredKey, error) {
		var (
			k               keyring.StoredKey
			active, retired *time.Time
		)
		err := row.Scan(&k.KID, &k.Use, &k.Alg, &k.Sealed, &k.Public, &k.CreatedAt, &active, &retired)
		if len(k.Sealed) == 0 {
			k.Sealed = nil
		}
		k.CreatedAt, k.ActiveAt, k.RetiredAt = k.CreatedAt.UTC(), timeOf(active), timeOf(retired)
		return k, err
	})
}

// Keys implements [keyring.Store]. Like cutoffs, keys are followed on separate
// connections.
func (s *Store) Keys(ctx context.Context) ([]keyring.StoredKey, error) {
	all, err := keys(ctx, s.follow)
	return all, s.fail(ctx, "Keys", err)
}

const keysVersion = `
select encode(sha256(convert_to(coalesce(string_agg(concat_ws(' ', kid, extract(epoch from active_at)), ',' order by kid), ''), 'UTF8')), 'hex')
from signing_keys where retired_at is null`

var keysVersionSQL = statement(keysVersion)

// KeysVersion implements [keyring.Store].
func (s *Store) KeysVersion(ctx context.Context) (string, error) {
	var v string
	err := s.follow.QueryRow(ctx, keysVersionSQL).Scan(&v)
	return v, s.fail(ctx, "KeysVersion", err)
}

var (
	insertKeySQL = statement(`
insert into signing_keys (kid, use, alg, sealed, public_jwk, created_at, active_at, retired_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)`)
	updateKeySQL = statement(`
update signing_keys set sealed = case when $2 then '' else sealed end, active_at = $3, retired_at = $4 where kid = $1 returning kid`)
)

// ChangeKeys implements [keyring.Store].
func (s *Store) ChangeKeys(ctx context.Context, now time.Time, plan func([]keyring.StoredKey) (keyring.Change, error)) ([]keyring.StoredKey, error) {
	var (
		all     []keyring.StoredKey
		planErr error
	)
	err := s.inTx(ctx, "ChangeKeys", func(tx *transaction) error {
		// A separate statement, so that the next one sees what the last holder of the
		// lock committed.
		if _, err := tx.Exec(ctx, advisoryLockSQL, lockKeys); err != nil {
			return err
		}
		existing, err := keys(ctx, tx)
		if err != nil {
			return err
		}
		c, err := plan(existing)
		if err != nil {
			planErr = err
			return err
		}
		if err := changeKeys(ctx, tx, c, now); err != nil {
			return err
		}
		all, err = keys(ctx, tx)
		return err
	})
	if planErr != nil {
		return nil, planErr // not a database error, so not translated
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}

// changeKeys applies a change. It writes the cutoffs last.
func changeKeys(ctx context.Context, tx *transaction, c keyring.Change, now time.Time) error {
	var b pgx.Batch
	for _, k := range c.Add {
		var public []byte
		if len(k.Public) > 0 {
			public = k.Public
		}
		b.Queue(insertKeySQL, k.KID, string(k.Use), k.Alg, k.Sealed, public,
			auth.StoredTime(k.CreatedAt), timeOrNull(k.ActiveAt), timeOrNull(k.RetiredAt))
	}
	for _, k := range c.Update {
		var kid string
		b.Queue(updateKeySQL, k.KID, len(k.Sealed) == 0, timeOrNull(k.ActiveAt), timeOrNull(k.RetiredAt)).
			QueryRow(func(row pgx.Row) error { return row.Scan(&kid) })
	}
	for _, e := range c.Events {
		if err := queueAudit(&b, e); err != nil {
			return err
		}
	}
	ended := make([]auth.Cutoff, 0, len(c.Compromised))
	for _, kid := range c.Compromised {
		ended = append(ended, auth.KeyCompromised(kid))
	}
	if c.EndSessions {
		raised, err := raiseEpochs(ctx, tx, nil, 1, now)
		if err != nil {
			return err
		}
		for _, c := range raised {
			c.Reason = auth.EndKeyRetired
			ended = append(ended, c)
		}
	}
	switch {
	case len(ended) > 0:
		queueCutoffs(&b, now, ended...)
	case b.Len() > 0:
		b.Queue(notifyCutoffsSQL)
	default:
		return nil
	}
	return run(ctx, tx, &b)
}
