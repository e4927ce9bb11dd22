package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

var _ session.RestorationStore = (*Store)(nil)

// RestoreCutoffs implements [session.RestorationStore]. The apps are locked after the
// sessions: nothing that holds an app's row waits for an identity or a session.
func (s *Store) RestoreCutoffs(ctx context.Context, r session.RestoreParams) (session.Restored, error) {
	var out session.Restored
	err := s.inTx(ctx, "RestoreCutoffs", func(tx pgx.Tx) error {
		if err := checkDeployment(ctx, tx, r.Deployment); err != nil {
			return err
		}
		rows, err := lockRestorable(ctx, tx, r.Remembered)
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
		return run(ctx, tx, &b)
	})
	if err != nil {
		return session.Restored{}, err
	}
	return out, nil
}

var deploymentSQL = statement(`select id from deployment`)

// checkDeployment returns [auth.StorageUnavailable] when the database is another
// deployment's.
func checkDeployment(ctx context.Context, tx pgx.Tx, want uuid.UUID) error {
	var got uuid.UUID
	if err := tx.QueryRow(ctx, deploymentSQL).Scan(&got); err != nil || got == want {
		return err
	}
	return &auth.Error{
		Code: auth.StorageUnavailable,
		Err:  fmt.Errorf("postgres: the database belongs to deployment %s, and what is remembered to %s", got, want),
	}
}

var (
	// A session keeps its identity for life, so it may be read before the lock.
	lockSessionIdentitiesSQL = statement(`
select uuid from identities where uuid in (select identity_uuid from sessions where id = any ($1))
order by uuid for update`)
	lockRestorableSessionsSQL = statement(`
select appid, identity_uuid, id, ver, ended_at is not null from sessions where id = any ($1) order by id for update`)
	lockRestorableAppsSQL = statement(`
select appid, epoch from apps where appid = any ($1) order by appid for no key update`)
)

// lockRestorable locks the rows that the cutoffs are about, in the order of locks.
func lockRestorable(ctx context.Context, tx pgx.Tx, remembered []auth.Cutoff) ([]session.RestorableRow, error) {
	var (
		sessions []uuid.UUID
		apps     []string
		found    []session.RestorableRow
	)
	for _, c := range remembered {
		switch c.Kind {
		case auth.CutoffSession:
			sessions = append(sessions, c.Session)
		case auth.CutoffApp:
			apps = append(apps, c.AppID)
		}
	}
	lock := func(sql string, keys any, targets func(row *session.RestorableRow) []any) error {
		rows, err := tx.Query(ctx, sql, keys)
		if err != nil {
			return err
		}
		found, err = pgx.AppendRows(found, rows, func(r pgx.CollectableRow) (row session.RestorableRow, err error) {
			return row, r.Scan(targets(&row)...)
		})
		return err
	}
	if len(sessions) > 0 {
		// A statement of its own: the next one must see what the locks' last holders
		// did to the sessions.
		if _, err := tx.Exec(ctx, lockSessionIdentitiesSQL, sessions); err != nil {
			return nil, err
		}
		err := lock(lockRestorableSessionsSQL, sessions, func(row *session.RestorableRow) []any {
			return []any{&row.AppID, &row.Identity, &row.Session, &row.Number, &row.Ended}
		})
		if err != nil {
			return nil, err
		}
	}
	if len(apps) == 0 {
		return found, nil
	}
	err := lock(lockRestorableAppsSQL, apps, func(row *session.RestorableRow) []any { return []any{&row.AppID, &row.Number} })
	return found, err
}

var (
	setVersSQL = statement(`
update sessions s set ver = c.ver from unnest($1::uuid[], $2::bigint[]) as c (id, ver) where s.id = c.id`)
	setEpochsSQL = statement(`
update apps a set epoch = c.epoch, updated_at = $3 from unnest($1::text[], $2::bigint[]) as c (appid, epoch) where a.appid = c.appid`)
)

// queueRestoration adds what was decided to the batch, the cutoffs last. The rows
// are locked.
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
	at := session.StoredTime(now)
	b.Queue(endSQL, ended, at, string(auth.EndRevoked))
	b.Queue(setVersSQL, raised, vers)
	b.Queue(setEpochsSQL, apps, epochs, at)
	for _, e := range d.Events {
		if err := queueAudit(b, e); err != nil {
			return err
		}
	}
	queueCutoffs(b, now, d.Cutoffs...)
	return nil
}
