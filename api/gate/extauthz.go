package gate

import (
	"net/http"
	"net/url"
	"strings"
)

const verifyPath = "/v1/verify"

// AnyRequest is a middleware that accepts the variants of GET /v1/verify that proxies
// send. Some keep the method of the request that they ask about, and some (the
// ext_authz of Envoy) append its path and query to ours.
//
// The appended part comes from the client, so it is ignored: the query of such a
// request, and everything after the next slash. The proxy's own requirements stand
// before that slash, where a client cannot write:
//
//	/v1/verify;aud=https%3A%2F%2Fapi.example.com;bound=required/orders/7?app=x
//
// Values are percent-encoded. Such a request becomes GET /v1/verify with these
// requirements as its query. The body stays unread, and its connection ends.
func AnyRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, found := strings.CutPrefix(r.URL.EscapedPath(), verifyPath)
		ours := found && (rest == "" || rest[0] == ';' || rest[0] == '/')
		if !ours || rest == "" && r.Method == http.MethodGet && r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if r.ContentLength != 0 {
			// Otherwise net/http would wait for the body before it answers.
			w.Header().Set("Connection", "close")
		}
		asked := r.WithContext(r.Context())
		asked.Method = http.MethodGet
		if rest != "" {
			u := *r.URL
			asked.URL = &u
			params, _, appended := strings.Cut(rest, "/")
			u.Path, u.RawPath, u.RawQuery = verifyPath, "", proxyRequirements(params, r.URL.RawQuery, appended)
		}
		next.ServeHTTP(w, asked)
	})
}

// proxyRequirements returns the query for the requirements in params, which is empty or
// begins with a semicolon. A query without an appended path also comes from the proxy,
// but the requirements must be in one place.
func proxyRequirements(params, query string, appended bool) string {
	values := url.Values{}
	for pair := range strings.SplitSeq(strings.TrimPrefix(params, ";"), ";") {
		if params == "" {
			break
		}
		name, escaped, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(escaped)
		if err != nil {
			return "%" // refused as malformed
		}
		values.Add(name, value)
	}
	if !appended && query != "" {
		return "%"
	}
	return values.Encode()
}
