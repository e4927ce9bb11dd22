package bearer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Identity is the user who makes a request, according to the access token.
type Identity struct {
	// UUID names the user of the mini-program. It is the same at every log-in. It is an
	// identifier, never a credential.
	UUID string
	// Person is the id of the person to whom the user is bound, or empty.
	Person string
	// ExternalID is the business's own id of that person: the key of its user table, for
	// example an employee number. It is empty when the user is not bound, and if the
	// app's policy keeps it out of tokens.
	ExternalID string
	// Session is the log-in.
	Session string
	// App is the appid of the mini-program.
	App string
	// Bound reports whether the user is bound to a person.
	Bound bool
	// ExpiresAt is when the token expires. Work that this request starts in the user's
	// name should not go on much longer.
	ExpiresAt time.Time
}

type contextKey struct{}

// FromContext returns the identity that [Verifier.Require] or [Verifier.RequireBound] put
// into the context, or false if the handler is behind neither.
func FromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(contextKey{}).(Identity)
	return id, ok
}

// Require returns a handler that passes on requests with a valid access token in their
// Authorization header, and answers the others as RFC 6750 says, with problem details
// (RFC 9457). The service itself uses the same codes:
//
//	400 invalid_request   the token is sent in two ways, or in the URL
//	401 token_missing     the request has no token
//	401 token_invalid     the token is not an access token for this back end
//	401 token_expired     the client should refresh
//	401 session_revoked   the client should refresh, or log in again
//	500 internal          this verifier is misconfigured; see the log
//	503 stale             the client should try again after Retry-After seconds
func (v *Verifier) Require(next http.Handler) http.Handler {
	return v.require(next, false)
}

// RequireBound is [Verifier.Require] for users who are bound to a person. It
// answers the others:
//
//	403 person_required   the user must bind first
func (v *Verifier) RequireBound(next http.Handler) http.Handler {
	return v.require(next, true)
}

func (v *Verifier) require(next http.Handler, bound bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ref := tokenOf(r)
		if ref != nil {
			ref.write(w)
			return
		}
		c, err := v.Verify(r.Context(), token)
		if err != nil {
			refusalOf(err).write(w)
			return
		}
		if bound && !c.Bound {
			personRequired.write(w)
			return
		}
		id := Identity{UUID: c.Subject, Person: c.Person, ExternalID: c.ExternalID, Session: c.Session, App: c.App, Bound: c.Bound, ExpiresAt: c.ExpiresAt}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, id)))
	})
}

// tokenOf returns the token in the Authorization header. It looks in no other place: a
// token in a URL ends up in logs.
func tokenOf(r *http.Request) (string, *refusal) {
	const scheme = "bearer "
	header := r.Header["Authorization"]
	switch {
	case len(header) > 1, r.URL.RawQuery != "" && r.URL.Query().Has("access_token"):
		return "", tokenSentTwice
	case len(header) == 0, len(header[0]) < len(scheme), !strings.EqualFold(header[0][:len(scheme)], scheme):
		return "", missing
	}
	token := strings.Trim(header[0][len(scheme):], " ")
	if token == "" {
		return "", missing
	}
	return token, nil
}

// refusal is the response for one reason to refuse a request.
type refusal struct {
	status    int
	code      string
	title     string
	challenge string // the error of RFC 6750 §3.1, or empty
	retry     string // Retry-After, in seconds
}

var (
	tokenSentTwice = &refusal{status: 400, code: "invalid_request", title: "Send the access token once, in the Authorization header.", challenge: "invalid_request"}
	missing        = &refusal{status: 401, code: "token_missing", title: "Send the access token as: Authorization: Bearer TOKEN"}
	invalid        = &refusal{status: 401, code: "token_invalid", title: "This is not an access token for this server.", challenge: "invalid_token"}
	expired        = &refusal{status: 401, code: "token_expired", title: "The access token has expired; refresh it.", challenge: "invalid_token"}
	revoked        = &refusal{status: 401, code: "session_revoked", title: "The access token has been revoked; refresh it or log in again.", challenge: "invalid_token"}
	personRequired = &refusal{status: 403, code: "person_required", title: "The user must be bound to a person; bind first.", challenge: "insufficient_scope"}
	misconfigured  = &refusal{status: 500, code: "internal", title: "This server is not set up to accept access tokens."}
	stale          = &refusal{status: 503, code: "stale", title: "Revocations cannot be followed at the moment; try again.", retry: "2"}
)

// refusalOf returns the response for an error of Verify.
func refusalOf(err error) *refusal {
	switch {
	case errors.Is(err, ErrExpired):
		return expired
	case errors.Is(err, ErrRevoked):
		return revoked
	case errors.Is(err, ErrStale):
		return stale
	case errors.Is(err, ErrMisconfigured):
		return misconfigured
	default:
		return invalid
	}
}

func (ref *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	if ref.status < http.StatusInternalServerError {
		// RFC 6750 §3.1: no error code when no token was sent.
		challenge := `Bearer realm="yufu"`
		if ref.challenge != "" {
			challenge += `, error="` + ref.challenge + `", error_description="` + ref.title + `"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
	if ref.retry != "" {
		h.Set("Retry-After", ref.retry)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(ref.status)
	// The texts are plain ASCII, which Go and JSON quote alike.
	body := fmt.Sprintf(`{"type":"urn:yufu:problem:%s","title":%q,"status":%d,"code":%q}`+"\n", ref.code, ref.title, ref.status, ref.code)
	_, _ = w.Write([]byte(body))
}
