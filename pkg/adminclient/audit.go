package adminclient

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"
)

// AuditQuery restricts a list of audit events. A member that is nil or zero does not
// restrict it, and an empty text is refused.
type AuditQuery struct {
	// From and Until bound the time: From ≤ At < Until.
	From, Until time.Time
	// Action, Actor, App and RequestID match exactly. An actor is "bearer", "cli",
	// "service" or "service_key:ID".
	Action, Actor, App, RequestID *string
	// UUID is a user, Session the id of a session, and Person that of a person.
	UUID, Session, Person *uuid.UUID
	Page
}

// ListAudit returns a page of the audit log, the newest event first.
func (c *Client) ListAudit(ctx context.Context, q AuditQuery) (*AuditLog, error) {
	parameters := query{}.page(q.Page).time("from", q.From).time("until", q.Until).text("action", q.Action).text("actor", q.Actor).
		text("app", q.App).text("request_id", q.RequestID).id("uuid", q.UUID).id("session", q.Session).id("person", q.Person)
	return answer[AuditLog](ctx, c, get("audit", parameters))
}

// Audit returns all audit events, the newest first, from a page on.
func (c *Client) Audit(ctx context.Context, q AuditQuery) iter.Seq2[AuditEvent, error] {
	return all(q.Page, func(p Page) ([]AuditEvent, *string, error) {
		q.Page = p
		l, err := c.ListAudit(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		return l.Events, l.Next, nil
	})
}
