package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

const serviceKeyColumns = `id, name, scopes, apps, hash, created_at, last_used_at, revoked_at, pinned_app, pinned_at, creator, expires_at`

func scanServiceKey(row interface{ Scan(...any) error }) (servicekey.Key, error) {
	var (
		k      servicekey.Key
		scopes jsonList
		hash   []byte
		app    sql.NullString
	)
	err := row.Scan(&k.ID, &k.Name, &scopes, (*jsonList)(&k.Apps), &hash,
		into(&k.CreatedAt), into(&k.LastUsedAt), into(&k.RevokedAt), &app, into(&k.PinnedAt), &k.Creator, into(&k.ExpiresAt))
	k.PinnedApp = app.String
	if err != nil {
		return k, err
	}
	if copy(k.Hash[:], hash) != len(k.Hash) {
		return k, fmt.Errorf("hash has %d bytes", len(hash))
	}
	for _, s := range scopes {
		k.Scopes = append(k.Scopes, servicekey.Scope(s))
	}
	return k, nil
}

var insertServiceKeySQL = statement(`
insert into service_keys (id, name, scopes, apps, hash, created_at, last_used_at, revoked_at, pinned_app, pinned_at, creator, expires_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)

// AddServiceKey implements [servicekey.Store].
func (s *Store) AddServiceKey(ctx context.Context, k servicekey.Key, event auth.AuditEvent) error {
	var scopes jsonList
	for _, scope := range k.Scopes {
		scopes = append(scopes, string(scope))
	}
	return s.inTx(ctx, "AddServiceKey", func(tx *writeTx) error {
		if id, ok := servicekey.CreatorID(k.Creator); ok {
			creator, err := scanServiceKey(tx.QueryRowContext(ctx, serviceKeySQL, id))
			if errors.Is(err, sql.ErrNoRows) || err == nil && !creator.Good(event.At) {
				return auth.ServiceKeyInvalid
			}
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, insertServiceKeySQL, k.ID, k.Name, scopes, jsonList(k.Apps), k.Hash[:],
			micros(k.CreatedAt), micros(k.LastUsedAt), micros(k.RevokedAt), textOrNull(k.PinnedApp), micros(k.PinnedAt), k.Creator, micros(k.ExpiresAt))
		if err != nil {
			return err
		}
		return writeAudit(ctx, tx, event)
	})
}

var (
	serviceKeySQL  = statement(`select ` + serviceKeyColumns + ` from service_keys where id = ?`)
	serviceKeysSQL = statement(`select ` + serviceKeyColumns + ` from service_keys order by created_at, id`)
)

// ServiceKey implements [servicekey.Store].
func (s *Store) ServiceKey(ctx context.Context, id string) (servicekey.Key, error) {
	k, err := scanServiceKey(s.r.QueryRowContext(ctx, serviceKeySQL, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = auth.NotFound
	}
	if err != nil {
		return servicekey.Key{}, translate(ctx, "ServiceKey", err)
	}
	return k, nil
}

// ServiceKeys implements [servicekey.Store].
func (s *Store) ServiceKeys(ctx context.Context) ([]servicekey.Key, error) {
	rows, err := s.r.QueryContext(ctx, serviceKeysSQL)
	if err != nil {
		return nil, translate(ctx, "ServiceKeys", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (servicekey.Key, error) { return scanServiceKey(rows) })
	return all, translate(ctx, "ServiceKeys", err)
}

var revokeServiceKeySQL = statement(`update service_keys set revoked_at = ?2 where id = ?1`)

// RevokeServiceKey implements [servicekey.Store].
func (s *Store) RevokeServiceKey(ctx context.Context, id string, descendants bool, event auth.AuditEvent) (servicekey.Revocation, error) {
	var r servicekey.Revocation
	err := s.inTx(ctx, "RevokeServiceKey", func(tx *writeTx) error {
		rows, err := tx.QueryContext(ctx, serviceKeysSQL)
		if err != nil {
			return err
		}
		all, err := collect(rows, func(rows *sql.Rows) (servicekey.Key, error) { return scanServiceKey(rows) })
		if err != nil {
			return err
		}
		if r, err = servicekey.Plan(all, id, descendants, auth.StoredTime(event.At)); err != nil {
			return err
		}
		for _, k := range r.Revoked {
			if _, err := tx.ExecContext(ctx, revokeServiceKeySQL, k.ID, micros(event.At)); err != nil {
				return err
			}
			if err := writeAudit(ctx, tx, servicekey.RevokeEvent(event, k.ID, id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return servicekey.Revocation{}, err
	}
	return r, nil
}

var (
	enabledAppsSQL   = statement(`select appid from apps where disabled_at is null order by appid limit 2`)
	pinServiceKeySQL = statement(`update service_keys set pinned_app = ?2, pinned_at = ?3 where id = ?1`)
)

// FirstPinServiceKey implements [servicekey.Store].
func (s *Store) FirstPinServiceKey(ctx context.Context, id string, event auth.AuditEvent) (servicekey.Key, error) {
	return s.pinServiceKey(ctx, "FirstPinServiceKey", id, event, func(tx *writeTx, k servicekey.Key) (string, bool, error) {
		if k.Restricted() || !k.PinnedAt.IsZero() {
			return "", false, nil
		}
		rows, err := tx.QueryContext(ctx, enabledAppsSQL)
		if err != nil {
			return "", false, err
		}
		apps, err := collect(rows, func(rows *sql.Rows) (appID string, err error) { return appID, rows.Scan(&appID) })
		return servicekey.FirstPin(apps), len(apps) > 0, err
	})
}

// PinServiceKey implements [servicekey.Store].
func (s *Store) PinServiceKey(ctx context.Context, id, appID string, check func(servicekey.Key) error, event auth.AuditEvent) (servicekey.Key, error) {
	return s.pinServiceKey(ctx, "PinServiceKey", id, event, func(_ *writeTx, k servicekey.Key) (string, bool, error) {
		return appID, true, check(k)
	})
}

// pinServiceKey reads the key and writes the pin if decide says so.
func (s *Store) pinServiceKey(ctx context.Context, op, id string, event auth.AuditEvent,
	decide func(*writeTx, servicekey.Key) (appID string, change bool, err error),
) (servicekey.Key, error) {
	var k servicekey.Key
	err := s.inTx(ctx, op, func(tx *writeTx) error {
		var err error
		k, err = scanServiceKey(tx.QueryRowContext(ctx, serviceKeySQL, id))
		if errors.Is(err, sql.ErrNoRows) {
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
		if _, err := tx.ExecContext(ctx, pinServiceKeySQL, id, textOrNull(appID), micros(k.PinnedAt)); err != nil {
			return err
		}
		return writeAudit(ctx, tx, servicekey.PinEvent(event, appID))
	})
	if err != nil {
		return servicekey.Key{}, err
	}
	return k, nil
}

var touchServiceKeySQL = statement(`
update service_keys set last_used_at = ?2
where id = ?1 and (last_used_at is null or last_used_at < ?2)`)

// TouchServiceKey implements [servicekey.Store].
func (s *Store) TouchServiceKey(ctx context.Context, id string, at time.Time) error {
	return s.inTx(ctx, "TouchServiceKey", func(tx *writeTx) error {
		_, err := tx.ExecContext(ctx, touchServiceKeySQL, id, micros(at))
		return err
	})
}
