package sqlite

import (
	"context"
	"database/sql"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/audit"
)

const auditColumns = `
  a.id, a.at, a.action, a.actor, coalesce(a.appid, ''), a.identity_uuid, a.session_id, a.person_id, a.reason, a.request_id,
  coalesce(a.detail, ''), coalesce(a.commitments, '')`

var auditValuesSQL = statement(`select name, value, salt from audit_values where audit_id = ?`)

// AuditRecords implements [audit.Store].
func (s *Store) AuditRecords(ctx context.Context, q audit.Query) ([]audit.Record, error) {
	query := strings.Builder{}
	query.WriteString(`select` + auditColumns + ` from audit a where true`)
	columns, args := q.Equals()
	for _, column := range columns {
		query.WriteString(` and a.` + column + ` = ?`)
	}
	if !q.From.IsZero() {
		query.WriteString(` and a.at >= ?`)
		args = append(args, micros(q.From))
	}
	if !q.Until.IsZero() {
		query.WriteString(` and a.at < ?`)
		args = append(args, micros(q.Until))
	}
	if !q.Before.At.IsZero() {
		query.WriteString(` and (a.at, a.id) < (?, ?)`)
		args = append(args, micros(q.Before.At), q.Before.ID)
	}
	query.WriteString(` order by a.at desc, a.id desc limit ` + strconv.Itoa(q.Limit))
	all, err := s.auditRecords(ctx, query.String(), args...)
	return all, translate(ctx, "AuditRecords", err)
}

// auditRecords reads rows, and then their personal values. Values that are erased meanwhile
// are missing, as they would be a moment later.
func (s *Store) auditRecords(ctx context.Context, query string, args ...any) ([]audit.Record, error) {
	rows, err := s.r.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	found, err := collect(rows, scanAudit)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if found[i].Commitments == "" {
			continue
		}
		rows, err := s.r.QueryContext(ctx, auditValuesSQL, found[i].ID)
		if err != nil {
			return nil, err
		}
		found[i].Values, err = collect(rows, func(rows *sql.Rows) (v audit.Value, err error) {
			return v, rows.Scan(&v.Name, &v.Value, &v.Salt)
		})
		if err != nil {
			return nil, err
		}
	}
	return audit.NewRecords(found)
}

func scanAudit(rows *sql.Rows) (audit.Stored, error) {
	var (
		a                         audit.Stored
		identity, session, person uuid.NullUUID
	)
	err := rows.Scan(&a.ID, into(&a.At), &a.Action, &a.Actor, &a.AppID, &identity, &session, &person,
		&a.Reason, &a.RequestID, &a.Row.Detail, &a.Commitments)
	a.Identity, a.Session, a.Person = identity.UUID, session.UUID, person.UUID
	return a, err
}
