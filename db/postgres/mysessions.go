package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/shard"
)

var liveSessionsSQL = statement(`
select` + sessionColumns + `
from sessions s join apps a on a.appid = s.appid
where s.identity_uuid = $1 and s.shard = $4 and s.ended_at is null and s.expires_at > $2 and s.idle_expires_at > $2
  and s.epoch >= a.epoch and a.disabled_at is null
order by s.started_at desc, s.id desc
limit $3`)

// LiveSessions implements [session.Store].
func (s *Store) LiveSessions(ctx context.Context, identity uuid.UUID, now time.Time, limit int) ([]auth.Session, error) {
	rows, err := s.pool.Query(ctx, liveSessionsSQL, identity, auth.StoredTime(now), limit, shard.Of(identity))
	if err != nil {
		return nil, s.fail(ctx, "LiveSessions", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*sessionRow, error) {
		var r sessionRow
		return &r, row.Scan(r.targets()...)
	})
	if err != nil {
		return nil, s.fail(ctx, "LiveSessions", err)
	}
	var all []auth.Session
	for _, r := range found {
		one, err := r.session(ctx, s.pool)
		if err != nil {
			return nil, s.fail(ctx, "LiveSessions", err)
		}
		all = append(all, one)
	}
	return all, nil
}
