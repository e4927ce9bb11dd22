package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
)

var _ cutoffs.Store = (*Store)(nil)

const (
	// listenSilence is how long a listening connection may be silent before it
	// is asked whether it is still there, and listenPing how long it may take
	// to say so.
	listenSilence = 5 * time.Second
	listenPing    = 3 * time.Second
)

// cutoffsSQL reads cutoffs and names the history of their ids: the cluster, its
// timeline, which a promotion raises, the start of the server, without which no
// files can be put back, the database, and the table's file, which a restore
// makes anew. There is one row at least; its timeline is null on a server that
// takes no writes.
//
// The sequence tells the greatest id that was ever committed, also when its row
// was deleted since; a role that may not read it does without.
var cutoffsSQL = statement(`
select t.timeline, t.last, c.id, c.kind, c.session_id, c.ver, coalesce(c.appid, c.session_appid), c.epoch, c.kid, c.expires_at
from (
  select
    case when not (pg_is_in_recovery() or current_setting('transaction_read_only')::bool) then
      left(encode(sha256(convert_to(concat_ws(' ',
        (select system_identifier from pg_control_system()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        extract(epoch from pg_postmaster_start_time()),
        (select oid from pg_database where datname = current_database()),
        pg_relation_filenode('public.cutoffs')), 'UTF8')), 'hex'), 32)
    end as timeline,
    greatest((select max(id) from cutoffs),
      case when has_sequence_privilege(q.sequence, 'usage, select') then coalesce(pg_sequence_last_value(q.sequence), 0)
      else $1 end) as last
  from (select pg_get_serial_sequence('public.cutoffs', 'id')::regclass as sequence) q
) t
left join lateral (
  select id, kind, session_id, session_appid, ver, appid, epoch, kid, expires_at
  from cutoffs where id > $1 order by id limit $2
) c on t.timeline is not null
order by c.id`)

// Cutoffs implements [cutoffs.Store]. It has connections of its own, one as a
// rule, so that it waits for nobody when the pool is busy, and a network that
// swallows packets costs it one time-out and not one for each of the pool's
// connections.
func (s *Store) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	var (
		b        cutoffs.Batch
		timeline *string
	)
	rows, err := s.follow.Query(ctx, cutoffsSQL, after, limit)
	if err == nil {
		b.Cutoffs, err = pgx.AppendRows([]auth.Cutoff(nil), rows, func(row pgx.CollectableRow) (auth.Cutoff, error) {
			return scanCutoff(row, &timeline, &b.Last)
		})
	}
	if err != nil {
		return cutoffs.Batch{}, s.fail(ctx, "Cutoffs", err)
	}
	if timeline == nil {
		// New connections find the server that takes writes.
		s.pool.Reset()
		s.follow.Reset()
		return cutoffs.Batch{}, &auth.Error{Code: auth.StorageUnavailable, Err: errReadOnly}
	}
	b.Timeline = *timeline
	if b.Cutoffs[0].ID == 0 {
		b.Cutoffs = nil // the row of a batch that is empty
	}
	return b, nil
}

func scanCutoff(row pgx.CollectableRow, timeline **string, last *int64) (auth.Cutoff, error) {
	var (
		c              auth.Cutoff
		session        *uuid.UUID
		id, ver, epoch *int64
		kind           *string
		appID, kid     *string
		expires        *time.Time
	)
	err := row.Scan(timeline, last, &id, &kind, &session, &ver, &appID, &epoch, &kid, &expires)
	if err != nil || id == nil {
		return c, err
	}
	c.ID, c.Kind, c.ExpiresAt = *id, auth.CutoffKind(*kind), timeOf(expires)
	if session != nil {
		c.Session = *session
	}
	if ver != nil {
		c.Ver = *ver
	}
	if epoch != nil {
		c.Epoch = *epoch
	}
	if appID != nil {
		c.AppID = *appID
	}
	if kid != nil {
		c.KID = *kid
	}
	return c, nil
}

// Listen implements [cutoffs.Store] on a connection of its own: one from the
// pool would be busy for good.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return s.fail(ctx, "Listen", err)
	}
	defer closeConn(ctx, conn)
	if _, err := conn.Exec(ctx, "listen "+cutoffChannel); err != nil {
		return s.fail(ctx, "Listen", err)
	}
	// For what was committed before the connection listened.
	wake()
	for {
		waiting, cancel := context.WithTimeout(ctx, listenSilence)
		_, err := conn.WaitForNotification(waiting)
		silent := waiting.Err() != nil
		cancel()
		switch {
		case err == nil:
			wake()
		case ctx.Err() != nil:
			return ctx.Err()
		case silent:
			// A connection whose other end is gone without a word is as silent
			// as one on which nothing happens; only a question tells them apart.
			asking, cancel := context.WithTimeout(ctx, listenPing)
			err := conn.Ping(asking)
			cancel()
			if err != nil {
				return s.fail(ctx, "Listen", err)
			}
		default:
			return s.fail(ctx, "Listen", err)
		}
	}
}
