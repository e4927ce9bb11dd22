package audit

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Store is the part of a database that has the audit log.
type Store interface {
	// AuditRecords returns at most q.Limit records, the newest first: by At, and by ID
	// among those of the same time. Each filter has an index.
	AuditRecords(ctx context.Context, q Query) ([]Record, error)
}

// Query finds records. Empty fields do not restrict the result.
type Query struct {
	// From and Until bound the time: From ≤ At < Until.
	From, Until time.Time
	// The others match exactly.
	Action, Actor, AppID, RequestID string
	Identity, Session, Person       uuid.UUID
	// Before is the position of the last record seen; zero means from the newest.
	Before Position
	Limit  int
}

// Position is the place of a record among the others.
type Position struct {
	At time.Time
	ID int64
}

// Equals are the columns of audit that must have a value.
func (q *Query) Equals() (columns []string, values []any) {
	for _, f := range []struct {
		column string
		value  any
		set    bool
	}{
		{"request_id", q.RequestID, q.RequestID != ""},
		{"session_id", q.Session, q.Session != uuid.Nil},
		{"identity_uuid", q.Identity, q.Identity != uuid.Nil},
		{"person_id", q.Person, q.Person != uuid.Nil},
		{"actor", q.Actor, q.Actor != ""},
		{"action", q.Action, q.Action != ""},
		{"appid", q.AppID, q.AppID != ""},
	} {
		if f.set {
			columns, values = append(columns, f.column), append(values, f.value)
		}
	}
	return columns, values
}
