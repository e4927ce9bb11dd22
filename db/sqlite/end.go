package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

var endSQL = statement(`update sessions set ended_at = ?2, end_reason = ?3 where id = ?1 returning appid`)

// end ends a session, writes its cutoff and returns the cutoff's id.
func end(ctx context.Context, tx *writeTx, id uuid.UUID, why auth.EndReason, now time.Time) (int64, error) {
	var appID string
	if err := tx.QueryRowContext(ctx, endSQL, id, micros(now), string(why)).Scan(&appID); err != nil {
		return 0, err
	}
	return writeCutoff(ctx, tx, auth.SessionEnded(appID, id, now), now)
}

var endableSQL = statement(`select appid, identity_uuid, ended_at is not null from sessions where id = ?`)

// End implements [session.Store].
func (s *Store) End(ctx context.Context, e session.EndParams) error {
	return s.inTx(ctx, "End", func(tx *writeTx) error {
		event := e.Event
		var ended bool
		err := tx.QueryRowContext(ctx, endableSQL, e.Session).Scan(&event.AppID, &event.Identity, &ended)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil // already deleted
		case err != nil:
			return err
		case event.AppID != e.AppID:
			return auth.TokenClientMismatch
		case ended:
			return nil
		}
		event.Session = e.Session
		if err := writeAudit(ctx, tx, event); err != nil {
			return err
		}
		_, err = end(ctx, tx, e.Session, e.Reason, e.Now)
		return err
	})
}

// stateColumns are the columns of a [session.State] besides its session: those of the
// app a and of the app's first epoch e above the session's.
const (
	stateColumns = ` a.epoch, a.disabled_at is not null, e.at, e.reason,`
	stateTables  = `
from sessions join apps a on a.appid = sessions.appid
left join app_epochs e on e.appid = sessions.appid and e.epoch = (
  select min(f.epoch) from app_epochs f where f.appid = sessions.appid and f.epoch > sessions.epoch)`
)

// scanState reads a [session.State] from stateColumns and sessionColumns.
func scanState(scan func(...any) error) (session.State, error) {
	var (
		st  session.State
		why sql.NullString
		row sessionRow
	)
	err := scan(append([]any{&st.AppEpoch, &st.AppDisabled, into(&st.OutdatedAt), &why}, row.targets()...)...)
	st.OutdatedBy = auth.EndReason(why.String)
	st.Session = row.session()
	return st, err
}

var sessionSQL = statement(`
select` + stateColumns + sessionColumns + stateTables + `
where sessions.id = ?`)

// Session implements [session.Store].
func (s *Store) Session(ctx context.Context, id uuid.UUID) (session.State, error) {
	st, err := scanState(s.r.QueryRowContext(ctx, sessionSQL, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return session.State{}, auth.SessionRevoked
	}
	if err != nil {
		return session.State{}, translate(ctx, "Session", err)
	}
	return st, nil
}

var (
	deleteSessionsSQL = statement(`
delete from sessions where id in (
  select id from sessions where expires_at < ? order by expires_at limit ?)`)
	deleteCutoffsSQL = statement(`
delete from cutoffs where id in (
  select id from cutoffs where expires_at < ? order by expires_at limit ?)`)
	deleteTicketsSQL = statement(`
delete from bind_tickets where hash in (
  select hash from bind_tickets where expires_at < ? order by expires_at limit ?)`)
	deleteAttemptsSQL = statement(`
delete from bind_attempts where rowid in (
  select rowid from bind_attempts where expires_at < ? order by expires_at limit ?)`)
)

// DeleteExpired implements [session.Store].
func (s *Store) DeleteExpired(ctx context.Context, sessionsBefore, now time.Time, limit int) (int, error) {
	var n int64
	err := s.inTx(ctx, "DeleteExpired", func(tx *writeTx) error {
		for _, d := range []struct {
			sql    string
			before time.Time
		}{
			{deleteSessionsSQL, sessionsBefore},
			{deleteCutoffsSQL, now},
			{deleteTicketsSQL, now.Add(-person.TicketRetention)},
			{deleteAttemptsSQL, now},
		} {
			res, err := tx.ExecContext(ctx, d.sql, micros(d.before), limit)
			if err != nil {
				return err
			}
			gone, err := res.RowsAffected()
			if err != nil {
				return err
			}
			n += gone
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return int(n), nil
}
