package web

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// PublicClient returns the client_id of a public client: from the form, or from
// HTTP Basic with an empty secret (RFC 6749 §2.3.1, §3.2.1).
//
// Errors: [auth.InvalidRequest] when it is missing or the two differ,
// [auth.ClientSecretUnexpected] when a secret was sent.
func PublicClient(r *http.Request, form Form) (string, error) {
	id := form["client_id"]
	if form["client_secret"] != "" {
		return "", auth.ClientSecretUnexpected
	}
	if header := r.Header.Values("Authorization"); len(header) > 0 {
		basicID, secret, ok := parseBasic(header)
		switch {
		case !ok:
			return "", auth.Invalid("The Authorization header must be Basic, with the client_id as the user name and an empty password.")
		case secret != "":
			return "", auth.ClientSecretUnexpected
		case id != "" && id != basicID:
			return "", auth.Invalid("The client_id in the body differs from the one in the Authorization header.")
		}
		id = basicID
	}
	if id == "" {
		return "", auth.Invalid("The parameter client_id is missing.")
	}
	return id, nil
}

// parseBasic reads Basic credentials, percent-decoded as in RFC 6749 §2.3.1.
func parseBasic(header []string) (id, secret string, ok bool) {
	const scheme = "basic "
	if len(header) != 1 || len(header[0]) < len(scheme) || !strings.EqualFold(header[0][:len(scheme)], scheme) {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimLeft(header[0][len(scheme):], " "))
	if err != nil {
		return "", "", false
	}
	rawID, rawSecret, ok := strings.Cut(string(raw), ":")
	if !ok {
		return "", "", false
	}
	id, err = url.QueryUnescape(rawID)
	if err != nil || !validText(id) {
		return "", "", false
	}
	secret, err = url.QueryUnescape(rawSecret)
	return id, secret, err == nil
}

// BearerToken returns the access token of a request, only from the Authorization
// header (RFC 6750 §2.1).
//
// Errors: [auth.TokenMissing], [auth.InvalidRequest] when the header is repeated or the
// token is in the URL.
func BearerToken(r *http.Request) (auth.Secret, error) {
	const scheme = "bearer "
	header := r.Header.Values("Authorization")
	switch {
	case len(header) > 1:
		return "", auth.Invalid("The Authorization header is repeated.")
	case r.URL.RawQuery != "" && r.URL.Query().Has("access_token"):
		return "", auth.Invalid("Send the access token in the Authorization header; URLs end up in logs.")
	case len(header) == 0 || len(header[0]) < len(scheme) || !strings.EqualFold(header[0][:len(scheme)], scheme):
		return "", auth.TokenMissing
	}
	token := strings.Trim(header[0][len(scheme):], " ")
	if token == "" {
		return "", auth.TokenMissing
	}
	return auth.Secret(token), nil
}
