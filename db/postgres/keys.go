package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
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
		k.CreatedAt, k.ActiveAt, k.RetiredAt = k.CreatedAt.UTC(), timeOf(active), timeOf(retired)
		return k, err
	})
}

// Keys implements [keyring.Store].
func (s *Store) Keys(ctx context.Context) ([]keyring.StoredKey, error) {
	all, err := keys(ctx, s.pool)
	return all, s.fail(ctx, "Keys", err)
}

var (
	lockKeysSQL  = statement(`select pg_advisory_xact_lock($1)`)
	insertKeySQL = statement(`
insert into signing_keys (kid, use, alg, sealed, public_jwk, created_at, active_at, retired_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)`)
)

// AddKeys implements [keyring.Store].
func (s *Store) AddKeys(ctx context.Context, now time.Time, propose func([]keyring.StoredKey) ([]keyring.StoredKey, error)) ([]keyring.StoredKey, error) {
	var (
		all        []keyring.StoredKey
		proposeErr error
	)
	err := s.inTx(ctx, "AddKeys", func(tx pgx.Tx) error {
		// A statement of its own, so that the next one sees what the lock's
		// last holder committed.
		if _, err := tx.Exec(ctx, lockKeysSQL, lockKeys); err != nil {
			return err
		}
		existing, err := keys(ctx, tx)
		if err != nil {
			return err
		}
		added, err := propose(existing)
		if err != nil {
			proposeErr = err
			return err
		}
		var b pgx.Batch
		for _, k := range added {
			var public []byte
			if len(k.Public) > 0 {
				public = k.Public
			}
			b.Queue(insertKeySQL, k.KID, string(k.Use), k.Alg, k.Sealed, public,
				session.StoredTime(k.CreatedAt), timeOrNull(k.ActiveAt), timeOrNull(k.RetiredAt))
			err := queueAudit(&b, auth.AuditEvent{
				At: now, Action: auth.AuditKeyCreated, Actor: auth.ActorService,
				Detail: map[string]any{"kid": k.KID, "use": k.Use, "alg": k.Alg},
			})
			if err != nil {
				return err
			}
		}
		if b.Len() > 0 {
			if err := run(ctx, tx, &b); err != nil {
				return err
			}
		}
		all, err = keys(ctx, tx)
		return err
	})
	if proposeErr != nil {
		return nil, proposeErr // not the database's, so not translated
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}
