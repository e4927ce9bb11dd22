package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
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

var insertKeySQL = statement(`
insert into signing_keys (kid, use, alg, sealed, public_jwk, created_at, active_at, retired_at)
values (?, ?, ?, ?, ?, ?, ?, ?)`)

// AddKeys implements [keyring.Store].
func (s *Store) AddKeys(ctx context.Context, now time.Time, propose func([]keyring.StoredKey) ([]keyring.StoredKey, error)) ([]keyring.StoredKey, error) {
	var (
		all        []keyring.StoredKey
		proposeErr error
	)
	err := s.inTx(ctx, "AddKeys", func(tx *writeTx) error {
		existing, err := keys(ctx, tx)
		if err != nil {
			return err
		}
		added, err := propose(existing)
		if err != nil {
			proposeErr = err
			return err
		}
		for _, k := range added {
			var public any
			if len(k.Public) > 0 {
				public = k.Public
			}
			_, err := tx.ExecContext(ctx, insertKeySQL, k.KID, string(k.Use), k.Alg, k.Sealed, public,
				micros(k.CreatedAt), micros(k.ActiveAt), micros(k.RetiredAt))
			if err != nil {
				return err
			}
			err = writeAudit(ctx, tx, auth.AuditEvent{
				At: now, Action: auth.AuditKeyCreated, Actor: auth.ActorService,
				Detail: map[string]any{"kid": k.KID, "use": k.Use, "alg": k.Alg},
			})
			if err != nil {
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
