package admin

import (
	"context"
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
		return fmt.Sprintf("%d-%d", e.At.UnixMicro(), e.ID)
	})
	for i := range found {
		answer.Events = append(answer.Events, auditEventOf(&found[i]))
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

// auditQuery returns the filters and the cursor of a request.
func auditQuery(r *http.Request) (q audit.Query, err error) {
	q = audit.Query{
		Action: queryText(r, "action"), Actor: queryText(r, "actor"), AppID: queryText(r, "app"), RequestID: queryText(r, "request_id"),
	}
	for name, into := range map[string]*uuid.UUID{"uuid": &q.Identity, "session": &q.Session, "person": &q.Person} {
		id, err := queryValue(r, name, uuid.Parse)
		if err != nil || id != nil && *id == uuid.Nil {
			return q, errForm(name)
		}
		*into = value(id)
	}
	for name, into := range map[string]*time.Time{"from": &q.From, "until": &q.Until} {
		at, err := queryValue(r, name, func(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) })
		if err != nil {
			return q, errForm(name)
		}
		*into = value(at).UTC()
	}
	for name, text := range map[string]string{"action": q.Action, "actor": q.Actor, "app": q.AppID, "request_id": q.RequestID} {
		if !auth.CleanText(text) {
			return q, errForm(name)
		}
	}
	if cursor := queryText(r, "cursor"); cursor != "" {
		var micros int64
		_, err := fmt.Sscanf(cursor, "%d-%d", &micros, &q.Before.ID)
		q.Before.At = time.UnixMicro(micros).UTC()
		if err != nil || cursor != fmt.Sprintf("%d-%d", micros, q.Before.ID) {
			return q, errCursor
		}
	}
	return q, nil
}

func auditEventOf(e *audit.Record) adminclient.AuditEvent {
	return adminclient.AuditEvent{
		ID: e.ID, At: e.At, Action: string(e.Action), Actor: e.Actor, App: textOrNull(e.AppID), UUID: uuidOrNull(e.Identity),
		Session: uuidOrNull(e.Session), Person: uuidOrNull(e.Person), Reason: e.Reason, RequestID: textOrNull(e.RequestID),
		Detail: e.Detail, Erased: e.Erased,
	}
}
