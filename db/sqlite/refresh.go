package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// refreshSQL handles the common case: the presented generation is current.
var refreshSQL = statement(`
update sessions
set generation = generation + 1, rotated_at = ?4, idle_expires_at = min(?5, expires_at)
where id = ?1 and appid = ?2 and generation = ?3
  and ended_at is null and expires_at > ?4 and idle_expires_at > ?4
  and exists (select 1 from apps a where a.appid = sessions.appid and a.disabled_at is null and a.epoch <= sessions.epoch)
returning (select a.audiences from apps a where a.appid = sessions.appid),
  (select a.signing_alg from apps a where a.appid = sessions.appid),
  (select` + omitSQL + ` from apps a where a.appid = sessions.appid),` + sessionColumns)

// omitSQL reads from the policy of an app a whether tokens omit the external_id.
const omitSQL = ` coalesce(a.policy ->> 'omit_external_id', 0)`

// Refresh implements [session.Store].
func (s *Store) Refresh(ctx context.Context, r session.RefreshParams) (session.Granted, error) {
	// The next generation would overflow, and no such token is ever issued.
	if r.Presented == math.MaxUint32 {
		return session.Granted{}, auth.RefreshInvalid
	}
	r.Now = auth.StoredTime(r.Now)
	var g session.Granted
	err := s.inTx(ctx, "Refresh", func(tx *writeTx) error {
		var err error
		g, err = rotate(ctx, tx, r)
		if errors.Is(err, sql.ErrNoRows) {
			g, err = settle(ctx, tx, r)
		}
		return err
	})
	if err == nil {
		err = auth.About(g.Verdict.Refusal(), g.Session.Subject())
	}
	if err != nil {
		return session.Granted{}, err
	}
	return g, nil
}

func rotate(ctx context.Context, tx *writeTx, r session.RefreshParams) (session.Granted, error) {
	var (
		row       sessionRow
		audiences jsonList
		alg       string
		omit      bool
	)
	err := tx.QueryRowContext(ctx, refreshSQL, r.Session, r.AppID, r.Presented,
		micros(r.Now), micros(r.Now.Add(r.IdleTTL))).
		Scan(append([]any{&audiences, &alg, &omit}, row.targets()...)...)
	return session.Granted{Session: row.session(), Audiences: audiences, SigningAlg: alg, OmitExternalID: omit, Verdict: session.Rotate}, err
}

// presentedSQL reads a session and the app that asks, which may be another than its own.
var presentedSQL = statement(`
select a.audiences, a.signing_alg,` + omitSQL + `, a.epoch, a.disabled_at is not null,` + sessionColumns + `
from sessions cross join apps a
where sessions.id = ? and a.appid = ?`)

var advanceSQL = statement(`
update sessions set generation = ?2, rotated_at = ?3, idle_expires_at = ?4 where id = ?1`)

// settle finds out why rotate updated nothing and carries out the verdict: it advances the
// row or ends the session.
func settle(ctx context.Context, tx *writeTx, r session.RefreshParams) (session.Granted, error) {
	var (
		st        session.State
		row       sessionRow
		audiences jsonList
		alg       string
		omit      bool
	)
	err := tx.QueryRowContext(ctx, presentedSQL, r.Session, r.AppID).
		Scan(append([]any{&audiences, &alg, &omit, &st.AppEpoch, &st.AppDisabled}, row.targets()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return session.Granted{}, missing(ctx, tx, r.AppID)
	}
	if err != nil {
		return session.Granted{}, err
	}
	st.Session = row.session()
	if err := st.RefreshError(r.AppID, r.Now); err != nil {
		return session.Granted{}, auth.About(err, st.Session.Subject())
	}
	v := session.Judge(&st.Session, r.Presented, r.Now, r.Grace)
	if e, ok := r.Event(v, &st.Session); ok {
		if err := writeAudit(ctx, tx, e); err != nil {
			return session.Granted{}, err
		}
	}
	switch v {
	case session.Rotate, session.RolledBack:
		s := &st.Session
		s.Generation, s.RotatedAt = r.Presented+1, r.Now
		s.IdleExpiresAt = auth.StoredTime(session.IdleExpiry(r.Now, r.IdleTTL, s.ExpiresAt))
		_, err = tx.ExecContext(ctx, advanceSQL, s.ID, s.Generation, micros(s.RotatedAt), micros(s.IdleExpiresAt))
	case session.ReplayLate, session.Reuse:
		_, err = end(ctx, tx, st.Session.ID, v.EndReason(), r.Now)
	}
	return session.Granted{Session: st.Session, Audiences: audiences, SigningAlg: alg, OmitExternalID: omit, Verdict: v}, err
}

// missing returns the error for a missing app or session.
func missing(ctx context.Context, q querier, appID string) error {
	switch app, err := readApp(ctx, q, appID); {
	case err != nil:
		return err
	case app.Disabled:
		return auth.AppDisabled
	default:
		return auth.RefreshExpired
	}
}
