package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Response is how one error code looks on the wire.
type Response struct {
	// Status is the HTTP status.
	Status int
	// OAuth is the "error" member at OAuth endpoints (RFC 6749 §5.2; those
	// beyond its list are extensions).
	OAuth string
	// Text is the standard sentence: the fault and the remedy. ASCII without quotes and
	// backslashes.
	Text string
	// RetryAfter is the standard delay for codes that ask the client to wait.
	RetryAfter time.Duration
}

// Responses is the one table from error codes to responses. Every code of
// [auth.Codes] has a row.
var Responses = map[auth.Code]Response{
	auth.InvalidRequest:       {Status: 400, OAuth: "invalid_request", Text: "The request is malformed."},
	auth.UnsupportedGrantType: {Status: 400, OAuth: "unsupported_grant_type", Text: "This grant_type is not supported; the server metadata lists the supported ones."},
	auth.UnsupportedMediaType: {Status: 415, OAuth: "invalid_request", Text: "This endpoint does not accept the Content-Type of the body."},
	auth.BodyTooLarge:         {Status: 413, OAuth: "invalid_request", Text: "The request body is too large."},
	auth.NotFound:             {Status: 404, OAuth: "invalid_request", Text: "The requested resource was not found."},
	auth.MethodNotAllowed:     {Status: 405, OAuth: "invalid_request", Text: "This address does not support the method; the Allow header lists the supported ones."},

	auth.AppUnknown:             {Status: 401, OAuth: "invalid_client", Text: "No app is registered under this client_id."},
	auth.AppDisabled:            {Status: 401, OAuth: "invalid_client", Text: "This app is disabled."},
	auth.ClientSecretUnexpected: {Status: 401, OAuth: "invalid_client", Text: "Mini-programs are public clients; send only client_id, without a secret."},

	auth.CodeInvalid:           {Status: 400, OAuth: "invalid_grant", Text: "The platform does not accept this code; fetch a new one and try again."},
	auth.CodeUsed:              {Status: 400, OAuth: "invalid_grant", Text: "This code was used before; fetch a new one and try again."},
	auth.UserBlocked:           {Status: 403, OAuth: "access_denied", Text: "The platform has blocked this user."},
	auth.IdentityDisabled:      {Status: 403, OAuth: "access_denied", Text: "This identity is disabled."},
	auth.PersonDisabled:        {Status: 403, OAuth: "access_denied", Text: "The person this identity is bound to is disabled."},
	auth.PhoneCodeInvalid:      {Status: 400, OAuth: "invalid_grant", Text: "The platform does not accept this phone code; ask the user for a new one."},
	auth.PlatformQuota:         {Status: 429, OAuth: "temporarily_unavailable", Text: "The platform's rate limit was reached; try again later with a new code.", RetryAfter: time.Minute},
	auth.PlatformUnavailable:   {Status: 503, OAuth: "temporarily_unavailable", Text: "The platform did not answer; try again with a new code.", RetryAfter: 2 * time.Second},
	auth.PlatformMisconfigured: {Status: 500, OAuth: "server_error", Text: "The platform rejected this app's configuration; the operator must correct it."},

	auth.RefreshInvalid:      {Status: 400, OAuth: "invalid_grant", Text: "This is not a refresh token of this app; log in again."},
	auth.RefreshExpired:      {Status: 400, OAuth: "invalid_grant", Text: "The session has expired; log in again."},
	auth.RefreshReused:       {Status: 400, OAuth: "invalid_grant", Text: "This refresh token was used before, so the session has been ended; log in again."},
	auth.SessionRevoked:      {Status: 400, OAuth: "invalid_grant", Text: "The session has been ended; log in again."},
	auth.TokenClientMismatch: {Status: 400, OAuth: "invalid_grant", Text: "This token was issued to another app."},

	auth.TokenMissing: {Status: 401, OAuth: "invalid_request", Text: "Send the access token as: Authorization: Bearer TOKEN"},
	auth.TokenInvalid: {Status: 401, OAuth: "invalid_token", Text: "This is not an access token of this server."},
	auth.TokenExpired: {Status: 401, OAuth: "invalid_token", Text: "The access token has expired; refresh it."},

	auth.PersonRequired: {Status: 403, OAuth: "insufficient_scope", Text: "The user must be bound to a person; bind first."},

	auth.BindingMethodDisabled: {Status: 403, OAuth: "access_denied", Text: "This app does not allow this binding method."},
	auth.BindingNoMatch:        {Status: 422, OAuth: "access_denied", Text: "The given values do not match a person; check them and try again."},
	auth.BindingDelayed:        {Status: 429, OAuth: "temporarily_unavailable", Text: "Too many attempts failed; wait before the next one.", RetryAfter: 30 * time.Second},
	auth.AlreadyBound:          {Status: 409, OAuth: "access_denied", Text: "This identity is bound to another person; unbind it first."},
	auth.PersonTaken:           {Status: 409, OAuth: "access_denied", Text: "The person has another identity in this app; unbind that identity first."},
	auth.TicketInvalid:         {Status: 422, OAuth: "access_denied", Text: "This ticket does not exist, has expired or was used; ask for a new one."},
	auth.UnbindForbidden:       {Status: 403, OAuth: "access_denied", Text: "This app does not allow users to unbind."},
	auth.WebhookRefused:        {Status: 403, OAuth: "access_denied", Text: "The app's back end refused the binding."},
	auth.WebhookUnavailable:    {Status: 503, OAuth: "temporarily_unavailable", Text: "The app's back end did not answer; try again.", RetryAfter: 5 * time.Second},
	auth.AppExists:             {Status: 409, OAuth: "invalid_request", Text: "An app with this appid is registered already."},
	auth.PersonConflict:        {Status: 409, OAuth: "invalid_request", Text: "Another person has this external_id or phone."},

	auth.ServiceKeyMissing: {Status: 401, OAuth: "invalid_client", Text: "Send a service key as: Authorization: Bearer KEY"},
	auth.ServiceKeyInvalid: {Status: 401, OAuth: "invalid_client", Text: "This is not a service key of this server, or it was revoked."},
	auth.InsufficientScope: {Status: 403, OAuth: "insufficient_scope", Text: "This service key does not permit this request."},

	auth.KeyInUse: {Status: 409, OAuth: "invalid_request", Text: "This key is still in use."},

	auth.RateLimited:        {Status: 429, OAuth: "temporarily_unavailable", Text: "Too many requests; slow down.", RetryAfter: 5 * time.Second},
	auth.StorageUnavailable: {Status: 503, OAuth: "temporarily_unavailable", Text: "The service cannot reach its storage; try again.", RetryAfter: 2 * time.Second},
	auth.Internal:           {Status: 500, OAuth: "server_error", Text: "An internal error occurred; the log has the cause under this request_id."},
}

// asError returns err as an error with a code. A body that is too large gets
// body_too_large, an expired deadline storage_unavailable, and any other error without a
// code "internal".
func asError(err error) *auth.Error {
	var e *auth.Error
	if errors.As(err, &e) {
		if _, known := Responses[e.Code]; known {
			return e
		}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &auth.Error{Code: auth.BodyTooLarge}
	}
	code := auth.CodeOf(err)
	if code == auth.Internal && errors.Is(err, context.DeadlineExceeded) {
		// Platform clients have their own timeouts, so an error of the request's
		// deadline comes from waiting for the database.
		return &auth.Error{Code: auth.StorageUnavailable, Err: err}
	}
	return &auth.Error{Code: code, Err: err}
}

// clientGone is the code in the log of a request whose client hung up and cannot read an
// answer. Proxies use the same status for it.
const (
	clientGone       = auth.Code("client_gone")
	statusClientGone = 499
)

// oauthError is the body of RFC 6749 §5.2 with two members of our own.
type oauthError struct {
	Error       string    `json:"error"`
	Description string    `json:"error_description"`
	Code        auth.Code `json:"error_code"`
	RequestID   string    `json:"request_id"`
}

// problem is the body of RFC 9457 with three members of our own.
type problem struct {
	Type      string    `json:"type"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail,omitempty"`
	Code      auth.Code `json:"code"`
	RequestID string    `json:"request_id"`
	// UserMessage is a text of the business for the user.
	UserMessage string `json:"user_message,omitempty"`
}

// ProblemType is the prefix of every problem's type; the code follows.
const ProblemType = "urn:yufu:problem:"

func writeOAuthError(w http.ResponseWriter, r *http.Request, e *auth.Error, resp Response) {
	if c := challenge(r, e, resp); c != "" {
		w.Header().Set("WWW-Authenticate", c) // the challenge for a service key
	} else if resp.Status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		// RFC 6749 §5.2: answer in the scheme the client used.
		w.Header().Set("WWW-Authenticate", `Basic realm="yufu"`)
	}
	noStore(w)
	writeJSON(w, "application/json", resp.Status, oauthError{
		Error:       resp.OAuth,
		Description: cmp.Or(e.Description, resp.Text),
		Code:        e.Code,
		RequestID:   EventOf(r.Context()).RequestID,
	})
}

func writeProblem(w http.ResponseWriter, r *http.Request, e *auth.Error, resp Response) {
	// At a bearer-protected endpoint a session that has ended means that its
	// token is no longer valid (RFC 6750 §3.1).
	if e.Code == auth.SessionRevoked {
		resp.Status, resp.OAuth = http.StatusUnauthorized, "invalid_token"
	}
	if c := challenge(r, e, resp); c != "" {
		w.Header().Set("WWW-Authenticate", c)
	}
	noStore(w)
	writeJSON(w, "application/problem+json", resp.Status, problem{
		Type:      ProblemType + string(e.Code),
		Title:     resp.Text,
		Status:    resp.Status,
		Detail:    e.Description,
		Code:      e.Code,
		RequestID: EventOf(r.Context()).RequestID,

		UserMessage: e.UserMessage,
	})
}

// challenge returns the WWW-Authenticate header of an error, or "".
func challenge(r *http.Request, e *auth.Error, resp Response) string {
	switch {
	case e.Code == auth.TokenMissing, e.Code == auth.ServiceKeyMissing:
		// RFC 6750 §3.1: no error code when no token was sent.
		return `Bearer realm="yufu"`
	case resp.OAuth == "invalid_token":
		return `Bearer realm="yufu", error="invalid_token", error_description="` + resp.Text + `"`
	case e.Code == auth.PersonRequired:
		return `Bearer realm="yufu", error="insufficient_scope", error_description="` + resp.Text + `"`
	case (e.Code == auth.ServiceKeyInvalid || e.Code == auth.InsufficientScope) && basicWasUsed(r):
		return `Basic realm="yufu"`
	case e.Code == auth.ServiceKeyInvalid:
		return `Bearer realm="yufu", error="invalid_token", error_description="` + resp.Text + `"`
	case e.Code == auth.InsufficientScope:
		c := `Bearer realm="yufu", error="insufficient_scope"`
		if scope := EventOf(r.Context()).scope; scope != "" {
			c += `, scope="` + string(scope) + `"`
		}
		return c
	}
	return ""
}

// form is one of the two forms of error bodies.
type form func(http.ResponseWriter, *http.Request, *auth.Error, Response)

// formOf returns the form of errors that no handler rendered: OAuth's at OAuth
// endpoints, problem details elsewhere.
func formOf(r *http.Request) form {
	if strings.HasPrefix(r.URL.Path, "/oauth2/") {
		return writeOAuthError
	}
	return writeProblem
}

// render records the error in the request's event and writes it.
func render(w http.ResponseWriter, r *http.Request, err error, write form) {
	event := EventOf(r.Context())
	event.Err = err
	event.AddSubject(auth.SubjectOf(err))
	if errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled) {
		event.Code = clientGone
		w.WriteHeader(statusClientGone)
		return
	}
	e := asError(err)
	resp, ok := Responses[e.Code]
	if !ok {
		e = &auth.Error{Code: auth.Internal, Err: err}
		resp = Responses[auth.Internal]
	}
	event.Code = e.Code
	if after := cmp.Or(e.RetryAfter, resp.RetryAfter); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	write(w, r, e, resp)
}
