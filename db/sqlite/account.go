package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

var accountSQL = statement(`select openid, coalesce(unionid, '') from identities where uuid = ?1 and erased_at is null`)

// PlatformAccount implements [binding.Store].
func (s *Store) PlatformAccount(ctx context.Context, identity uuid.UUID) (openID, unionID string, err error) {
	err = s.r.QueryRowContext(ctx, accountSQL, identity).Scan(&openID, &unionID)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", auth.NotFound
	}
	return openID, unionID, translate(ctx, "PlatformAccount", err)
}
