package web_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// FuzzPublicClient checks that an Authorization header names a client only if it is
// Basic with an empty secret, that it never overrides the body, and that errors quote
// no input.
func FuzzPublicClient(f *testing.F) {
	f.Fuzz(func(t *testing.T, header, inBody string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Header["Authorization"] = []string{header}
		form := web.Form{}
		if inBody != "" {
			form["client_id"] = inBody
		}
		id, err := web.PublicClient(r, form)
		if err != nil {
			if code := auth.CodeOf(err); id != "" || code != auth.InvalidRequest && code != auth.ClientSecretUnexpected {
				t.Fatalf("got %q, error %v", id, err)
			}
			wantNoEcho(t, err, header, inBody)
			return
		}
		scheme, credentials, _ := strings.Cut(header, " ")
		raw, decodeErr := base64.StdEncoding.DecodeString(strings.TrimLeft(credentials, " "))
		encodedID, secret, colon := strings.Cut(string(raw), ":")
		wantID, unescapeErr := url.QueryUnescape(encodedID)
		if !strings.EqualFold(scheme, "basic") || decodeErr != nil || !colon || secret != "" || unescapeErr != nil || id != wantID {
			t.Fatalf("the header %q names the client %q", header, id)
		}
		if id == "" || inBody != "" && inBody != id {
			t.Fatalf("the header %q with the body %q names the client %q", header, inBody, id)
		}
	})
}

// FuzzBearerToken checks that the token is the text after the scheme, and comes from no
// other place.
func FuzzBearerToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, header, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header["Authorization"] = []string{header}
		r.URL.RawQuery = query
		token, err := web.BearerToken(r)
		got := token.Reveal()
		if err != nil {
			if code := auth.CodeOf(err); got != "" || code != auth.TokenMissing && code != auth.InvalidRequest {
				t.Fatalf("got %q, error %v", got, err)
			}
			wantNoEcho(t, err, header, query)
			return
		}
		scheme, rest, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "bearer") || got == "" || got != strings.Trim(rest, " ") {
			t.Fatalf("the header %q has the token %q", header, got)
		}
		if values, err := url.ParseQuery(query); err == nil && values.Has("access_token") {
			t.Fatalf("a token in the query %q is accepted", query)
		}
	})
}

// FuzzClientIP checks that only a trusted proxy can set the client's address, and that
// entries of the client are never taken for the proxy's.
func FuzzClientIP(f *testing.F) {
	const proxy, client = "10.1.2.3:4711", "203.0.113.5"
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	f.Fuzz(func(t *testing.T, peer, written string) {
		address := func(peer string, header ...string) netip.Addr {
			var got netip.Addr
			h := web.ClientIP(proxies, func(netip.Addr) {})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = web.ClientAddr(r.Context()) }))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = peer, header
			h.ServeHTTP(httptest.NewRecorder(), r)
			return got
		}
		for _, header := range [][]string{{written + ", " + client}, {written, client}, {written + "," + client + ", 10.9.9.9"}} {
			if got := address(proxy, header...); got.String() != client {
				t.Fatalf("%q from the proxy gives the client %s", header, got)
			}
		}
		got := address(proxy, written)
		for _, p := range proxies {
			if p.Contains(got) {
				t.Fatalf("%q gives the proxy as the client", written)
			}
		}
		if got.IsValid() && (got.Zone() != "" || got.Is4In6()) {
			t.Fatalf("%q: the address %s is not canonical", written, got)
		}
		web.Network(got) // must not panic for any address

		// The kernel sets the peer: its zone is the name of an interface.
		ap, err := netip.ParseAddrPort(peer)
		if err != nil || strings.ContainsAny(ap.Addr().Zone(), "[]%:") {
			return
		}
		from := ap.Addr().Unmap()
		for _, p := range proxies {
			if p.Contains(from.WithZone("")) {
				return
			}
		}
		if got := address(peer, written); got != from {
			t.Fatalf("a request from %s with %q has the client %s", peer, written, got)
		}
	})
}

// wantNoEcho fails the test if the error quotes the input, unless the input is so short
// that any sentence may contain it.
func wantNoEcho(t *testing.T, err error, sent ...string) {
	t.Helper()
	for _, s := range sent {
		if len(s) > 24 && strings.Contains(err.Error(), s) {
			t.Fatalf("the error quotes the input: %v", err)
		}
	}
}
