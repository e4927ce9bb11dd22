package main

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
)

// loopbackOnly protects a program for development from web pages in the developer's browser.
// Every program on this machine can log in as any user there, and a browser lets any page
// send requests to it:
//
//   - A Host that is not a name or an address of this machine is refused. It may be the host
//     of a page whose name resolves to this machine (DNS rebinding). Such a page could read
//     the answers.
//   - A request that changes something and comes from another site is refused. Programs other
//     than browsers do not send their origin. WeChat and its developer tools send a Referer
//     that no page can forge.
func loopbackOnly(next http.Handler) http.Handler {
	sameSite := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !isLoopback(r.Host):
			http.Error(w, "This program answers to localhost and loopback addresses only.", http.StatusMisdirectedRequest)
		case strings.HasPrefix(r.Referer(), "https://servicewechat.com/"):
			next.ServeHTTP(w, r)
		default:
			sameSite.ServeHTTP(w, r)
		}
	})
}

// isLoopback reports whether a Host header names this machine.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 §6.3
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// simulatorEndpoint returns the endpoint of the WeChat simulator.
func simulatorEndpoint(l net.Listener, simulator http.Handler) httpd.Endpoint {
	return httpd.Endpoint{Name: "wechatsim", Listener: l, Handler: loopbackOnly(simulator), MaxConnections: maxAdminConnections}
}
