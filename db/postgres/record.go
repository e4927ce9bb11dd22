package postgres

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
)

const insertAudit = `
insert into audit (at, action, actor, appid, identity_uuid, session_id, person_id, reason, request_id, detail, commitments)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

var (
	insertAuditSQL       = statement(insertAudit)
	insertAuditValuesSQL = statement(`
with written as (` + insertAudit + ` returning id)
insert into audit_values (audit_id, name, value, salt)
select w.id, v.name, v.value, v.salt from written w, unnest($12::text[], $13::text[], $14::bytea[]) as v (name, value, salt)`)
)

// queueAudit adds the audit event to the batch.
func queueAudit(b *pgx.Batch, e auth.AuditEvent) error {
	row, err := audit.NewRow(&e)
	if err != nil {
		return err
	}
	args := []any{
		auth.StoredTime(e.At), string(e.Action), e.Actor, textOrNull(e.AppID), uuidOrNull(e.Identity), uuidOrNull(e.Session),
		uuidOrNull(e.Person), e.Reason, e.RequestID, textOrNull(row.Detail), textOrNull(row.Commitments),
	}
	if len(row.Values) == 0 {
		b.Queue(insertAuditSQL, args...)
		return nil
	}
	var names, values []string
	var salts [][]byte
	for _, v := range row.Values {
		names, values, salts = append(names, v.Name), append(values, v.Value), append(salts, v.Salt)
	}
	b.Queue(insertAuditValuesSQL, append(args, names, values, salts)...)
	return nil
}

// cutoffChannel is the channel that followers listen on.
const cutoffChannel = "yufu_cutoffs"

var (
	insertCutoffsSQL = statement(`
with written as (
  insert into cutoffs (kind, session_id, session_appid, ver, appid, epoch, kid, created_at, expires_at)
  select c.kind, c.session_id, c.session_appid, c.ver, c.appid, c.epoch, c.kid, $1, c.expires_at
  from unnest($2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::timestamptz[])
    as c (kind, session_id, session_appid, ver, appid, epoch, kid, expires_at)
  returning id
)
select coalesce(max(id), 0) from written`)
	notifyCutoffsSQL = statement(`select pg_notify('` + cutoffChannel + `', '')`)
)

var insertEpochSQL = statement(`insert into app_epochs (appid, epoch, at, reason) values ($1, $2, $3, $4) on conflict do nothing`)

// queueCutoffs adds the cutoffs to the batch as one statement, and before them the
// epochs of apps that admins see. The cutoffs must come last in a transaction: from
// here to the commit no other transaction can take a cutoff id. After the batch has run,
// the result holds the greatest id.
func queueCutoffs(b *pgx.Batch, now time.Time, cutoffs ...auth.Cutoff) *int64 {
	var (
		n           = len(cutoffs)
		kinds       = make([]string, n)
		sessions    = make([]*uuid.UUID, n)
		sessionApps = make([]*string, n)
		vers        = make([]*int64, n)
		apps        = make([]*string, n)
		epochs      = make([]*int64, n)
		kids        = make([]*string, n)
		expiries    = make([]*time.Time, n)
	)
	for i, c := range cutoffs {
		if c.Kind == auth.CutoffApp {
			b.Queue(insertEpochSQL, c.AppID, c.Epoch, auth.StoredTime(now), string(c.Reason))
		}
		kinds[i], sessions[i] = string(c.Kind), uuidOrNull(c.Session)
		kids[i], expiries[i] = textOrNull(c.KID), timeOrNull(c.ExpiresAt)
		switch c.Kind {
		case auth.CutoffSession:
			sessionApps[i], vers[i] = textOrNull(c.AppID), &c.Ver
		case auth.CutoffApp:
			apps[i], epochs[i] = &c.AppID, &c.Epoch
		}
	}
	var last int64
	b.Queue(advisoryLockSQL, lockCutoffs)
	b.Queue(insertCutoffsSQL, auth.StoredTime(now), kinds, sessions, sessionApps, vers, apps, epochs, kids, expiries).
		QueryRow(func(row pgx.Row) error { return row.Scan(&last) })
	// Delivered to the current listeners when the transaction commits.
	b.Queue(notifyCutoffsSQL)
	return &last
}
