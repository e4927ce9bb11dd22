package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Revoke implements [session.RevocationStore].
func (s *Store) Revoke(ctx context.Context, r session.RevokeParams) (session.Revoked, error) {
	revoke := revokeSessions
	if r.Target.AppID != "" || r.Target.All {
		revoke = revokeApps
	}
	var out session.Revoked
	err := s.inTx(ctx, "Revoke", func(tx *writeTx) error {
		var err error
		out, err = revoke(ctx, tx, &r)
		if errors.Is(err, sql.ErrNoRows) {
			return auth.NotFound
		}
		return err
	})
	if err != nil {
		return session.Revoked{}, err
	}
	return out, nil
}

// endTargets holds the identities of a target.
type endTargets struct {
	identities []uuid.UUID
	// appID and identity are empty for a person.
	appID    string
	identity uuid.UUID
}

var (
	ownerSQL            = statement(`select appid, identity_uuid from sessions where id = ?`)
	identityAppSQL      = statement(`select appid from identities where uuid = ?`)
	personExistsSQL     = statement(`select id from persons where id = ?`)
	personIdentitiesSQL = statement(`select uuid, appid from identities where person_id = ? order by uuid`)
)

// targetOf finds the rows above the target's sessions, or returns [sql.ErrNoRows].
func targetOf(ctx context.Context, tx *writeTx, r *session.RevokeParams) (endTargets, error) {
	var v endTargets
	switch t := r.Target; {
	case t.Session != uuid.Nil:
		if err := tx.QueryRowContext(ctx, ownerSQL, t.Session).Scan(&v.appID, &v.identity); err != nil {
			return v, err
		}
	case t.Identity != uuid.Nil:
		v.identity = t.Identity
		if err := tx.QueryRowContext(ctx, identityAppSQL, t.Identity).Scan(&v.appID); err != nil {
			return v, err
		}
	case t.Person != uuid.Nil:
		err := v.ofPerson(ctx, tx, r)
		if err == nil && len(v.identities) == 0 && r.Apps != nil {
			err = sql.ErrNoRows
		}
		return v, err
	default:
		return v, errors.New("the revocation names no target")
	}
	if !r.May(v.appID) {
		return v, sql.ErrNoRows
	}
	v.identities = []uuid.UUID{v.identity}
	return v, nil
}

func (v *endTargets) ofPerson(ctx context.Context, tx *writeTx, r *session.RevokeParams) error {
	var person uuid.UUID
	if err := tx.QueryRowContext(ctx, personExistsSQL, r.Target.Person).Scan(&person); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, personIdentitiesSQL, person)
	if err != nil {
		return err
	}
	_, err = collect(rows, func(rows *sql.Rows) (struct{}, error) {
		var (
			id    uuid.UUID
			appID string
		)
		err := rows.Scan(&id, &appID)
		if r.May(appID) {
			v.identities = append(v.identities, id)
		}
		return struct{}{}, err
	})
	return err
}

// sessionsToEndSQL finds the sessions to end: those that are not revoked already, by
// themselves or with their app, and whose last tokens have not expired.
var sessionsToEndSQL = statement(`
select s.id, s.idle_expires_at > ?4
from sessions s join apps a on a.appid = s.appid
where s.identity_uuid = ?1 and (?2 is null or s.id = ?2)
  and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > ?3
order by s.id`)

func revokeSessions(ctx context.Context, tx *writeTx, r *session.RevokeParams) (session.Revoked, error) {
	var out session.Revoked
	v, err := targetOf(ctx, tx, r)
	if err != nil {
		return out, err
	}
	var ending []uuid.UUID
	for _, identity := range v.identities {
		rows, err := tx.QueryContext(ctx, sessionsToEndSQL, identity, uuidOrNull(r.Target.Session), micros(r.IdleAfter()), micros(r.Now))
		if err != nil {
			return out, err
		}
		ids, err := collect(rows, func(rows *sql.Rows) (uuid.UUID, error) {
			var (
				id   uuid.UUID
				live bool
			)
			err := rows.Scan(&id, &live)
			if live {
				out.Sessions++
			}
			return id, err
		})
		if err != nil {
			return out, err
		}
		ending = append(ending, ids...)
	}
	if err := writeAudit(ctx, tx, r.Audit(v.appID, v.identity, out.Sessions, false)); err != nil {
		return out, err
	}
	for _, id := range ending {
		if out.CutoffID, err = end(ctx, tx, id, auth.EndRevoked, r.Now); err != nil {
			return out, err
		}
	}
	return out, nil
}

var (
	countLiveSQL = statement(`
select count(*) from sessions s join apps a on a.appid = s.appid
where a.appid = ? and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > ?`)
	raiseEpochSQL = statement(`
update apps set epoch = epoch + ?3, updated_at = ?2 where appid = ?1 returning epoch`)
)

// revokeApps raises the epoch of one app or of all.
func revokeApps(ctx context.Context, tx *writeTx, r *session.RevokeParams) (session.Revoked, error) {
	var out session.Revoked
	apps, err := appsOf(ctx, tx, r)
	if err != nil {
		return out, err
	}
	raised := make([]auth.Cutoff, len(apps))
	for i, id := range apps {
		var live int
		if err := tx.QueryRowContext(ctx, countLiveSQL, id, micros(r.Now)).Scan(&live); err != nil {
			return out, err
		}
		out.Sessions += live
		var epoch int64
		if err := tx.QueryRowContext(ctx, raiseEpochSQL, id, micros(r.Now), 1).Scan(&epoch); err != nil {
			return out, err
		}
		raised[i] = auth.AppRevoked(id, epoch, r.Now)
	}
	if err := writeAudit(ctx, tx, r.Audit(r.Target.AppID, uuid.Nil, out.Sessions, false)); err != nil {
		return out, err
	}
	for _, c := range raised {
		if out.CutoffID, err = writeCutoff(ctx, tx, c, r.Now); err != nil {
			return out, err
		}
	}
	return out, nil
}

// appsOf returns the apps of the target.
func appsOf(ctx context.Context, tx *writeTx, r *session.RevokeParams) ([]string, error) {
	if id := r.Target.AppID; id != "" {
		if !r.May(id) {
			return nil, auth.NotFound
		}
		return []string{id}, nil
	}
	rows, err := tx.QueryContext(ctx, appsSQL)
	if err != nil {
		return nil, err
	}
	all, err := collect(rows, func(rows *sql.Rows) (auth.App, error) { return scanApp(rows) })
	var ids []string
	for _, a := range all {
		if r.May(a.ID) {
			ids = append(ids, a.ID)
		}
	}
	return ids, err
}
