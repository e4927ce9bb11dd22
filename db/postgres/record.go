package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

var insertAuditSQL = statement(`
insert into audit (at, action, actor, appid, identity_uuid, session_id, reason, request_id, detail)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`)

// queueAudit adds the audit event to the batch.
func queueAudit(b *pgx.Batch, e auth.AuditEvent) error {
	var detail *string
	if len(e.Detail) > 0 {
		j, err := json.Marshal(e.Detail)
		if err != nil {
			return fmt.Errorf("audit detail: %w", err)
		}
		text := string(j)
		detail = &text
	}
	b.Queue(insertAuditSQL, session.StoredTime(e.At), string(e.Action), e.Actor, textOrNull(e.AppID),
		uuidOrNull(e.Identity), uuidOrNull(e.Session), e.Reason, e.RequestID, detail)
	return nil
}

var (
	lockCutoffsSQL  = statement(`select pg_advisory_xact_lock($1)`)
	insertCutoffSQL = statement(`
insert into cutoffs (kind, session_id, ver, appid, epoch, kid, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)`)
)

// queueCutoffs adds the cutoffs to the batch. They come last in a transaction:
// from here to the commit nobody else can take a cutoff id.
func queueCutoffs(b *pgx.Batch, now time.Time, cutoffs ...auth.Cutoff) {
	b.Queue(lockCutoffsSQL, lockCutoffs)
	for _, c := range cutoffs {
		var ver, epoch *int64
		switch c.Kind {
		case auth.CutoffSession:
			ver = &c.Ver
		case auth.CutoffApp:
			epoch = &c.Epoch
		}
		b.Queue(insertCutoffSQL, string(c.Kind), uuidOrNull(c.Session), ver, textOrNull(c.AppID), epoch,
			textOrNull(c.KID), session.StoredTime(now), timeOrNull(c.ExpiresAt))
	}
}

// run sends the batch within the transaction and returns its first error.
func run(ctx context.Context, tx pgx.Tx, b *pgx.Batch) error {
	return tx.SendBatch(ctx, b).Close()
}
