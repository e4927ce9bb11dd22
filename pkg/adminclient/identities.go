package adminclient

import (
	"context"
	"iter"

	"github.com/google/uuid"
)

// IdentityQuery restricts a list of users. A member that is nil does not
// restrict it, and one that is empty is refused.
type IdentityQuery struct {
	UUID *uuid.UUID
	// OpenID and UnionID are the platform's ids of the account. To search by them
	// the service key needs the scope openid.
	OpenID, UnionID *string
	// Person is the id of the person to whom the users are bound.
	Person *uuid.UUID
	// App is the users' app.
	App *AppID
	Page
}

// ListIdentities returns a page of the users that a query finds, in the order of
// their uuids.
func (c *Client) ListIdentities(ctx context.Context, q IdentityQuery) (*IdentityList, error) {
	parameters := query{}.page(q.Page).id("uuid", q.UUID).text("openid", q.OpenID).text("unionid", q.UnionID).
		id("person", q.Person).text("app", q.App)
	return answer[IdentityList](ctx, c, get("identities", parameters))
}

// Identities returns all users that a query finds from a page on, in the order of
// their uuids.
func (c *Client) Identities(ctx context.Context, q IdentityQuery) iter.Seq2[Identity, error] {
	return all(q.Page, func(p Page) ([]Identity, *string, error) {
		q.Page = p
		l, err := c.ListIdentities(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		return l.Identities, l.Next, nil
	})
}

// Identity returns a user.
func (c *Client) Identity(ctx context.Context, id uuid.UUID) (*Identity, error) {
	return answer[Identity](ctx, c, get("identities/"+id.String(), nil))
}

// EraseIdentity erases a user for good. It is harmless to repeat.
func (c *Client) EraseIdentity(ctx context.Context, id uuid.UUID, reason string) error {
	_, _, _, err := c.do(ctx, remove("identities/"+id.String(), query{}.reason(reason)))
	return err
}

// DisableIdentity ends all sessions of a user and refuses their log-ins. It is
// harmless to repeat.
func (c *Client) DisableIdentity(ctx context.Context, id uuid.UUID, reason string) (*Identity, error) {
	return post[Identity](ctx, c, "identities/"+id.String()+"/disable", ReasonRequest{Reason: reason})
}

// EnableIdentity lets a user log in again. It is harmless to repeat.
func (c *Client) EnableIdentity(ctx context.Context, id uuid.UUID, reason string) (*Identity, error) {
	return post[Identity](ctx, c, "identities/"+id.String()+"/enable", ReasonRequest{Reason: reason})
}

// BindIdentity binds a user to a person, also a user who is bound to another. It is
// harmless to repeat.
func (c *Client) BindIdentity(ctx context.Context, id uuid.UUID, b BindIdentityRequest) (*Identity, error) {
	return post[Identity](ctx, c, "identities/"+id.String()+"/bind", b)
}

// UnbindIdentity unbinds a user. It is harmless to repeat.
func (c *Client) UnbindIdentity(ctx context.Context, id uuid.UUID, reason string) (*Identity, error) {
	return post[Identity](ctx, c, "identities/"+id.String()+"/unbind", ReasonRequest{Reason: reason})
}
