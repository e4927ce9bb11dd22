package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
)

func scanPlatformToken(row *sql.Row) (accesstoken.Kept, error) {
	var k accesstoken.Kept
	err := row.Scan(&k.Sealed, into(&k.ExpiresAt))
	return k, err
}

var platformTokenSQL = statement(`select sealed_token, expires_at from platform_tokens where appid = ?`)

// PlatformToken implements [accesstoken.Store].
func (s *Store) PlatformToken(ctx context.Context, appID string) (accesstoken.Kept, error) {
	k, err := scanPlatformToken(s.r.QueryRowContext(ctx, platformTokenSQL, appID))
	if errors.Is(err, sql.ErrNoRows) {
		return accesstoken.Kept{}, nil
	}
	return k, translate(ctx, "PlatformToken", err)
}

var leasePlatformTokenSQL = statement(`
insert into platform_tokens (appid, lease, leased_until)
select appid, ?2, ?3 from apps where appid = ?1
on conflict (appid) do update set lease = excluded.lease, leased_until = excluded.leased_until
where platform_tokens.leased_until is null or platform_tokens.leased_until <= ?4
returning sealed_token, expires_at`)

// LeasePlatformToken implements [accesstoken.Store].
func (s *Store) LeasePlatformToken(ctx context.Context, p accesstoken.LeaseParams) (k accesstoken.Kept, granted bool, err error) {
	err = s.inTx(ctx, "LeasePlatformToken", func(tx *writeTx) error {
		var err error
		k, err = scanPlatformToken(tx.QueryRowContext(ctx, leasePlatformTokenSQL, p.AppID, p.Lease.String(), micros(p.Until), micros(p.Now)))
		if granted = err == nil; granted || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		k, err = scanPlatformToken(tx.QueryRowContext(ctx, platformTokenSQL, p.AppID))
		if errors.Is(err, sql.ErrNoRows) {
			return auth.AppUnknown
		}
		return err
	})
	if err != nil {
		return accesstoken.Kept{}, false, err
	}
	return k, granted, nil
}

var forcePlatformTokenSQL = statement(`
update platform_tokens
set forced_at = ?3, forced_day = ?5, forced_count = case when forced_day = ?5 then forced_count + 1 else 1 end
where appid = ?1 and lease = ?2
  and (forced_at is null or forced_at <= ?4)
  and (forced_day is not ?5 or forced_count < ?6)`)

// ForcePlatformToken implements [accesstoken.Store].
func (s *Store) ForcePlatformToken(ctx context.Context, p accesstoken.ForceParams) (bool, error) {
	return s.changePlatformToken(ctx, "ForcePlatformToken", forcePlatformTokenSQL,
		p.AppID, p.Lease.String(), micros(p.Now), micros(p.Now.Add(-p.Every)), p.Day, p.PerDay)
}

var keepPlatformTokenSQL = statement(`
update platform_tokens set sealed_token = ?3, expires_at = ?4, lease = null, leased_until = null
where appid = ?1 and lease = ?2`)

// KeepPlatformToken implements [accesstoken.Store].
func (s *Store) KeepPlatformToken(ctx context.Context, appID string, lease uuid.UUID, token accesstoken.Kept) (bool, error) {
	return s.changePlatformToken(ctx, "KeepPlatformToken", keepPlatformTokenSQL, appID, lease.String(), token.Sealed, micros(token.ExpiresAt))
}

var endPlatformTokenLeaseSQL = statement(`
update platform_tokens set lease = null, leased_until = null where appid = ?1 and lease = ?2`)

// EndPlatformTokenLease implements [accesstoken.Store].
func (s *Store) EndPlatformTokenLease(ctx context.Context, appID string, lease uuid.UUID) error {
	_, err := s.changePlatformToken(ctx, "EndPlatformTokenLease", endPlatformTokenLeaseSQL, appID, lease.String())
	return err
}

// changePlatformToken runs a statement and reports whether it changed the row.
func (s *Store) changePlatformToken(ctx context.Context, op, query string, args ...any) (changed bool, err error) {
	err = s.inTx(ctx, op, func(tx *writeTx) error {
		result, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		changed = n == 1
		return err
	})
	return changed && err == nil, err
}
