package adminclient

import (
	"context"
	"iter"

	"github.com/google/uuid"
)

// Revoke ends sessions for good: all that the revocation names. It is harmless to
// repeat.
func (c *Client) Revoke(ctx context.Context, r Revocation) (*Revoked, error) {
	return post[Revoked](ctx, c, "revocations", r)
}

// ListSessions returns a page of a user's sessions, about the newest first.
func (c *Client) ListSessions(ctx context.Context, identity uuid.UUID, p Page) (*SessionList, error) {
	return answer[SessionList](ctx, c, get("identities/"+identity.String()+"/sessions", query{}.page(p)))
}

// Sessions returns all of a user's sessions from a page on, about the newest first.
func (c *Client) Sessions(ctx context.Context, identity uuid.UUID, first Page) iter.Seq2[Session, error] {
	return all(first, func(p Page) ([]Session, *string, error) {
		l, err := c.ListSessions(ctx, identity, p)
		if err != nil {
			return nil, nil, err
		}
		return l.Sessions, l.Next, nil
	})
}

// Session returns a session.
func (c *Client) Session(ctx context.Context, id uuid.UUID) (*Session, error) {
	return answer[Session](ctx, c, get("sessions/"+id.String(), nil))
}

// EndSession ends a session. It is harmless to repeat.
func (c *Client) EndSession(ctx context.Context, id uuid.UUID, reason string) (*Revoked, error) {
	return answer[Revoked](ctx, c, remove("sessions/"+id.String(), query{}.reason(reason)))
}
