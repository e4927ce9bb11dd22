package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// How long a mini-program should wait.
const (
	// retryQuota: WeChat counts its quota per minute.
	retryQuota = time.Minute
	// retryDay: a day's quota is reset at midnight in Beijing, which may be far off, but
	// an operator may also have it raised.
	retryDay = time.Hour
	// retryUnavailable: trouble at WeChat usually ends within seconds.
	retryUnavailable = 5 * time.Second
)

// APIError is a refusal by WeChat.
type APIError struct {
	// Errcode is WeChat's number; never 0.
	Errcode int
	// Errmsg is WeChat's text on one line, at most 256 bytes, without any secret that was
	// sent. It is only for the log.
	Errmsg string
	// RID is the request's id at WeChat, if Errmsg has one. WeChat's support asks for it.
	RID string
}

// Error implements error.
func (e *APIError) Error() string {
	return fmt.Sprintf("wechat: errcode %d: %s", e.Errcode, e.Errmsg)
}

// Is makes an errcode outside the table a [platform.ErrUnknownAnswer].
func (e *APIError) Is(target error) bool {
	return target == platform.ErrUnknownAnswer && verdictOf(e.Errcode).class == ClassUnknown
}

// AnswerError is an answer that WeChat's API does not give: a status other than 200, or a
// body that cannot be parsed. The body is never quoted.
type AnswerError struct {
	// Status is the HTTP status.
	Status int
	// Reason is what is wrong with the answer.
	Reason string
}

// Error implements error.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("wechat: unusable answer with status %d: %s", e.Status, e.Reason)
}

// All values of [Class]: few enough for a metric's label.
const (
	ClassOK            = "ok"             // a log-in or a phone number
	ClassBusy          = "busy"           // errcode -1
	ClassCodeInvalid   = "code_invalid"   // wrong or expired code, or another user's
	ClassCodeMalformed = "code_malformed" // not a code; nothing was sent
	ClassCodeUsed      = "code_used"      // the code was redeemed before
	ClassUserBlocked   = "user_blocked"   // WeChat considers the user a risk
	ClassQuota         = "quota"          // too many calls
	ClassMisconfigured = "misconfigured"  // our appid, secret or address
	ClassUnsupported   = "unsupported"    // not a user with an openid; nothing was sent
	ClassToken         = "token"          // no access token that WeChat accepts
	ClassUnknown       = "unknown"        // an errcode that is not in the table
	ClassHTTPStatus    = "http_status"    // not a 200
	ClassMalformed     = "malformed"      // a 200 that cannot be parsed
	ClassTimeout       = "timeout"        // no answer in time
	ClassTransport     = "transport"      // no answer at all
	ClassCanceled      = "canceled"       // the caller gave up
	ClassInternal      = "internal"       // not an error of this package
)

// verdict is the meaning of an errcode.
type verdict struct {
	code       auth.Code
	class      string
	retryAfter time.Duration
}

// verdicts is the table of errcodes. "code" in it means a log-in code; for a phone code,
// see phoneFailure. An errcode outside the table is unknown to us or a new error at
// WeChat, and not the user's fault: it becomes platform_unavailable, and the log has the
// number.
var verdicts = map[int]verdict{
	-1:    {auth.PlatformUnavailable, ClassBusy, retryUnavailable}, // system busy
	40029: {auth.CodeInvalid, ClassCodeInvalid, 0},                 // invalid or expired code
	40163: {auth.CodeUsed, ClassCodeUsed, 0},                       // code been used
	40226: {auth.UserBlocked, ClassUserBlocked, 0},                 // high-risk user
	45011: {auth.PlatformQuota, ClassQuota, retryQuota},            // calls per minute
	40013: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // invalid appid
	40125: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // invalid secret
	40164: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // our IP address is not on the app's list
	40243: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // secret frozen
	41002: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // appid missing
	41004: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // secret missing
	41008: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // code missing
	48001: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // the account may not use this interface
	50004: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // interface forbidden to the account
	50007: {auth.PlatformMisconfigured, ClassMisconfigured, 0},     // account frozen

	// Interfaces that take an access token.
	40001: {auth.PlatformUnavailable, ClassToken, retryUnavailable}, // token revoked, see tokenDied
	40003: {auth.CodeInvalid, ClassCodeInvalid, 0},                  // the openid does not belong to the code
	40014: {auth.PlatformUnavailable, ClassToken, retryUnavailable}, // token malformed
	42001: {auth.PlatformUnavailable, ClassToken, retryUnavailable}, // token expired
	45009: {auth.PlatformQuota, ClassQuota, retryDay},               // calls per day
}

// tokenDied reports whether WeChat refused the access token of a call, and so did not
// look at the rest of it.
func tokenDied(err error) bool {
	var api *APIError
	return errors.As(err, &api) && (api.Errcode == 40001 || api.Errcode == 40014 || api.Errcode == 42001)
}

func verdictOf(errcode int) verdict {
	if v, ok := verdicts[errcode]; ok {
		return v
	}
	return verdict{auth.PlatformUnavailable, ClassUnknown, retryUnavailable}
}

// failure returns the error of this package with the code for the client.
func failure(err error) error {
	var api *APIError
	if errors.As(err, &api) {
		v := verdictOf(api.Errcode)
		return &auth.Error{Code: v.code, RetryAfter: v.retryAfter, Err: api}
	}
	return &auth.Error{Code: auth.PlatformUnavailable, RetryAfter: retryUnavailable, Err: err}
}

// phoneFailure is failure for a call with a phone code.
func phoneFailure(err error) error {
	switch code := auth.CodeOf(failure(err)); {
	case code == auth.CodeInvalid, code == auth.CodeUsed:
		return &auth.Error{Code: auth.PhoneCodeInvalid, Err: err}
	case tokenDied(err):
		// This is the second time, with a token that was just issued.
		return &auth.Error{Code: code, RetryAfter: retryUnavailable, Err: fmt.Errorf("%w, %w", err, platform.ErrCodeUnspent)}
	}
	return failure(err)
}

// Class returns the class of the outcome of [Client.ExchangeCode] or
// [Client.ExchangePhoneCode], one of the Class constants, for metrics. A nil error is
// [ClassOK].
func Class(err error) string {
	var (
		api       *APIError
		answer    *AnswerError
		transport *TransportError
	)
	switch {
	case err == nil:
		return ClassOK
	case errors.As(err, &api):
		return verdictOf(api.Errcode).class
	case errors.As(err, &answer):
		if answer.Status != http.StatusOK {
			return ClassHTTPStatus
		}
		return ClassMalformed
	case errors.As(err, &transport):
		if transport.Timeout() {
			return ClassTimeout
		}
		return ClassTransport
	case errors.Is(err, ErrCodeMalformed):
		return ClassCodeMalformed
	case errors.Is(err, ErrCredentials), errors.Is(err, ErrNoTokenStore):
		return ClassMisconfigured
	case errors.Is(err, errors.ErrUnsupported):
		return ClassUnsupported
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ClassCanceled
	case errors.Is(err, errNoToken):
		return ClassToken
	}
	return ClassInternal
}
