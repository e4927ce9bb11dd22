package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
)

func scanPlatformToken(row pgx.Row) (accesstoken.Kept, error) {
	var (
		k       accesstoken.Kept
		expires *time.Time
	)
	err := row.Scan(&k.Sealed, &expires)
	k.ExpiresAt = timeOf(expires)
	return k, err
}

var platformTokenSQL = statement(`select sealed_token, expires_at from platform_tokens where appid = $1`)

// PlatformToken implements [accesstoken.Store].
func (s *Store) PlatformToken(ctx context.Context, appID string) (accesstoken.Kept, error) {
	k, err := scanPlatformToken(s.pool.QueryRow(ctx, platformTokenSQL, appID))
	if errors.Is(err, pgx.ErrNoRows) {
		return accesstoken.Kept{}, nil
	}
	return k, s.fail(ctx, "PlatformToken", err)
}

// Of concurrent callers all but one wait for the row and then find the lease taken.
var leasePlatformTokenSQL = statement(`
insert into platform_tokens (appid, lease, leased_until)
select appid, $2::uuid, $3::timestamptz from apps where appid = $1
on conflict (appid) do update set lease = excluded.lease, leased_until = excluded.leased_until
where platform_tokens.leased_until is null or platform_tokens.leased_until <= $4
returning sealed_token, expires_at`)

// LeasePlatformToken implements [accesstoken.Store].
func (s *Store) LeasePlatformToken(ctx context.Context, p accesstoken.LeaseParams) (accesstoken.Kept, bool, error) {
	var k accesstoken.Kept
	err := s.write(ctx, func(c *pgxpool.Conn) (err error) {
		k, err = scanPlatformToken(c.QueryRow(ctx, leasePlatformTokenSQL, p.AppID, p.Lease, auth.StoredTime(p.Until), auth.StoredTime(p.Now)))
		return err
	})
	if err == nil {
		return k, true, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return accesstoken.Kept{}, false, s.fail(ctx, "LeasePlatformToken", err)
	}
	k, err = scanPlatformToken(s.pool.QueryRow(ctx, platformTokenSQL, p.AppID))
	if errors.Is(err, pgx.ErrNoRows) {
		return accesstoken.Kept{}, false, auth.AppUnknown
	}
	return k, false, s.fail(ctx, "LeasePlatformToken", err)
}

var forcePlatformTokenSQL = statement(`
update platform_tokens
set forced_at = $3, forced_day = $5, forced_count = case when forced_day = $5 then forced_count + 1 else 1 end
where appid = $1 and lease = $2
  and (forced_at is null or forced_at <= $4)
  and (forced_day is distinct from $5 or forced_count < $6)`)

// ForcePlatformToken implements [accesstoken.Store].
func (s *Store) ForcePlatformToken(ctx context.Context, p accesstoken.ForceParams) (bool, error) {
	tag, err := s.exec(ctx, forcePlatformTokenSQL, p.AppID, p.Lease, auth.StoredTime(p.Now), auth.StoredTime(p.Now.Add(-p.Every)), p.Day, p.PerDay)
	return tag.RowsAffected() == 1, s.fail(ctx, "ForcePlatformToken", err)
}

var keepPlatformTokenSQL = statement(`
update platform_tokens set sealed_token = $3, expires_at = $4, lease = null, leased_until = null
where appid = $1 and lease = $2`)

// KeepPlatformToken implements [accesstoken.Store].
func (s *Store) KeepPlatformToken(ctx context.Context, appID string, lease uuid.UUID, token accesstoken.Kept) (bool, error) {
	tag, err := s.exec(ctx, keepPlatformTokenSQL, appID, lease, token.Sealed, auth.StoredTime(token.ExpiresAt))
	return tag.RowsAffected() == 1, s.fail(ctx, "KeepPlatformToken", err)
}

var endPlatformTokenLeaseSQL = statement(`
update platform_tokens set lease = null, leased_until = null where appid = $1 and lease = $2`)

// EndPlatformTokenLease implements [accesstoken.Store].
func (s *Store) EndPlatformTokenLease(ctx context.Context, appID string, lease uuid.UUID) error {
	_, err := s.exec(ctx, endPlatformTokenLeaseSQL, appID, lease)
	return s.fail(ctx, "EndPlatformTokenLease", err)
}
