package sqlite

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

var liveSessionsSQL = statement(`
select` + sessionColumns + `
from sessions join apps a on a.appid = sessions.appid
where sessions.identity_uuid = ?1 and sessions.ended_at is null
  and sessions.expires_at > ?2 and sessions.idle_expires_at > ?2
  and sessions.epoch >= a.epoch and a.disabled_at is null
order by sessions.started_at desc, sessions.id desc
limit ?3`)

// LiveSessions implements [session.Store].
func (s *Store) LiveSessions(ctx context.Context, identity uuid.UUID, now time.Time, limit int) ([]auth.Session, error) {
	rows, err := s.r.QueryContext(ctx, liveSessionsSQL, identity, micros(now), limit)
	if err != nil {
		return nil, translate(ctx, "LiveSessions", err)
	}
	defer rows.Close()
	var all []auth.Session
	for rows.Next() {
		var row sessionRow
		if err := rows.Scan(row.targets()...); err != nil {
			return nil, translate(ctx, "LiveSessions", err)
		}
		all = append(all, row.session())
	}
	return all, translate(ctx, "LiveSessions", rows.Err())
}
