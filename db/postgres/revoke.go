package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
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
	err := s.inTx(ctx, "Revoke", func(tx *transaction) error {
		event, found, err := lockTarget(ctx, tx, &r)
		if errors.Is(err, pgx.ErrNoRows) {
			return auth.NotFound
		}
		if err != nil {
			return err
		}
		var b pgx.Batch
		if err := queueAudit(&b, r.Audit(event.AppID, event.Identity, found.live, false)); err != nil {
			return err
		}
		last := new(int64)
		if len(found.sessions) > 0 {
			last = queueEnd(&b, auth.EndRevoked, r.Now, found.sessions...)
		}
		err = tx.commit(ctx, &b)
		out = session.Revoked{Sessions: found.live, CutoffID: *last}
		return err
	})
	if err != nil {
		return session.Revoked{}, err
	}
	return out, nil
}

var (
	// A session never changes its app or identity, so they can be read before the lock.
	lockOwnerSQL = statement(`
select appid, uuid from identities
where uuid = (select identity_uuid from sessions where id = $1 and shard = $2) and shard = $2
  and ($3::text[] is null or appid = any ($3))
for update`)
	ownerSQL              = statement(`select appid, identity_uuid from sessions where id = $1 and shard = $2`)
	lockTargetIdentitySQL = statement(`
select appid, uuid from identities where uuid = $1 and shard = $2 and ($3::text[] is null or appid = any ($3)) for update`)
	lockPersonSQL       = statement(`select id from persons where id = $1 for no key update`)
	personIdentitiesSQL = statement(`select uuid from identities where person_id = $1 and ($2::text[] is null or appid = any ($2))`)
)

// lockTarget locks the target's sessions, and before them the rows above them, in the
// order of locks. It returns the app and the identity of the target, which a person does
// not have, or [pgx.ErrNoRows].
func lockTarget(ctx context.Context, tx *transaction, r *session.RevokeParams) (target auth.Subject, found *sessionsToEnd, err error) {
	var b pgx.Batch
	scanTarget := func(row pgx.Row) error { return row.Scan(&target.AppID, &target.Identity) }
	switch t := r.Target; {
	case t.Session != uuid.Nil:
		b.Queue(lockOwnerSQL, t.Session, shard.Of(t.Session), r.Apps).QueryRow(scanTarget)
		found = queueSessionToEnd(&b, r.Now, t.Session)
	case t.Identity != uuid.Nil:
		b.Queue(lockTargetIdentitySQL, t.Identity, shard.Of(t.Identity), r.Apps).QueryRow(scanTarget)
		found = queueSessionsToEnd(&b, r.Now, t.Identity)
	case t.Person != uuid.Nil:
		identities, err := lockPersonIdentities(ctx, tx, t.Person, r.Apps)
		if err != nil {
			return target, nil, err
		}
		if len(identities) == 0 && r.Apps != nil {
			return target, nil, pgx.ErrNoRows
		}
		found = queueSessionsToEnd(&b, r.Now, identities...)
	default:
		return target, nil, errors.New("the revocation names no target")
	}
	return target, found, run(ctx, tx, &b)
}

// lockPersonIdentities locks a person and then their identities in the apps; nil means
// all apps. It returns [pgx.ErrNoRows] if there is no such person.
func lockPersonIdentities(ctx context.Context, tx *transaction, person uuid.UUID, apps []string) (identities []uuid.UUID, err error) {
	var (
		find, lock pgx.Batch
		bound      []uuid.UUID
	)
	find.Queue(lockPersonSQL, person).QueryRow(func(row pgx.Row) error { return row.Scan(&person) })
	find.Queue(personIdentitiesSQL, person, apps).Query(func(rows pgx.Rows) (err error) {
		bound, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	if err := run(ctx, tx, &find); err != nil || len(bound) == 0 {
		return nil, err
	}
	queueLockIdentities(&lock, bound, func(id, to uuid.UUID) {
		if to == person {
			identities = append(identities, id)
		}
	})
	return identities, run(ctx, tx, &lock)
}

// These lock the sessions to end: those that are not revoked already, by themselves or
// with their app, and whose last tokens have not expired.
var (
	sessionToEndSQL  = statement(toEndSQL(`s.id = $1 and s.shard = $2`))
	sessionsToEndSQL = statement(toEndSQL(`s.identity_uuid = any ($1) and s.shard = $2`))
)

func toEndSQL(which string) string {
	return `
select s.id, s.appid, s.idle_expires_at > $4
from sessions s join apps a on a.appid = s.appid
where ` + which + ` and s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > $3
order by s.id for update of s`
}

// sessionsToEnd are sessions that must end, locked. live is how many of them are live.
type sessionsToEnd struct {
	sessions []sessionOfApp
	live     int
}

// queueSessionsToEnd adds the locking of identities' sessions to the batch. The result is
// filled when the batch has run.
func queueSessionsToEnd(b *pgx.Batch, now time.Time, identities ...uuid.UUID) *sessionsToEnd {
	found := &sessionsToEnd{}
	for n, ids := range byShard(identities) {
		b.Queue(sessionsToEndSQL, ids, n, session.IdleAfter(now), auth.StoredTime(now)).Query(found.scan)
	}
	return found
}

// lockSessionsToEnd is [queueSessionsToEnd] in a batch of its own.
func lockSessionsToEnd(ctx context.Context, tx *transaction, now time.Time, identities ...uuid.UUID) (*sessionsToEnd, error) {
	var b pgx.Batch
	found := queueSessionsToEnd(&b, now, identities...)
	return found, run(ctx, tx, &b)
}

// queueSessionToEnd is [queueSessionsToEnd] for one session.
func queueSessionToEnd(b *pgx.Batch, now time.Time, id uuid.UUID) *sessionsToEnd {
	found := &sessionsToEnd{}
	b.Queue(sessionToEndSQL, id, shard.Of(id), session.IdleAfter(now), auth.StoredTime(now)).Query(found.scan)
	return found
}

func (f *sessionsToEnd) scan(rows pgx.Rows) error {
	var (
		s    sessionOfApp
		live bool
	)
	_, err := pgx.ForEachRow(rows, []any{&s.id, &s.appID, &live}, func() error {
		f.sessions = append(f.sessions, s)
		if live {
			f.live++
		}
		return nil
	})
	return err
}

var (
	lockAppsSQL   = statement(`select appid from apps where $1::text[] is null or appid = any ($1) order by appid for no key update`)
	raiseEpochSQL = statement(`
update apps set epoch = epoch + $3, updated_at = $2 where $1::text[] is null or appid = any ($1) returning appid, epoch`)
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
	err = s.inTx(ctx, "Revoke", func(tx *transaction) error {
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
		err = tx.commit(ctx, &b)
		out.CutoffID = *last
		return err
	})
	if err != nil {
		return session.Revoked{}, err
	}
	return out, nil
}

// raiseEpochs raises the epoch of some apps or, for nil, of all. It returns the cutoffs,
// which the caller must write.
func raiseEpochs(ctx context.Context, tx *transaction, apps []string, by int64, now time.Time) ([]auth.Cutoff, error) {
	// Always in the same order, or two revocations of all apps would deadlock.
	var (
		b      pgx.Batch
		raised []auth.Cutoff
	)
	b.Queue(lockAppsSQL, apps)
	b.Queue(raiseEpochSQL, apps, auth.StoredTime(now), by).Query(func(rows pgx.Rows) (err error) {
		raised, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (auth.Cutoff, error) {
			var (
				appID string
				epoch int64
			)
			err := row.Scan(&appID, &epoch)
			return auth.AppRevoked(appID, epoch, now), err
		})
		return err
	})
	return raised, run(ctx, tx, &b)
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
	countShardSQL   = statement(`select count(*)` + liveOfAppsSQL + ` and s.shard = $3`)
)

// countLive counts live sessions. If that takes too long, it returns an estimate.
func (s *Store) countLive(ctx context.Context, apps []string, now time.Time) (n int, estimated bool, err error) {
	now = auth.StoredTime(now)
	counting, cancel := context.WithTimeout(ctx, s.countTimeout)
	defer cancel()
	err = s.pool.QueryRow(counting, countLiveSQL, apps, now).Scan(&n)
	if err == nil || ctx.Err() != nil || counting.Err() == nil {
		return n, false, err
	}
	n, err = s.estimateLive(ctx, apps, now)
	return n, true, err
}

// estimateLive returns the planner's estimate. The planner knows nothing of distributed
// tables.
func (s *Store) estimateLive(ctx context.Context, apps []string, now time.Time) (int, error) {
	if kind, err := s.tableKind(ctx); err != nil || kind == tablesCitus {
		return s.estimateByShard(ctx, apps, now), err
	}
	var text []byte
	if err := s.pool.QueryRow(ctx, estimateLiveSQL, apps, now).Scan(&text); err != nil {
		return 0, err
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		return 0, fmt.Errorf("decode the query plan: %w", err)
	}
	return int(plans[0].Plan.Rows), nil
}

// estimateByShard counts the sessions of one shard and multiplies: the sessions of an app
// are spread evenly over the shards. If even that takes too long or fails, the estimate is
// 0: a revocation does not depend on it.
func (s *Store) estimateByShard(ctx context.Context, apps []string, now time.Time) (n int) {
	counting, cancel := context.WithTimeout(ctx, s.countTimeout)
	defer cancel()
	_ = s.pool.QueryRow(counting, countShardSQL, apps, now, rand.IntN(shard.Count)).Scan(&n) //nolint:gosec // each shard is as good as another
	return n * shard.Count
}
