package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

var (
	lockIdentitySQL = statement(`select uuid from identities where uuid = $1 and shard = $2 for update`)
	endSQL          = statement(`update sessions set ended_at = $2, end_reason = $3 where id = any ($1) and shard = $4`)
)

// queueEnd adds the end of sessions and their cutoffs to the batch. The rows and their
// identities must be locked. The cutoffs must be the transaction's last statement.
// After the batch has run, the result holds the greatest id of the cutoffs.
func queueEnd(b *pgx.Batch, why auth.EndReason, now time.Time, ids ...uuid.UUID) *int64 {
	return queueCutoffs(b, now, queueEndOnly(b, why, now, ids...)...)
}

// queueEndOnly is [queueEnd] without the cutoffs. The caller must queue the cutoffs that
// it returns last.
func queueEndOnly(b *pgx.Batch, why auth.EndReason, now time.Time, ids ...uuid.UUID) []auth.Cutoff {
	for n, ids := range byShard(ids) {
		b.Queue(endSQL, ids, auth.StoredTime(now), string(why), n)
	}
	cutoffs := make([]auth.Cutoff, len(ids))
	for i, id := range ids {
		cutoffs[i] = auth.SessionEnded(id, now)
	}
	return cutoffs
}

var (
	// A session that has ended needs no lock, which a repeated log-out would hold while
	// it waits for the standby. Whether a session has ended does not change under the
	// identity's lock.
	lockLiveOwnerSQL = statement(`
select from identities
where uuid = (select identity_uuid from sessions where id = $1 and shard = $2 and ended_at is null) and shard = $2
for update`)
	endableSQL = statement(`select appid, identity_uuid, ended_at is not null from sessions where id = $1 and shard = $2`)
)

// End implements [session.Store].
func (s *Store) End(ctx context.Context, e session.EndParams) error {
	return s.inTx(ctx, "End", func(tx *transaction) error {
		var (
			lock, b pgx.Batch
			ended   bool
			event   = e.Event
		)
		event.Session = e.Session
		lock.Queue(lockLiveOwnerSQL, e.Session, shard.Of(e.Session))
		lock.Queue(endableSQL, e.Session, shard.Of(e.Session)).QueryRow(func(row pgx.Row) error {
			return row.Scan(&event.AppID, &event.Identity, &ended)
		})
		switch err := run(ctx, tx, &lock); {
		case errors.Is(err, pgx.ErrNoRows):
			return nil // already deleted
		case err != nil:
			return err
		case event.AppID != e.AppID:
			return auth.TokenClientMismatch
		case ended:
			return nil
		}
		if err := queueAudit(&b, event); err != nil {
			return err
		}
		queueEnd(&b, e.Reason, e.Now, e.Session)
		return tx.commit(ctx, &b)
	})
}

// stateColumns are the columns of a [session.State] besides its session s: those of the
// app a and of the app's first epoch e above the session's.
const (
	stateColumns = ` a.epoch, a.disabled_at is not null, e.at, e.reason,`
	stateTables  = `
from sessions s join apps a on a.appid = s.appid
left join lateral (
  select at, reason from app_epochs e
  where e.appid = s.appid and e.epoch > s.epoch order by e.epoch limit 1) e on true`
)

// stateRow is a [session.State] as read from stateColumns and sessionColumns.
type stateRow struct {
	session.State
	outdatedAt *time.Time
	outdatedBy *string
	row        sessionRow
}

func (r *stateRow) targets() []any {
	return append([]any{&r.AppEpoch, &r.AppDisabled, &r.outdatedAt, &r.outdatedBy}, r.row.targets()...)
}

// state returns the scanned state; see [sessionRow.session].
func (r *stateRow) state(ctx context.Context, q querier) (session.State, error) {
	r.OutdatedAt = timeOf(r.outdatedAt)
	if r.outdatedBy != nil {
		r.OutdatedBy = auth.EndReason(*r.outdatedBy)
	}
	var err error
	r.Session, err = r.row.session(ctx, q)
	return r.State, err
}

var sessionSQL = statement(`
select` + stateColumns + sessionColumns + stateTables + `
where s.id = $1 and s.shard = $2`)

// Session implements [session.Store].
func (s *Store) Session(ctx context.Context, id uuid.UUID) (session.State, error) {
	var (
		st  session.State
		row stateRow
	)
	err := s.pool.QueryRow(ctx, sessionSQL, id, shard.Of(id)).Scan(row.targets()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return session.State{}, auth.SessionRevoked
	}
	if err == nil {
		st, err = row.state(ctx, s.pool)
	}
	if err != nil {
		return session.State{}, s.fail(ctx, "Session", err)
	}
	return st, nil
}

// deleteExpiredSQL selects by the indexes on expires_at and skips locked rows.
var deleteExpiredSQL = statement(`
with gone_sessions as (
  delete from sessions s using (
    select id, shard from sessions where expires_at < $1
    order by expires_at limit $3 for update skip locked) gone
  where s.id = gone.id and s.shard = gone.shard
  returning s.id
), gone_cutoffs as (
  delete from cutoffs where id = any (array(
    select id from cutoffs where expires_at < $2
    order by expires_at limit $3 for update skip locked))
  returning id
), gone_tickets as (
  delete from bind_tickets where hash = any (array(
    select hash from bind_tickets where expires_at < $4
    order by expires_at limit $3 for update skip locked))
  returning hash
), gone_attempts as (
  delete from bind_attempts a using (
    select kind, key from bind_attempts where expires_at < $2
    order by expires_at limit $3 for update skip locked) gone
  where a.kind = gone.kind and a.key = gone.key
  returning a.key
)
select (select count(*) from gone_sessions) + (select count(*) from gone_cutoffs) +
  (select count(*) from gone_tickets) + (select count(*) from gone_attempts)`)

// DeleteExpired implements [session.Store].
func (s *Store) DeleteExpired(ctx context.Context, sessionsBefore, now time.Time, limit int) (int, error) {
	var n int
	err := s.write(ctx, func(c *pgxpool.Conn) error {
		return c.QueryRow(ctx, deleteExpiredSQL,
			auth.StoredTime(sessionsBefore), auth.StoredTime(now), limit,
			auth.StoredTime(now.Add(-person.TicketRetention))).Scan(&n)
	})
	return n, s.fail(ctx, "DeleteExpired", err)
}
