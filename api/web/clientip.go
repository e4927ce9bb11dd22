package web

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5/middleware"
)

// ClientIP is a middleware that finds the client's address: that of the
// connection, or, when the connection comes from one of the trusted proxies,
// the last address in X-Forwarded-For that is not a proxy's. An address there
// may have a port (RFC 7239 §6). The header of any other peer is ignored; the
// first time that happens, ignored is called with the peer's address, since it
// may be a proxy that is missing in the settings.
func ClientIP(proxies []netip.Prefix, ignored func(peer netip.Addr)) func(http.Handler) http.Handler {
	trusted := make([]string, len(proxies))
	for i, p := range proxies {
		trusted[i] = p.String()
	}
	var once sync.Once
	return func(next http.Handler) http.Handler {
		var forwarded http.Handler // for requests of a trusted proxy
		if len(proxies) > 0 {
			forwarded = middleware.ClientIPFromXFF(trusted...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				EventOf(r.Context()).client = middleware.GetClientIPAddr(r.Context())
				next.ServeHTTP(w, r)
			}))
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r, event := withEvent(r)
			peer, values := peerAddr(r), r.Header["X-Forwarded-For"]
			if contains(proxies, peer.WithZone("")) {
				if len(values) > 0 {
					r.Header["X-Forwarded-For"] = withoutPorts(values)
				}
				forwarded.ServeHTTP(w, r)
				return
			}
			if len(values) > 0 {
				once.Do(func() { ignored(peer.WithZone("")) })
			}
			event.client = peer
			next.ServeHTTP(w, r)
		})
	}
}

// peerAddr returns the address of the connection's other end.
func peerAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// withoutPorts returns the values of X-Forwarded-For with bare addresses. Other texts
// do not change.
func withoutPorts(values []string) []string {
	bare := make([]string, len(values))
	for i, value := range values {
		entries := strings.Split(value, ",")
		for j, entry := range entries {
			entry = strings.Trim(strings.TrimSpace(entry), `"`)
			if ap, err := netip.ParseAddrPort(entry); err == nil {
				entry = ap.Addr().String()
			} else if strings.HasPrefix(entry, "[") {
				entry = strings.TrimSuffix(entry[1:], "]")
			}
			entries[j] = entry
		}
		bare[i] = strings.Join(entries, ",")
	}
	return bare
}

// ClientAddr returns the client's address. It is not valid when a trusted proxy
// sent no header or garbage; limits count all such requests together.
func ClientAddr(ctx context.Context) netip.Addr { return EventOf(ctx).client }
