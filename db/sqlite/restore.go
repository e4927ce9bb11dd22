package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// RestoreCutoffs implements [session.RestorationStore].
func (s *Store) RestoreCutoffs(ctx context.Context, r session.RestoreParams) (session.Restored, error) {
	var out session.Restored
	err := s.inTx(ctx, "RestoreCutoffs", func(tx *writeTx) error {
		if err := checkDeployment(ctx, tx, &r); err != nil {
			return err
		}
		rows, err := restorable(ctx, tx, r.Remembered)
		if err != nil {
			return err
		}
		decided := r.Decide(rows)
		out = decided.Restored
		return writeRestoration(ctx, tx, decided, r.Now)
	})
	if err != nil {
		return session.Restored{}, err
	}
	return out, nil
}

var deploymentSQL = statement(`select id from deployment`)

// checkDeployment reads the deployment for [session.RestoreParams.CheckDeployment].
func checkDeployment(ctx context.Context, tx *writeTx, r *session.RestoreParams) error {
	var id uuid.UUID
	if err := tx.QueryRowContext(ctx, deploymentSQL).Scan(&id); err != nil {
		return err
	}
	return r.CheckDeployment(id)
}

var (
	restorableSessionSQL = statement(`
select appid, identity_uuid, id, ver, ended_at is not null from sessions where id = ?`)
	restorableAppSQL = statement(`select appid, epoch from apps where appid = ?`)
)

// restorable reads the rows that the cutoffs refer to.
func restorable(ctx context.Context, tx *writeTx, remembered []auth.Cutoff) ([]session.RestorableRow, error) {
	var found []session.RestorableRow
	for _, c := range remembered {
		var (
			row session.RestorableRow
			err error
		)
		switch c.Kind {
		case auth.CutoffSession:
			err = tx.QueryRowContext(ctx, restorableSessionSQL, c.Session).
				Scan(&row.AppID, &row.Identity, &row.Session, &row.Number, &row.Ended)
		case auth.CutoffApp:
			err = tx.QueryRowContext(ctx, restorableAppSQL, c.AppID).Scan(&row.AppID, &row.Number)
		default:
			continue
		}
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, nil
}

var (
	setVerSQL   = statement(`update sessions set ver = ?2 where id = ?1`)
	setEpochSQL = statement(`update apps set epoch = ?2, updated_at = ?3 where appid = ?1`)
)

func writeRestoration(ctx context.Context, tx *writeTx, d session.Restoration, now time.Time) error {
	for i, c := range d.Cutoffs {
		var err error
		switch {
		case c.Kind == auth.CutoffApp:
			_, err = tx.ExecContext(ctx, setEpochSQL, c.AppID, c.Epoch, micros(now))
		case c.Ver == 0:
			_, err = tx.ExecContext(ctx, endSQL, c.Session, micros(now), string(auth.EndRevoked))
		default:
			_, err = tx.ExecContext(ctx, setVerSQL, c.Session, c.Ver)
		}
		if err != nil {
			return err
		}
		if err := writeAudit(ctx, tx, d.Events[i]); err != nil {
			return err
		}
		if _, err := writeCutoff(ctx, tx, c, now); err != nil {
			return err
		}
	}
	return nil
}
