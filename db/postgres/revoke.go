package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// countTimeout bounds counting the sessions of an app: a revocation is urgent and the
// count is not.
const countTimeout = time.Second

// Revoke implements [session.RevocationStore].
func (s *Store) Revoke(ctx context.Context, r session.RevokeParams) (session.Revoked, error) {
	if r.Target.AppID != "" || r.Target.All {
		return s.revokeApps(ctx, r)
	}
	var out session.Revoked
	err := s.inTx(ctx, "Revoke", func(tx pgx.Tx) error {
		v, err := lockTarget(ctx, tx, &r)
		if errors.Is(err, pgx.ErrNoRows) {
			return auth.NotFound
		}
		if err != nil {
			return err
		}
		ending, live, err := v.sessions(ctx, tx, &r)
		if err != nil {
			return err
		}
		var b pgx.Batch
		if err := queueAudit(&b, r.Audit(v.appID, v.identity, live, false)); err != nil {
			return err
		}
		last := new(int64)
		if len(ending) > 0 {
			last = queueEnd(&b, auth.EndRevoked, r.Now, ending...)
		}
		if err := run(ctx, tx, &b); err != nil {
			return err
		}
		out = session.Revoked{Sessions: live, CutoffID: *last}
		return nil
	})
	if err != nil {
		return session.Revoked{}, err
	}
	return out, nil
}

// endTargets holds the locked identities of a target.
type endTargets struct {
	identities []uuid.UUID
	// appID and identity are empty for a person.
	appID    string
	identity uuid.UUID
}

var (
	ownerSQL = statement(`
select appid, identity_uuid from sessions where id = $1 and shard = $3 and ($2::text[] is null or appid = any ($2))`)
	lockTargetIdentitySQL = statement(`
select appid from identities where uuid = $1 and shard = $3 and ($2::text[] is null or appid = any ($2)) for update`)
	lockPersonSQL           = statement(`select id from persons where id = $1 for no key update`)
	lockPersonIdentitiesSQL = statement(`
select uuid from identities where person_id = $1 and ($2::text[] is null or appid = any ($2))
order by uuid for update`)
)

// lockTarget locks the rows above the target's sessions, in the order of locks, or
// returns [pgx.ErrNoRows].
func lockTarget(ctx context.Context, tx pgx.Tx, r *session.RevokeParams) (endTargets, error) {
	var v endTargets
	switch t := r.Target; {
	case t.Session != uuid.Nil:
		// A session never changes its app or identity, so they can be read before the
		// lock is taken.
		if err := tx.QueryRow(ctx, ownerSQL, t.Session, r.Apps, shard.Of(t.Session)).Scan(&v.appID, &v.identity); err != nil {
			return v, err
		}
		v.identities = []uuid.UUID{v.identity}
		return v, tx.QueryRow(ctx, lockIdentitySQL, v.identity, shard.Of(v.identity)).Scan(&v.identity)
	case t.Identity != uuid.Nil:
		v.identity = t.Identity
		v.identities = []uuid.UUID{v.identity}
		return v, tx.QueryRow(ctx, lockTargetIdentitySQL, t.Identity, r.Apps, shard.Of(t.Identity)).Scan(&v.appID)
	case t.Person != uuid.Nil:
		var person uuid.UUID
		if err := tx.QueryRow(ctx, lockPersonSQL, t.Person).Scan(&person); err != nil {
			return v, err
		}
		rows, err := tx.Query(ctx, lockPersonIdentitiesSQL, t.Person, r.Apps)
		if err != nil {
			return v, err
		}
		v.identities, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err == nil && len(v.identities) == 0 && r.Apps != nil {
			err = pgx.ErrNoRows
		}
		return v, err
	default:
		return v, errors.New("the revocation names no target")
	}
}

// sessionsToEndSQL locks the sessions to end: those that are not revoked already, by
// themselves or with their app, and whose last tokens have not expired.
var sessionsToEndSQL = statement(`
select s.id, s.idle_expires_at > $4
from sessions s join apps a on a.appid = s.appid
where s.identity_uuid = any ($1) and s.shard = any ($5) and ($2::uuid is null or s.id = $2)
  and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > $3
order by s.id for update of s`)

// sessions locks and returns the sessions to end, and the number of live ones among
// them.
func (v *endTargets) sessions(ctx context.Context, tx pgx.Tx, r *session.RevokeParams) (ending []uuid.UUID, live int, err error) {
	rows, err := tx.Query(ctx, sessionsToEndSQL, v.identities, uuidOrNull(r.Target.Session), r.IdleAfter(), auth.StoredTime(r.Now), shard.All(v.identities))
	if err != nil {
		return nil, 0, err
	}
	ending, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (uuid.UUID, error) {
		var (
			id     uuid.UUID
			isLive bool
		)
		err := row.Scan(&id, &isLive)
		if isLive {
			live++
		}
		return id, err
	})
	return ending, live, err
}

var (
	lockAppsSQL   = statement(`select appid from apps where $1::text[] is null or appid = any ($1) order by appid for no key update`)
	raiseEpochSQL = statement(`
update apps set epoch = epoch + $3, updated_at = $2 where appid = any ($1) returning appid, epoch`)
)

// revokeApps raises the epoch of one app or of all.
func (s *Store) revokeApps(ctx context.Context, r session.RevokeParams) (session.Revoked, error) {
	apps := r.Apps
	if id := r.Target.AppID; id != "" {
		if !r.May(id) {
			return session.Revoked{}, auth.NotFound
		}
		apps = []string{id}
	}
	n, estimated, err := s.countLive(ctx, apps, r.Now)
	if err != nil {
		return session.Revoked{}, s.fail(ctx, "Revoke", err)
	}
	out := session.Revoked{Sessions: n}
	err = s.inTx(ctx, "Revoke", func(tx pgx.Tx) error {
		raised, err := raiseEpochs(ctx, tx, apps, 1, r.Now)
		if err != nil {
			return err
		}
		if len(raised) == 0 && r.Target.AppID != "" {
			return auth.NotFound
		}
		var b pgx.Batch
		if err := queueAudit(&b, r.Audit(r.Target.AppID, uuid.Nil, n, estimated)); err != nil {
			return err
		}
		last := new(int64)
		if len(raised) > 0 {
			last = queueCutoffs(&b, r.Now, raised...)
		}
		if err := run(ctx, tx, &b); err != nil {
			return err
		}
		out.CutoffID = *last
		return nil
	})
	if err != nil {
		return session.Revoked{}, err
	}
	return out, nil
}

// raiseEpochs raises the epoch of some apps or, for nil, of all. It returns the cutoffs,
// which the caller must write.
func raiseEpochs(ctx context.Context, tx pgx.Tx, apps []string, by int64, now time.Time) ([]auth.Cutoff, error) {
	// Always in the same order, or two revocations of all apps would deadlock.
	rows, err := tx.Query(ctx, lockAppsSQL, apps)
	if err != nil {
		return nil, err
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	rows, err = tx.Query(ctx, raiseEpochSQL, locked, auth.StoredTime(now), by)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (auth.Cutoff, error) {
		var (
			appID string
			epoch int64
		)
		err := row.Scan(&appID, &epoch)
		return auth.AppRevoked(appID, epoch, now), err
	})
}

// liveOfAppsSQL selects the live sessions of some apps or, for NULL, of all. There is no
// index for it: it runs only when an app is revoked, and every log-in would have to
// maintain the index.
const liveOfAppsSQL = `
from sessions s join apps a on a.appid = s.appid
where ($1::text[] is null or a.appid = any ($1))
  and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > $2`

var (
	countLiveSQL    = statement(`select count(*)` + liveOfAppsSQL)
	estimateLiveSQL = statement(`explain (format json) select` + liveOfAppsSQL)
)

// countLive counts live sessions. If that takes too long, it returns the planner's
// estimate.
func (s *Store) countLive(ctx context.Context, apps []string, now time.Time) (n int, estimated bool, err error) {
	now = auth.StoredTime(now)
	counting, cancel := context.WithTimeout(ctx, s.countTimeout)
	defer cancel()
	err = s.pool.QueryRow(counting, countLiveSQL, apps, now).Scan(&n)
	if err == nil || ctx.Err() != nil || counting.Err() == nil {
		return n, false, err
	}
	var text []byte
	if err := s.pool.QueryRow(ctx, estimateLiveSQL, apps, now).Scan(&text); err != nil {
		return 0, true, err
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		return 0, true, fmt.Errorf("decode the query plan: %w", err)
	}
	return int(plans[0].Plan.Rows), true, nil
}
