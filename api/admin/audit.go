package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// AuditLog reads the audit log. Implemented by every store.
type AuditLog interface {
	AuditRecords(ctx context.Context, q audit.Query) ([]audit.Record, error)
}

func (a *API) listAudit(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	q, err := auditQuery(r)
	if err != nil {
		return err
	}
	q.Limit = limit + 1
	found, err := a.c.AuditLog.AuditRecords(r.Context(), q)
	if err != nil {
		return err
	}
	answer := adminclient.AuditLog{Events: []adminclient.AuditEvent{}}
	found, answer.Next = cutPage(found, limit, func(e audit.Record) string {
		return formatPosition(audit.Position{At: e.At, ID: e.ID})
	})
	for i := range found {
		answer.Events = append(answer.Events, auditEventOf(&found[i]))
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

// auditQuery returns the filters and the cursor of a request.
func auditQuery(r *http.Request) (q audit.Query, err error) {
	for _, f := range []struct {
		name string
		text *string
	}{{"action", &q.Action}, {"actor", &q.Actor}, {"app", &q.AppID}, {"request_id", &q.RequestID}} {
		if *f.text = queryText(r, f.name); !auth.CleanText(*f.text) {
			return q, errForm(f.name)
		}
	}
	for _, f := range []struct {
		name string
		id   *uuid.UUID
	}{{"uuid", &q.Identity}, {"session", &q.Session}, {"person", &q.Person}} {
		if *f.id, err = queryID(r, f.name); err != nil {
			return q, err
		}
	}
	for _, f := range []struct {
		name string
		at   *time.Time
	}{{"from", &q.From}, {"until", &q.Until}} {
		at, err := queryValue(r, f.name, parseTime)
		if err != nil {
			return q, err
		}
		*f.at = value(at)
	}
	if cursor := queryText(r, "cursor"); cursor != "" {
		q.Before, err = parsePosition(cursor)
	}
	return q, err
}

// parseTime parses a time of RFC 3339. It refuses the zero time, which would restrict
// nothing.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err == nil && t.IsZero() {
		err = errors.New("the zero time")
	}
	return t.UTC(), err
}

// formatPosition and parsePosition turn the place of an event into a cursor and back.
func formatPosition(p audit.Position) string { return fmt.Sprintf("%d-%d", p.At.UnixMicro(), p.ID) }

func parsePosition(cursor string) (p audit.Position, err error) {
	var micros int64
	_, err = fmt.Sscanf(cursor, "%d-%d", &micros, &p.ID)
	if p.At = time.UnixMicro(micros).UTC(); err != nil || formatPosition(p) != cursor {
		return audit.Position{}, errCursor
	}
	return p, nil
}

func auditEventOf(e *audit.Record) adminclient.AuditEvent {
	return adminclient.AuditEvent{
		ID: e.ID, At: e.At, Action: string(e.Action), Actor: e.Actor, App: textOrNull(e.AppID), UUID: uuidOrNull(e.Identity),
		Session: uuidOrNull(e.Session), Person: uuidOrNull(e.Person), Reason: e.Reason, RequestID: textOrNull(e.RequestID),
		Detail: e.Detail, Erased: e.Erased,
	}
}
