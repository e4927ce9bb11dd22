package adminclient

import (
	"context"
	"iter"

	"github.com/google/uuid"
)

// ListApps returns a page of the mini-programs, by appid.
func (c *Client) ListApps(ctx context.Context, p Page) (*AppList, error) {
	return answer[AppList](ctx, c, get("apps", query{}.page(p)))
}

// Apps returns all mini-programs from a page on, by appid.
func (c *Client) Apps(ctx context.Context, first Page) iter.Seq2[App, error] {
	return all(first, func(p Page) ([]App, *string, error) {
		l, err := c.ListApps(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		return l.Apps, l.Next, nil
	})
}

// App returns a mini-program.
func (c *Client) App(ctx context.Context, id AppID) (*App, error) {
	return answer[App](ctx, c, get("apps/"+segment(id), nil))
}

// CreateApp registers a mini-program.
func (c *Client) CreateApp(ctx context.Context, a NewApp) (*AppOutcome, error) {
	return post[AppOutcome](ctx, c, "apps", a)
}

// UpdateApp changes a mini-program. Members that are absent stay as they are.
func (c *Client) UpdateApp(ctx context.Context, id AppID, u AppUpdate) (*AppOutcome, error) {
	return patch[AppOutcome](ctx, c, "apps/"+segment(id), u)
}

// DisableApp refuses a mini-program's log-ins and refreshes, and ends all its sessions.
// It is harmless to repeat.
func (c *Client) DisableApp(ctx context.Context, id AppID, reason string) (*App, error) {
	return post[App](ctx, c, "apps/"+segment(id)+"/disable", ReasonRequest{Reason: reason})
}

// EnableApp lets a mini-program's users log in again. Sessions that ended stay ended. It
// is harmless to repeat.
func (c *Client) EnableApp(ctx context.Context, id AppID, reason string) (*App, error) {
	return post[App](ctx, c, "apps/"+segment(id)+"/enable", ReasonRequest{Reason: reason})
}

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
