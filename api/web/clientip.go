package web

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// ClientIP is a middleware that finds the client's address: that of the
// connection, or, when the connection comes from one of the trusted proxies,
// the last address in X-Forwarded-For that is none of theirs. Nobody else's
// header is believed. It stands before [Events].
func ClientIP(proxies []netip.Prefix) func(http.Handler) http.Handler {
	if len(proxies) == 0 {
		return middleware.ClientIPFromRemoteAddr
	}
	trusted := make([]string, len(proxies))
	for i, p := range proxies {
		trusted[i] = p.String()
	}
	return middleware.ClientIPFromXFF(trusted...)
}

// ClientAddr returns the client's address. It is not valid when a trusted proxy
// sent no header or garbage; limits count all such requests together.
func ClientAddr(ctx context.Context) netip.Addr { return middleware.GetClientIPAddr(ctx) }
