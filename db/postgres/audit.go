package postgres

import (
	"context"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/yufu-auth/yufu/pkg/audit"
)

const auditColumns = `
  a.id, a.at, a.action, a.actor, a.appid, a.identity_uuid, a.session_id, a.person_id, a.reason, a.request_id, a.detail::text, a.commitments::text`

var auditValuesSQL = statement(`select audit_id, name, value, salt from audit_values where audit_id = any ($1)`)

// AuditRecords implements [audit.Store].
func (s *Store) AuditRecords(ctx context.Context, q audit.Query) ([]audit.Record, error) {
	sql, args := auditSQL(&q)
	all, err := s.auditRecords(ctx, sql, args...)
	return all, s.fail(ctx, "AuditRecords", err)
}

// auditSQL returns the statement for a query. Each set of filters has its own, so that the
// planner knows which index serves it.
func auditSQL(q *audit.Query) (string, []any) {
	var args []any
	sql := `select` + auditColumns + ` from audit a where true`
	where := func(condition string, value any) {
		args = append(args, value)
		sql += ` and ` + condition + ` $` + strconv.Itoa(len(args))
	}
	columns, values := q.Equals()
	for i, column := range columns {
		where(`a.`+column+` =`, values[i])
	}
	if !q.From.IsZero() {
		where(`a.at >=`, q.From)
	}
	if !q.Until.IsZero() {
		where(`a.at <`, q.Until)
	}
	if !q.Before.At.IsZero() {
		where(`(a.at, a.id) < (`, q.Before.At)
		args = append(args, q.Before.ID)
		sql += `, $` + strconv.Itoa(len(args)) + `)`
	}
	args = append(args, q.Limit)
	return sql + ` order by a.at desc, a.id desc limit $` + strconv.Itoa(len(args)), args
}

// auditRecords reads rows, and then their personal values. Values that are erased meanwhile
// are missing, as they would be a moment later.
func (s *Store) auditRecords(ctx context.Context, sql string, args ...any) ([]audit.Record, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, scanAudit)
	if err != nil {
		return nil, err
	}
	at, ids := map[int64]*audit.Stored{}, []int64{}
	for i := range found {
		if found[i].Commitments != "" {
			at[found[i].ID], ids = &found[i], append(ids, found[i].ID)
		}
	}
	if len(ids) > 0 {
		rows, err := s.pool.Query(ctx, auditValuesSQL, ids)
		if err != nil {
			return nil, err
		}
		var id int64
		var v audit.Value
		_, err = pgx.ForEachRow(rows, []any{&id, &v.Name, &v.Value, &v.Salt}, func() error {
			at[id].Values = append(at[id].Values, v)
			v.Salt = nil
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return audit.NewRecords(found)
}

func scanAudit(row pgx.CollectableRow) (audit.Stored, error) {
	var a audit.Stored
	err := row.Scan(&a.ID, &a.At, (*string)(&a.Action), &a.Actor, (*zeronull.Text)(&a.AppID), nullUUID(&a.Identity), nullUUID(&a.Session), nullUUID(&a.Person),
		&a.Reason, &a.RequestID, (*zeronull.Text)(&a.Row.Detail), (*zeronull.Text)(&a.Commitments))
	a.At = a.At.UTC()
	return a, err
}

// nullUUID scans NULL as [uuid.Nil].
func nullUUID(id *uuid.UUID) *zeronull.UUID { return (*zeronull.UUID)(id) }
