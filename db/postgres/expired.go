package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// All of these select by the indexes on expires_at and skip locked rows.
var (
	deleteCutoffsSQL = statement(`
delete from cutoffs where id = any (array(
  select id from cutoffs where expires_at < $1 order by expires_at limit $2 for update skip locked))`)
	deleteTicketsSQL = statement(`
delete from bind_tickets where hash = any (array(
  select hash from bind_tickets where expires_at < $1 order by expires_at limit $2 for update skip locked))`)
	deleteAttemptsSQL = statement(`
delete from bind_attempts a using (
  select kind, key from bind_attempts where expires_at < $1 order by expires_at limit $2 for update skip locked) gone
where a.kind = gone.kind and a.key = gone.key`)
	deleteSessionsSQL = statement(`
delete from sessions where id = any (array(
  select id from sessions where expires_at < $1 order by expires_at limit $2 for update skip locked))`)

	// On divided tables, sessions are deleted shard by shard.
	expiredSessionsSQL = statement(`select id from sessions where expires_at < $1 order by expires_at limit $2`)
	deleteOfShardSQL   = statement(`
delete from sessions where shard = $2 and id = any (array(
  select id from sessions where id = any ($1) and shard = $2 and expires_at < $3 order by id for update skip locked))`)
)

// DeleteExpired implements [session.Store].
func (s *Store) DeleteExpired(ctx context.Context, sessionsBefore, now time.Time, limit int) (int, error) {
	n, err := s.deleteExpired(ctx, sessionsBefore, now, limit)
	return n, s.fail(ctx, "DeleteExpired", err)
}

func (s *Store) deleteExpired(ctx context.Context, sessionsBefore, now time.Time, limit int) (int, error) {
	divided, err := s.isDivided(ctx)
	if err != nil {
		return 0, err
	}
	var (
		b       pgx.Batch
		n       int
		at      = auth.StoredTime(now)
		deleted = func(tag pgconn.CommandTag) error { //nolint:unparam // pgx wants an error
			n += int(tag.RowsAffected())
			return nil
		}
	)
	b.Queue(deleteCutoffsSQL, at, limit).Exec(deleted)
	b.Queue(deleteTicketsSQL, auth.StoredTime(now.Add(-person.TicketRetention)), limit).Exec(deleted)
	b.Queue(deleteAttemptsSQL, at, limit).Exec(deleted)
	if divided {
		expired, err := s.expiredSessions(ctx, sessionsBefore, limit)
		if err != nil {
			return 0, err
		}
		for shard, ids := range byShard(expired) {
			b.Queue(deleteOfShardSQL, ids, shard, auth.StoredTime(sessionsBefore)).Exec(deleted)
		}
	} else {
		b.Queue(deleteSessionsSQL, auth.StoredTime(sessionsBefore), limit).Exec(deleted)
	}
	err = s.write(ctx, func(c *pgxpool.Conn) error { return c.SendBatch(ctx, &b).Close() })
	return n, err
}

func (s *Store) expiredSessions(ctx context.Context, before time.Time, limit int) ([]uuid.UUID, error) {
	rows, err := s.pool.Query(ctx, expiredSessionsSQL, auth.StoredTime(before), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}
