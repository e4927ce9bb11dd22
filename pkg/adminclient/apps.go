package adminclient

import (
	"context"
	"iter"
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
