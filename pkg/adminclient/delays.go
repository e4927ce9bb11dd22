package adminclient

import (
	"context"
	"iter"

	"github.com/google/uuid"
)

// DelayQuery restricts a list of failed attempts to bind. A member that is
// nil does not restrict it, and one that is empty is refused.
type DelayQuery struct {
	// Delayed leaves only attempts that delay the next one now.
	Delayed bool
	// UUID is a user.
	UUID *uuid.UUID
	// Person is the id of a person whose facts were looked up.
	Person *uuid.UUID
	// Address is an IP address; the list has attempts from its network.
	Address *string
	Page
}

// ListBindingDelays returns a page of the failed attempts to bind that still count.
func (c *Client) ListBindingDelays(ctx context.Context, q DelayQuery) (*BindingDelayList, error) {
	parameters := query{}.page(q.Page).flag("delayed", q.Delayed).id("uuid", q.UUID).id("person", q.Person).text("address", q.Address)
	return answer[BindingDelayList](ctx, c, get("binding-delays", parameters))
}

// BindingDelays returns all failed attempts to bind that still count, from a page
// on.
func (c *Client) BindingDelays(ctx context.Context, q DelayQuery) iter.Seq2[BindingDelay, error] {
	return all(q.Page, func(p Page) ([]BindingDelay, *string, error) {
		q.Page = p
		l, err := c.ListBindingDelays(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		return l.BindingDelays, l.Next, nil
	})
}

// LiftBindingDelay forgets failed attempts to bind, so that the next attempt is let
// through. The id is that of a [BindingDelay].
func (c *Client) LiftBindingDelay(ctx context.Context, id, reason string) error {
	_, _, _, err := c.do(ctx, remove("binding-delays/"+segment(id), query{}.reason(reason)))
	return err
}
