package webhook

import (
	"net"
	"net/http"
)

// SetResolver replaces the resolver of host names.
func (c *Client) SetResolver(r *net.Resolver) { c.dialer.Resolver = r }

// SetTransport replaces the HTTP transport.
func (c *Client) SetTransport(t http.RoundTripper) { c.transport = t }
