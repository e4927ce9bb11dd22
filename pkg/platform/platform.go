// Package platform is the interface between Yufu and the companies whose apps host
// mini-programs.
//
// It owns the [Provider] interface, the context of a call ([WithCaller], [WithCheck]),
// and the report of a repeated code ([CodeReuse]). Every provider has every method; if
// the platform has no such call, the method returns [Unsupported]. The WeChat client is
// in platform/wechat, a simulator of WeChat in platform/wechatsim. Providers keep no
// state about users. In our database they keep only their own access tokens
// (platform/accesstoken).
//
// # Failure
//
// Every error of a provider has a code of package auth, or is the context's or that of
// [WithCheck]. The caller never retries a log-in: the client fetches a new code.
// platform/guard stops the calls to a platform that fails.
package platform

import (
	"context"
	"errors"
	"fmt"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Credentials identify an app to a platform.
type Credentials struct {
	AppID string
	// Secrets has the app's secrets by name, for example [auth.CredentialAppSecret].
	Secrets map[string]auth.Secret
}

// Account is a platform's answer about a user.
type Account struct {
	auth.PlatformAccount
	// SessionKey is the platform's key for this user and app. It must not leave the
	// service.
	SessionKey auth.Secret
}

// Possible causes of a provider's error, for callers that count outcomes.
var (
	// ErrNotSent: the request was invalid, and nothing was sent. It says nothing about
	// the platform.
	ErrNotSent = errors.New("nothing was sent")
	// ErrCodeUnspent: the call failed before the platform looked at the code, so the code
	// can still be used. Unlike with [ErrNotSent], the platform may be at fault.
	ErrCodeUnspent = errors.New("the code was not used")
	// ErrUnknownAnswer: the platform answered in its own form, with an error that the
	// provider does not know. Any party may be at fault.
	ErrUnknownAnswer = errors.New("unknown answer")
)

// CodeReuse is a cause of [auth.CodeUsed], at most once for each code: the code may
// belong to another log-in, and it or a copy of it was presented again.
type CodeReuse struct {
	// First is the caller for whom this process sent the code, as [WithCaller] names it.
	// It is empty if the code was used elsewhere.
	First string
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *CodeReuse) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *CodeReuse) Unwrap() error { return e.Err }

// Unsupported returns the error of a [Provider] whose platform has no such call, or not
// for this user: [auth.PlatformMisconfigured], with [errors.ErrUnsupported] and
// [ErrNotSent] among the causes.
func Unsupported(call string) error {
	return &auth.Error{Code: auth.PlatformMisconfigured, Err: fmt.Errorf("the platform does not provide %s: %w, %w", call, errors.ErrUnsupported, ErrNotSent)}
}

// Provider is a client of one platform. If the platform has no such call, or not for this
// user, the method returns [Unsupported].
type Provider interface {
	// ExchangeCode redeems a log-in code. A code is sent at most once with the
	// same secrets, so the caller never retries with them: after any error the
	// mini-program fetches a new code.
	//
	// Errors: [auth.CodeInvalid], [auth.CodeUsed], [auth.UserBlocked],
	// [auth.PlatformQuota], [auth.PlatformUnavailable] (also for timeouts and
	// answers that cannot be read), [auth.PlatformMisconfigured], or the
	// context's error when the caller gave up. The causes may include
	// [ErrNotSent] or [ErrUnknownAnswer]. No error text holds the secret, the
	// code or a session key.
	ExchangeCode(ctx context.Context, app Credentials, code string) (Account, error)

	// ExchangePhoneCode redeems a phone code, which is not a log-in code. It returns, in
	// E.164 form as [auth.ValidPhone] requires, the number of a user who agreed to share
	// it. user is the account of the identity that presents the code: another user's
	// code is refused. A code that the platform may have looked at is not sent again.
	//
	// Errors: [auth.PhoneCodeInvalid] (wrong, expired, used, or another user's),
	// [auth.UserBlocked], [auth.PlatformQuota], [auth.PlatformUnavailable],
	// [auth.PlatformMisconfigured], [auth.StorageUnavailable], or the context's
	// error when the caller gave up. The causes may include [ErrNotSent],
	// [ErrCodeUnspent] or [ErrUnknownAnswer]. No error text holds the secret, the
	// code, the number, the openid or an access token.
	ExchangePhoneCode(ctx context.Context, app Credentials, user auth.PlatformAccount, code string) (string, error)
}
