package adminclient

import (
	"context"
	"iter"
)

// ListServiceKeys returns a page of the service keys, the oldest first.
func (c *Client) ListServiceKeys(ctx context.Context, p Page) (*ServiceKeyList, error) {
	return answer[ServiceKeyList](ctx, c, get("service-keys", query{}.page(p)))
}

// ServiceKeys returns all service keys from a page on, the oldest first.
func (c *Client) ServiceKeys(ctx context.Context, first Page) iter.Seq2[ServiceKey, error] {
	return all(first, func(p Page) ([]ServiceKey, *string, error) {
		l, err := c.ListServiceKeys(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		return l.ServiceKeys, l.Next, nil
	})
}

// CreateServiceKey creates a service key. The answer is the only one with its
// secret.
func (c *Client) CreateServiceKey(ctx context.Context, k NewServiceKey) (*CreatedServiceKey, error) {
	return post[CreatedServiceKey](ctx, c, "service-keys", k)
}

// UpdateServiceKey pins a service key to an app. An empty PinnedApp removes the pin.
func (c *Client) UpdateServiceKey(ctx context.Context, id ServiceKeyID, u ServiceKeyUpdate) (*ServiceKey, error) {
	return patch[ServiceKey](ctx, c, "service-keys/"+segment(id), u)
}

// KeyRevocation holds the parameters of the revocation of a service key.
type KeyRevocation struct {
	// Descendants also revokes the keys that the key made, and so on.
	Descendants bool
	// Reason is for the audit trail.
	Reason string
}

// RevokeServiceKey revokes a service key for good. It is harmless to repeat.
func (c *Client) RevokeServiceKey(ctx context.Context, id ServiceKeyID, r KeyRevocation) (*RevokedServiceKeys, error) {
	q := query{}.flag("descendants", r.Descendants).reason(r.Reason)
	return answer[RevokedServiceKeys](ctx, c, remove("service-keys/"+segment(id), q))
}
