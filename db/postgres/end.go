package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
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
func queueEnd(b *pgx.Batch, why auth.EndReason, now time.Time, sessions ...sessionOfApp) *int64 {
	return queueCutoffs(b, now, queueEndOnly(b, why, now, sessions...)...)
}

// sessionOfApp is a session and its app, which its cutoff names.
type sessionOfApp struct {
	id    uuid.UUID
	appID string
}

// queueEndOnly is [queueEnd] without the cutoffs. The caller must queue the cutoffs that
// it returns last.
func queueEndOnly(b *pgx.Batch, why auth.EndReason, now time.Time, sessions ...sessionOfApp) []auth.Cutoff {
	ids, cutoffs := make([]uuid.UUID, len(sessions)), make([]auth.Cutoff, len(sessions))
	for i, s := range sessions {
		ids[i], cutoffs[i] = s.id, auth.SessionEnded(s.appID, s.id, now)
	}
	for n, ids := range byShard(ids) {
		b.Queue(endSQL, ids, auth.StoredTime(now), string(why), n)
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
		queueEnd(&b, e.Reason, e.Now, sessionOfApp{e.Session, e.AppID})
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
