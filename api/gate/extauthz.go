package gate

import (
	"net/http"
	"net/url"
	"strings"
)

const verifyPath = "/v1/verify"

// AnyRequest is a middleware that lets proxies ask GET /v1/verify in their own
// ways. Some keep the method of the request that they ask about, and some (the
// ext_authz of Envoy) append its path and query to ours.
//
// What is appended is the client's, so it demands nothing: neither the query of
// such a request nor what stands behind the next slash is looked at. The proxy's
// own demands stand before that slash, where a client cannot write:
//
//	/v1/verify;aud=https%3A%2F%2Fapi.example.com;bound=required/orders/7?app=x
//
// Values are percent-encoded. Such a request becomes GET /v1/verify with these
// demands as its query. The body stays unread, and its connection ends.
func AnyRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, found := strings.CutPrefix(r.URL.EscapedPath(), verifyPath)
		if !found || rest != "" && rest[0] != ';' && rest[0] != '/' {
			next.ServeHTTP(w, r)
			return
		}
		if r.ContentLength != 0 {
			// Else net/http would wait for the body before it answers.
			w.Header().Set("Connection", "close")
		}
		asked := r.WithContext(r.Context())
		asked.Method = http.MethodGet
		if rest != "" {
			u := *r.URL
			asked.URL = &u
			own, _, appended := strings.Cut(rest, "/")
			u.Path, u.RawPath, u.RawQuery = verifyPath, "", ownDemands(own, r.URL.RawQuery, appended)
		}
		next.ServeHTTP(w, asked)
	})
}

// ownDemands returns the query for the demands in ours, which is empty or begins
// with a semicolon. A query without an appended path is the proxy's own, too, but
// demands stand in one place.
func ownDemands(ours, query string, appended bool) string {
	values := url.Values{}
	for pair := range strings.SplitSeq(strings.TrimPrefix(ours, ";"), ";") {
		if ours == "" {
			break
		}
		name, escaped, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(escaped)
		if err != nil {
			return "%" // is refused as malformed
		}
		values.Add(name, value)
	}
	if !appended && query != "" {
		return "%"
	}
	return values.Encode()
}
