package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
)

var (
	insertAuditSQL = statement(`
insert into audit (at, action, actor, appid, identity_uuid, session_id, person_id, reason, request_id, detail, commitments)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	insertAuditValueSQL = statement(`insert into audit_values (audit_id, name, value, salt) values (?, ?, ?, ?)`)
)

func writeAudit(ctx context.Context, tx *writeTx, e auth.AuditEvent) error {
	row, err := audit.NewRow(&e)
	if err != nil {
		return err
	}
	done, err := tx.ExecContext(ctx, insertAuditSQL, micros(e.At), string(e.Action), e.Actor, textOrNull(e.AppID), uuidOrNull(e.Identity),
		uuidOrNull(e.Session), uuidOrNull(e.Person), e.Reason, e.RequestID, textOrNull(row.Detail), textOrNull(row.Commitments))
	if err != nil {
		return err
	}
	id, err := done.LastInsertId()
	for _, v := range row.Values {
		if err != nil {
			break
		}
		_, err = tx.ExecContext(ctx, insertAuditValueSQL, id, v.Name, v.Value, v.Salt)
	}
	return err
}

var insertCutoffSQL = statement(`
insert into cutoffs (kind, session_id, session_appid, ver, appid, epoch, kid, created_at, expires_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`)

var insertEpochSQL = statement(`insert into app_epochs (appid, epoch, at, reason) values (?, ?, ?, ?) on conflict do nothing`)

// writeCutoff writes a cutoff and returns its id. For an app's cutoff it also writes the
// epoch, which admins see.
func writeCutoff(ctx context.Context, tx *writeTx, c auth.Cutoff, now time.Time) (int64, error) {
	tx.notify = true
	var appID, sessionApp string
	switch c.Kind {
	case auth.CutoffSession:
		sessionApp = c.AppID
	case auth.CutoffApp:
		appID = c.AppID
		if _, err := tx.ExecContext(ctx, insertEpochSQL, c.AppID, c.Epoch, micros(now), string(c.Reason)); err != nil {
			return 0, err
		}
	}
	res, err := tx.ExecContext(ctx, insertCutoffSQL, string(c.Kind), uuidOrNull(c.Session), textOrNull(sessionApp),
		sql.NullInt64{Int64: c.Ver, Valid: c.Kind == auth.CutoffSession}, textOrNull(appID),
		sql.NullInt64{Int64: c.Epoch, Valid: c.Kind == auth.CutoffApp}, textOrNull(c.KID),
		micros(now), micros(c.ExpiresAt))
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}
