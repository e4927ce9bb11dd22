package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// RestoreCutoffs implements [session.RestorationStore]. It first reads the rows
// without locks: replicas ask about all cutoffs after each restart, and usually
// nothing was lost.
//
// It locks the apps after the sessions. This is safe because no holder of an app's
// row waits for an identity or a session.
func (s *Store) RestoreCutoffs(ctx context.Context, r session.RestoreParams) (session.Restored, error) {
	if err := checkDeployment(ctx, s.pool, &r); err != nil {
		return session.Restored{}, s.fail(ctx, "RestoreCutoffs", err)
	}
	rows, err := restorable(ctx, s.pool, r.Remembered, restorableSessionsSQL, restorableAppsSQL)
	if err != nil {
		return session.Restored{}, s.fail(ctx, "RestoreCutoffs", err)
	}
	if decided := r.Decide(rows); len(decided.Cutoffs) == 0 {
		// The commit that raised them may have been interrupted.
		return decided.Restored, s.Confirm(ctx)
	}
	var out session.Restored
	err = s.inTx(ctx, "RestoreCutoffs", func(tx *transaction) error {
		if err := checkDeployment(ctx, tx, &r); err != nil {
			return err
		}
		// A separate statement: the next one must see what the last holders of the locks
		// did to the sessions.
		sessions, _ := split(r.Remembered)
		if _, err := tx.Exec(ctx, lockSessionIdentitiesSQL, sessions, shard.All(sessions)); err != nil {
			return err
		}
		rows, err := restorable(ctx, tx, r.Remembered, lockRestorableSessionsSQL, lockRestorableAppsSQL)
		if err != nil {
			return err
		}
		decided := r.Decide(rows)
		out = decided.Restored
		if len(decided.Cutoffs) == 0 {
			return nil
		}
		var b pgx.Batch
		if err := queueRestoration(&b, decided, r.Now); err != nil {
			return err
		}
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return session.Restored{}, err
	}
	return out, nil
}

var deploymentSQL = statement(`select id from deployment`)

// checkDeployment reads the deployment for [session.RestoreParams.CheckDeployment].
func checkDeployment(ctx context.Context, q querier, r *session.RestoreParams) error {
	var id uuid.UUID
	if err := q.QueryRow(ctx, deploymentSQL).Scan(&id); err != nil {
		return err
	}
	return r.CheckDeployment(id)
}

var (
	// A session never changes its identity, so it can be read before the lock.
	lockSessionIdentitiesSQL = statement(`
select uuid from identities where shard = any ($2) and uuid in (select identity_uuid from sessions where id = any ($1) and shard = any ($2))
order by uuid for update`)
	restorableSessionsSQL     = statement(findSessionsSQL)
	restorableAppsSQL         = statement(findAppsSQL)
	lockRestorableSessionsSQL = statement(findSessionsSQL + ` for update`)
	lockRestorableAppsSQL     = statement(findAppsSQL + ` for no key update`)
)

const (
	findSessionsSQL = `
select appid, identity_uuid, id, ver, ended_at is not null from sessions where id = any ($1) and shard = any ($2) order by id`
	findAppsSQL = `
select appid, epoch from apps where appid = any ($1) order by appid`
)

// restorable returns the rows that the cutoffs refer to.
func restorable(ctx context.Context, q querier, remembered []auth.Cutoff, sessionsSQL, appsSQL string) (found []session.RestorableRow, err error) {
	find := func(sql string, targets func(row *session.RestorableRow) []any, keys ...any) error {
		rows, err := q.Query(ctx, sql, keys...)
		if err != nil {
			return err
		}
		found, err = pgx.AppendRows(found, rows, func(r pgx.CollectableRow) (row session.RestorableRow, err error) {
			return row, r.Scan(targets(&row)...)
		})
		return err
	}
	sessions, apps := split(remembered)
	if len(sessions) > 0 {
		err = find(sessionsSQL, func(row *session.RestorableRow) []any {
			return []any{&row.AppID, &row.Identity, &row.Session, &row.Number, &row.Ended}
		}, sessions, shard.All(sessions))
	}
	if err == nil && len(apps) > 0 {
		err = find(appsSQL, func(row *session.RestorableRow) []any { return []any{&row.AppID, &row.Number} }, apps)
	}
	return found, err
}

// split returns the sessions and apps that the cutoffs refer to.
func split(remembered []auth.Cutoff) (sessions []uuid.UUID, apps []string) {
	for _, c := range remembered {
		switch c.Kind {
		case auth.CutoffSession:
			sessions = append(sessions, c.Session)
		case auth.CutoffApp:
			apps = append(apps, c.AppID)
		}
	}
	return sessions, apps
}

var (
	setVersSQL = statement(`
update sessions s set ver = c.ver from unnest($1::uuid[], $2::bigint[], $3::smallint[]) as c (id, ver, shard) where s.id = c.id and s.shard = c.shard`)
	setEpochsSQL = statement(`
update apps a set epoch = c.epoch, updated_at = $3 from unnest($1::text[], $2::bigint[]) as c (appid, epoch) where a.appid = c.appid`)
)

// queueRestoration adds the decided changes to the batch, the cutoffs last. The rows must
// be locked.
func queueRestoration(b *pgx.Batch, d session.Restoration, now time.Time) error {
	var (
		ended, raised []uuid.UUID
		apps          []string
		vers, epochs  []int64
	)
	for _, c := range d.Cutoffs {
		switch {
		case c.Kind == auth.CutoffApp:
			apps, epochs = append(apps, c.AppID), append(epochs, c.Epoch)
		case c.Ver == 0:
			ended = append(ended, c.Session)
		default:
			raised, vers = append(raised, c.Session), append(vers, c.Ver)
		}
	}
	at := auth.StoredTime(now)
	for n, ids := range byShard(ended) {
		b.Queue(endSQL, ids, at, string(auth.EndRevoked), n)
	}
	b.Queue(setVersSQL, raised, vers, shard.All(raised))
	b.Queue(setEpochsSQL, apps, epochs, at)
	for _, e := range d.Events {
		if err := queueAudit(b, e); err != nil {
			return err
		}
	}
	queueCutoffs(b, now, d.Cutoffs...)
	return nil
}
