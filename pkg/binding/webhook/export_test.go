package webhook

import (
	"net"
	"net/http"
)

// SetResolver has the client's hosts looked up elsewhere.
func (c *Client) SetResolver(r *net.Resolver) { c.dialer.Resolver = r }

// SetTransport has the client's requests answered elsewhere.
func (c *Client) SetTransport(t http.RoundTripper) { c.transport = t }
