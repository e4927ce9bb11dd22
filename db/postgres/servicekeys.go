package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

var _ servicekey.Store = (*Store)(nil)

const serviceKeyColumns = `id, name, scopes, apps, hash, created_at, last_used_at, revoked_at`

func scanServiceKey(row pgx.Row) (servicekey.Key, error) {
	var (
		k             servicekey.Key
		hash          []byte
		used, revoked *time.Time
	)
	err := row.Scan(&k.ID, &k.Name, &k.Scopes, &k.Apps, &hash, &k.CreatedAt, &used, &revoked)
	if err != nil {
		return k, err
	}
	if copy(k.Hash[:], hash) != len(k.Hash) {
		return k, fmt.Errorf("a hash of %d bytes", len(hash))
	}
	k.Apps = list(k.Apps)
	k.CreatedAt, k.LastUsedAt, k.RevokedAt = k.CreatedAt.UTC(), timeOf(used), timeOf(revoked)
	return k, nil
}

var insertServiceKeySQL = statement(`
insert into service_keys (id, name, scopes, apps, hash, created_at, last_used_at, revoked_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)`)

// AddServiceKey implements [servicekey.Store].
func (s *Store) AddServiceKey(ctx context.Context, k servicekey.Key, event auth.AuditEvent) error {
	return s.inTx(ctx, "AddServiceKey", func(tx pgx.Tx) error {
		var b pgx.Batch
		b.Queue(insertServiceKeySQL, k.ID, k.Name, k.Scopes, append([]string{}, k.Apps...), k.Hash[:],
			session.StoredTime(k.CreatedAt), timeOrNull(k.LastUsedAt), timeOrNull(k.RevokedAt))
		if err := queueAudit(&b, event); err != nil {
			return err
		}
		return run(ctx, tx, &b)
	})
}

var (
	serviceKeySQL  = statement(`select ` + serviceKeyColumns + ` from service_keys where id = $1`)
	serviceKeysSQL = statement(`select ` + serviceKeyColumns + ` from service_keys order by created_at, id`)
)

// ServiceKey implements [servicekey.Store].
func (s *Store) ServiceKey(ctx context.Context, id string) (servicekey.Key, error) {
	k, err := scanServiceKey(s.pool.QueryRow(ctx, serviceKeySQL, id))
	if errors.Is(err, pgx.ErrNoRows) {
		err = auth.NotFound
	}
	if err != nil {
		return servicekey.Key{}, s.fail(ctx, "ServiceKey", err)
	}
	return k, nil
}

// ServiceKeys implements [servicekey.Store].
func (s *Store) ServiceKeys(ctx context.Context) ([]servicekey.Key, error) {
	rows, err := s.pool.Query(ctx, serviceKeysSQL)
	if err != nil {
		return nil, s.fail(ctx, "ServiceKeys", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (servicekey.Key, error) { return scanServiceKey(row) })
	return all, s.fail(ctx, "ServiceKeys", err)
}

var (
	lockServiceKeySQL   = statement(`select revoked_at is not null from service_keys where id = $1 for no key update`)
	revokeServiceKeySQL = statement(`update service_keys set revoked_at = $2 where id = $1`)
)

// RevokeServiceKey implements [servicekey.Store].
func (s *Store) RevokeServiceKey(ctx context.Context, id string, event auth.AuditEvent) error {
	return s.inTx(ctx, "RevokeServiceKey", func(tx pgx.Tx) error {
		var void bool
		err := tx.QueryRow(ctx, lockServiceKeySQL, id).Scan(&void)
		if errors.Is(err, pgx.ErrNoRows) {
			return auth.NotFound
		}
		if err != nil || void {
			return err
		}
		var b pgx.Batch
		b.Queue(revokeServiceKeySQL, id, session.StoredTime(event.At))
		if err := queueAudit(&b, event); err != nil {
			return err
		}
		return run(ctx, tx, &b)
	})
}

var touchServiceKeySQL = statement(`
update service_keys set last_used_at = $2
where id = $1 and (last_used_at is null or last_used_at < $2)`)

// TouchServiceKey implements [servicekey.Store].
func (s *Store) TouchServiceKey(ctx context.Context, id string, at time.Time) error {
	_, err := s.pool.Exec(ctx, touchServiceKeySQL, id, session.StoredTime(at))
	return s.fail(ctx, "TouchServiceKey", err)
}
