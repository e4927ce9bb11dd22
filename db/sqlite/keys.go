package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

var keysSQL = statement(`
select kid, use, alg, sealed, public_jwk, created_at, active_at, retired_at
from signing_keys order by created_at, kid`)

func keys(ctx context.Context, q querier) ([]keyring.StoredKey, error) {
	rows, err := q.QueryContext(ctx, keysSQL)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(rows *sql.Rows) (keyring.StoredKey, error) {
		var k keyring.StoredKey
		err := rows.Scan(&k.KID, &k.Use, &k.Alg, &k.Sealed, &k.Public,
			into(&k.CreatedAt), into(&k.ActiveAt), into(&k.RetiredAt))
		return k, err
	})
}

// Keys implements [keyring.Store].
func (s *Store) Keys(ctx context.Context) ([]keyring.StoredKey, error) {
	all, err := keys(ctx, s.r)
	return all, translate(ctx, "Keys", err)
}

const keysVersion = `
select coalesce(group_concat(kid || ' ' || coalesce(active_at, '')), '')
from (select kid, active_at from signing_keys where retired_at is null order by kid)`

var keysVersionSQL = statement(keysVersion)

// KeysVersion implements [keyring.Store].
func (s *Store) KeysVersion(ctx context.Context) (string, error) {
	var v string
	err := s.r.QueryRowContext(ctx, keysVersionSQL).Scan(&v)
	return v, translate(ctx, "KeysVersion", err)
}

var (
	insertKeySQL = statement(`
insert into signing_keys (kid, use, alg, sealed, public_jwk, created_at, active_at, retired_at)
values (?, ?, ?, ?, ?, ?, ?, ?)`)
	updateKeySQL = statement(`
update signing_keys set sealed = case when ?2 then x'' else sealed end, active_at = ?3, retired_at = ?4 where kid = ?1 returning kid`)
)

// ChangeKeys implements [keyring.Store].
func (s *Store) ChangeKeys(ctx context.Context, now time.Time, plan func([]keyring.StoredKey) (keyring.Change, error)) ([]keyring.StoredKey, error) {
	var (
		all     []keyring.StoredKey
		planErr error
	)
	err := s.inTx(ctx, "ChangeKeys", func(tx *writeTx) error {
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
func changeKeys(ctx context.Context, tx *writeTx, c keyring.Change, now time.Time) error {
	for _, k := range c.Add {
		var public any
		if len(k.Public) > 0 {
			public = k.Public
		}
		_, err := tx.ExecContext(ctx, insertKeySQL, k.KID, string(k.Use), k.Alg, k.Sealed, public,
			micros(k.CreatedAt), micros(k.ActiveAt), micros(k.RetiredAt))
		if err != nil {
			return err
		}
	}
	for _, k := range c.Update {
		var kid string
		err := tx.QueryRowContext(ctx, updateKeySQL, k.KID, len(k.Sealed) == 0, micros(k.ActiveAt), micros(k.RetiredAt)).Scan(&kid)
		if err != nil {
			return err
		}
	}
	for _, e := range c.Events {
		if err := writeAudit(ctx, tx, e); err != nil {
			return err
		}
	}
	for _, kid := range c.Compromised {
		if _, err := writeCutoff(ctx, tx, auth.KeyCompromised(kid), now); err != nil {
			return err
		}
	}
	if c.EndSessions {
		if _, err := raiseAllEpochs(ctx, tx, 1, auth.EndKeyRetired, now); err != nil {
			return err
		}
	}
	tx.notify = tx.notify || len(c.Add)+len(c.Update) > 0
	return nil
}

// raiseAllEpochs raises every app's epoch and returns the number of apps.
func raiseAllEpochs(ctx context.Context, tx *writeTx, by int64, why auth.EndReason, now time.Time) (int, error) {
	apps, err := appsOf(ctx, tx, &session.RevokeParams{})
	if err != nil {
		return 0, err
	}
	for _, id := range apps {
		var epoch int64
		if err := tx.QueryRowContext(ctx, raiseEpochSQL, id, micros(now), by).Scan(&epoch); err != nil {
			return 0, err
		}
		c := auth.AppRevoked(id, epoch, now)
		c.Reason = why
		if _, err := writeCutoff(ctx, tx, c, now); err != nil {
			return 0, err
		}
	}
	return len(apps), nil
}
