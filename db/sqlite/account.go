package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

var accountSQL = statement(`select openid, coalesce(unionid, '') from identities where uuid = ?1 and erased_at is null`)

// PlatformAccount returns the openid and the unionid of an identity, the latter
// empty when it is not known, or [auth.NotFound], also when it was erased.
func (s *Store) PlatformAccount(ctx context.Context, identity uuid.UUID) (openID, unionID string, err error) {
	err = s.r.QueryRowContext(ctx, accountSQL, identity).Scan(&openID, &unionID)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", auth.NotFound
	}
	return openID, unionID, translate(ctx, "PlatformAccount", err)
}
