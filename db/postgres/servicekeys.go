package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

const serviceKeyColumns = `id, name, scopes, apps, hash, created_at, last_used_at, revoked_at, pinned_app, pinned_at, creator, expires_at`

func scanServiceKey(row pgx.Row) (servicekey.Key, error) {
	var (
		k                              servicekey.Key
		hash                           []byte
		used, revoked, pinned, expires *time.Time
		app                            *string
	)
	err := row.Scan(&k.ID, &k.Name, &k.Scopes, &k.Apps, &hash, &k.CreatedAt, &used, &revoked, &app, &pinned, &k.Creator, &expires)
	if err != nil {
		return k, err
	}
	if copy(k.Hash[:], hash) != len(k.Hash) {
		return k, fmt.Errorf("hash has %d bytes", len(hash))
	}
	k.Apps = nilIfEmpty(k.Apps)
	k.CreatedAt, k.LastUsedAt, k.RevokedAt, k.PinnedAt = k.CreatedAt.UTC(), timeOf(used), timeOf(revoked), timeOf(pinned)
	k.ExpiresAt = timeOf(expires)
	if app != nil {
		k.PinnedApp = *app
	}
	return k, nil
}

var insertServiceKeySQL = statement(`
insert into service_keys (id, name, scopes, apps, hash, created_at, last_used_at, revoked_at, pinned_app, pinned_at, creator, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`)

// AddServiceKey implements [servicekey.Store].
func (s *Store) AddServiceKey(ctx context.Context, k servicekey.Key, event auth.AuditEvent) error {
	return s.inTx(ctx, "AddServiceKey", func(tx *transaction) error {
		if id, ok := servicekey.CreatorID(k.Creator); ok {
			if err := lockServiceKeysFor(ctx, tx); err != nil {
				return err
			}
			creator, err := scanServiceKey(tx.QueryRow(ctx, serviceKeySQL, id))
			if errors.Is(err, pgx.ErrNoRows) || err == nil && !creator.Good(event.At) {
				return auth.ServiceKeyInvalid
			}
			if err != nil {
				return err
			}
		}
		var b pgx.Batch
		b.Queue(insertServiceKeySQL, k.ID, k.Name, k.Scopes, append([]string{}, k.Apps...), k.Hash[:],
			auth.StoredTime(k.CreatedAt), timeOrNull(k.LastUsedAt), timeOrNull(k.RevokedAt), textOrNull(k.PinnedApp), timeOrNull(k.PinnedAt), k.Creator, timeOrNull(k.ExpiresAt))
		if err := queueAudit(&b, event); err != nil {
			return err
		}
		return tx.commit(ctx, &b)
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

func serviceKeys(ctx context.Context, q querier) ([]servicekey.Key, error) {
	rows, err := q.Query(ctx, serviceKeysSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (servicekey.Key, error) { return scanServiceKey(row) })
}

// ServiceKeys implements [servicekey.Store].
func (s *Store) ServiceKeys(ctx context.Context) ([]servicekey.Key, error) {
	all, err := serviceKeys(ctx, s.pool)
	return all, s.fail(ctx, "ServiceKeys", err)
}

var revokeServiceKeySQL = statement(`update service_keys set revoked_at = $2 where id = any ($1)`)

// lockServiceKeysFor serialises transactions that create keys with a key or revoke keys,
// so that the descendants of a key do not change meanwhile.
func lockServiceKeysFor(ctx context.Context, tx *transaction) error {
	_, err := tx.Exec(ctx, advisoryLockSQL, lockServiceKeys)
	return err
}

// RevokeServiceKey implements [servicekey.Store].
func (s *Store) RevokeServiceKey(ctx context.Context, id string, descendants bool, event auth.AuditEvent) (servicekey.Revocation, error) {
	var r servicekey.Revocation
	err := s.inTx(ctx, "RevokeServiceKey", func(tx *transaction) error {
		if err := lockServiceKeysFor(ctx, tx); err != nil {
			return err
		}
		all, err := serviceKeys(ctx, tx)
		if err != nil {
			return err
		}
		if r, err = servicekey.Plan(all, id, descendants, auth.StoredTime(event.At)); err != nil || len(r.Revoked) == 0 {
			return err
		}
		var (
			b   pgx.Batch
			ids []string
		)
		for _, k := range r.Revoked {
			ids = append(ids, k.ID)
			if err := queueAudit(&b, servicekey.RevokeEvent(event, k.ID, id)); err != nil {
				return err
			}
		}
		b.Queue(revokeServiceKeySQL, ids, auth.StoredTime(event.At))
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return servicekey.Revocation{}, err
	}
	return r, nil
}

var (
	lockedServiceKeySQL = statement(`select ` + serviceKeyColumns + ` from service_keys where id = $1 for no key update`)
	enabledAppsSQL      = statement(`select appid from apps where disabled_at is null order by appid limit 2`)
	pinServiceKeySQL    = statement(`update service_keys set pinned_app = $2, pinned_at = $3 where id = $1`)
)

// FirstPinServiceKey implements [servicekey.Store].
func (s *Store) FirstPinServiceKey(ctx context.Context, id string, event auth.AuditEvent) (servicekey.Key, error) {
	return s.pinServiceKey(ctx, "FirstPinServiceKey", id, event, func(tx *transaction, k servicekey.Key) (string, bool, error) {
		if k.Restricted() || !k.PinnedAt.IsZero() {
			return "", false, nil
		}
		rows, err := tx.Query(ctx, enabledAppsSQL)
		if err != nil {
			return "", false, err
		}
		apps, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return servicekey.FirstPin(apps), len(apps) > 0, err
	})
}

// PinServiceKey implements [servicekey.Store].
func (s *Store) PinServiceKey(ctx context.Context, id, appID string, check func(servicekey.Key) error, event auth.AuditEvent) (servicekey.Key, error) {
	return s.pinServiceKey(ctx, "PinServiceKey", id, event, func(_ *transaction, k servicekey.Key) (string, bool, error) {
		return appID, true, check(k)
	})
}

// pinServiceKey locks the key and writes the pin if decide says so.
func (s *Store) pinServiceKey(ctx context.Context, op, id string, event auth.AuditEvent,
	decide func(*transaction, servicekey.Key) (appID string, change bool, err error),
) (servicekey.Key, error) {
	var k servicekey.Key
	err := s.inTx(ctx, op, func(tx *transaction) error {
		var err error
		k, err = scanServiceKey(tx.QueryRow(ctx, lockedServiceKeySQL, id))
		if errors.Is(err, pgx.ErrNoRows) {
			return auth.NotFound
		}
		if err != nil {
			return err
		}
		appID, change, err := decide(tx, k)
		if err != nil || !change {
			return err
		}
		k.PinnedApp, k.PinnedAt = appID, auth.StoredTime(event.At)
		var b pgx.Batch
		b.Queue(pinServiceKeySQL, id, textOrNull(appID), k.PinnedAt)
		if err := queueAudit(&b, servicekey.PinEvent(event, appID)); err != nil {
			return err
		}
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return servicekey.Key{}, err
	}
	return k, nil
}

var touchServiceKeySQL = statement(`
update service_keys set last_used_at = $2
where id = $1 and (last_used_at is null or last_used_at < $2)`)

// TouchServiceKey implements [servicekey.Store].
func (s *Store) TouchServiceKey(ctx context.Context, id string, at time.Time) error {
	_, err := s.exec(ctx, touchServiceKeySQL, id, auth.StoredTime(at))
	return s.fail(ctx, "TouchServiceKey", err)
}
