package adminclient

import (
	"context"
	"iter"
)

// ListSigningKeys returns a page of the keys that sign tokens, by use and
// algorithm.
func (c *Client) ListSigningKeys(ctx context.Context, p Page) (*SigningKeyList, error) {
	return answer[SigningKeyList](ctx, c, get("signing-keys", query{}.page(p)))
}

// SigningKeys returns all keys that sign tokens from a page on, by use and
// algorithm.
func (c *Client) SigningKeys(ctx context.Context, first Page) iter.Seq2[SigningKey, error] {
	return all(first, func(p Page) ([]SigningKey, *string, error) {
		l, err := c.ListSigningKeys(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		return l.SigningKeys, l.Next, nil
	})
}

// RotateSigningKeys promotes the next keys.
func (c *Client) RotateSigningKeys(ctx context.Context, r Rotation) (*Rotated, error) {
	return post[Rotated](ctx, c, "signing-keys/rotate", r)
}

// RetireSigningKey ends a key, at once if it has leaked.
func (c *Client) RetireSigningKey(ctx context.Context, kid KeyID, r Retirement) (*Retired, error) {
	return post[Retired](ctx, c, "signing-keys/"+segment(kid)+"/retire", r)
}
