package webhook

import "net"

// SetResolver has the client's hosts looked up elsewhere.
func (c *Client) SetResolver(r *net.Resolver) { c.dialer.Resolver = r }
