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
	rows, err := restorable(ctx, s.pool, r.Remembered)
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
		rows, err := lockRestorable(ctx, tx, rows)
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

const (
	findSessionsSQL = `
select appid, identity_uuid, id, ver, ended_at is not null from sessions where id = any ($1) and `
	findAppsSQL = `
select appid, epoch from apps where appid = any ($1) order by appid`
)

var (
	restorableSessionsSQL     = statement(findSessionsSQL + `shard = any ($2)`)
	restorableAppsSQL         = statement(findAppsSQL)
	lockRestorableSessionsSQL = statement(findSessionsSQL + `shard = $2 order by id for update`)
	lockRestorableAppsSQL     = statement(findAppsSQL + ` for no key update`)
)

// restorable returns the rows that the cutoffs refer to.
func restorable(ctx context.Context, q querier, remembered []auth.Cutoff) (found []session.RestorableRow, err error) {
	sessions, apps := split(remembered)
	if len(sessions) > 0 {
		rows, err := q.Query(ctx, restorableSessionsSQL, sessions, shard.All(sessions))
		if err != nil {
			return nil, err
		}
		if found, err = pgx.AppendRows(found, rows, scanRestorableSession); err != nil {
			return nil, err
		}
	}
	if len(apps) == 0 {
		return found, nil
	}
	rows, err := q.Query(ctx, restorableAppsSQL, apps)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows(found, rows, scanRestorableApp)
}

// lockRestorable locks the rows and reads them again. A session never changes its
// identity, which is locked first, in a statement of its own: the next one must see what
// the last holder of the lock did to the sessions.
func lockRestorable(ctx context.Context, tx *transaction, rows []session.RestorableRow) (found []session.RestorableRow, err error) {
	var (
		b                    pgx.Batch
		identities, sessions []uuid.UUID
		apps                 []string
	)
	for _, r := range rows {
		if r.Session == uuid.Nil {
			apps = append(apps, r.AppID)
		} else {
			identities, sessions = append(identities, r.Identity), append(sessions, r.Session)
		}
	}
	read := func(scan pgx.RowToFunc[session.RestorableRow]) func(pgx.Rows) error {
		return func(rows pgx.Rows) (err error) {
			found, err = pgx.AppendRows(found, rows, scan)
			return err
		}
	}
	queueLockIdentities(&b, identities, func(uuid.UUID, uuid.UUID) {})
	for n, ids := range byShard(sessions) {
		b.Queue(lockRestorableSessionsSQL, ids, n).Query(read(scanRestorableSession))
	}
	if len(apps) > 0 {
		b.Queue(lockRestorableAppsSQL, apps).Query(read(scanRestorableApp))
	}
	return found, run(ctx, tx, &b)
}

func scanRestorableSession(r pgx.CollectableRow) (row session.RestorableRow, err error) {
	return row, r.Scan(&row.AppID, &row.Identity, &row.Session, &row.Number, &row.Ended)
}

func scanRestorableApp(r pgx.CollectableRow) (row session.RestorableRow, err error) {
	return row, r.Scan(&row.AppID, &row.Number)
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
	setVerSQL    = statement(`update sessions set ver = $2 where id = $1 and shard = $3`)
	setEpochsSQL = statement(`
update apps a set epoch = c.epoch, updated_at = $3 from unnest($1::text[], $2::bigint[]) as c (appid, epoch) where a.appid = c.appid`)
)

// queueRestoration adds the decided changes to the batch, the cutoffs last. The rows must
// be locked.
func queueRestoration(b *pgx.Batch, d session.Restoration, now time.Time) error {
	var (
		ended  []sessionOfApp
		apps   []string
		epochs []int64
	)
	for _, c := range d.Cutoffs {
		switch {
		case c.Kind == auth.CutoffApp:
			apps, epochs = append(apps, c.AppID), append(epochs, c.Epoch)
		case c.Ver == 0:
			ended = append(ended, sessionOfApp{c.Session, c.AppID})
		default:
			b.Queue(setVerSQL, c.Session, c.Ver, shard.Of(c.Session))
		}
	}
	// The cutoffs of these ends are among those that are queued last.
	_ = queueEndOnly(b, auth.EndRevoked, now, ended...)
	if len(apps) > 0 {
		b.Queue(setEpochsSQL, apps, epochs, auth.StoredTime(now))
	}
	for _, e := range d.Events {
		if err := queueAudit(b, e); err != nil {
			return err
		}
	}
	queueCutoffs(b, now, d.Cutoffs...)
	return nil
}
