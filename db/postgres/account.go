package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/shard"
)

var accountSQL = statement(`select subject_kind, subject, coalesce(unionid, '') from identities where uuid = $1 and shard = $2 and erased_at is null`)

// PlatformAccount implements [binding.Store].
func (s *Store) PlatformAccount(ctx context.Context, identity uuid.UUID) (auth.PlatformAccount, error) {
	var a auth.PlatformAccount
	err := s.pool.QueryRow(ctx, accountSQL, identity, shard.Of(identity)).Scan(&a.SubjectKind, &a.Subject, &a.UnionID)
	if errors.Is(err, pgx.ErrNoRows) {
		return auth.PlatformAccount{}, auth.NotFound
	}
	return a, s.fail(ctx, "PlatformAccount", err)
}
