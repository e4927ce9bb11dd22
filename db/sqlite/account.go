package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

var accountSQL = statement(`select subject_kind, subject, coalesce(unionid, '') from identities where uuid = ?1 and erased_at is null`)

// PlatformAccount implements [binding.Store].
func (s *Store) PlatformAccount(ctx context.Context, identity uuid.UUID) (auth.PlatformAccount, error) {
	var a auth.PlatformAccount
	err := s.r.QueryRowContext(ctx, accountSQL, identity).Scan(&a.SubjectKind, &a.Subject, &a.UnionID)
	if errors.Is(err, sql.ErrNoRows) {
		return auth.PlatformAccount{}, auth.NotFound
	}
	return a, translate(ctx, "PlatformAccount", err)
}
