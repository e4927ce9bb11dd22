// Package platform is the seam between Yufu and the companies whose apps host
// mini-programs.
//
// It owns the [Provider] interface, on whose behalf it is called ([WithCaller],
// [WithCheck]), and what it tells of a code that comes again ([CodeReuse]). Every
// provider has every method; what its platform cannot do is [Unsupported]. The WeChat
// client is in platform/wechat, a simulator of WeChat in platform/wechatsim. Providers
// keep no state about users. All they keep in our database is their own access tokens
// (platform/accesstoken).
package platform

import (
	"context"
	"errors"
	"fmt"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Credentials are what a platform knows an app by.
type Credentials struct {
	AppID  string
	Secret auth.Secret
}

// Account is a platform's answer about a user.
type Account struct {
	// OpenID is the user in this app; it is never empty.
	OpenID string
	// UnionID is the user across the apps of one owner; often empty.
	UnionID string
	// SessionKey is the platform's key for this user and app. It never leaves
	// the service.
	SessionKey auth.Secret
}

// What the cause of a provider's error may be, for those who judge over many
// calls.
var (
	// ErrNotSent: the request could not be right, and nothing was sent. It says
	// nothing about the platform.
	ErrNotSent = errors.New("nothing was sent")
	// ErrCodeUnspent: the call failed before the platform looked at the code, so
	// the code is as good as before. Unlike with [ErrNotSent], the platform may
	// well be the one that failed.
	ErrCodeUnspent = errors.New("the code was not used")
	// ErrUnknownAnswer: the platform answered in its own form, with an error
	// that the provider does not know. It may be anybody's fault.
	ErrUnknownAnswer = errors.New("unknown answer")
)

// CodeReuse is a cause of [auth.CodeUsed], at most once for each code: the code
// may have been another log-in's, and the code or a copy of it came again.
type CodeReuse struct {
	// First is the caller that this process sent the code for, as [WithCaller]
	// names it. It is empty when the code was used elsewhere.
	First string
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *CodeReuse) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *CodeReuse) Unwrap() error { return e.Err }

// Unsupported returns the error of a [Provider] whose platform does not have such a
// call: [auth.PlatformMisconfigured], with [errors.ErrUnsupported] and [ErrNotSent]
// among the causes.
func Unsupported(call string) error {
	return &auth.Error{Code: auth.PlatformMisconfigured, Err: fmt.Errorf("the platform does not provide %s: %w, %w", call, errors.ErrUnsupported, ErrNotSent)}
}

// Provider is a client of one platform. A method that the platform has no call for
// returns [Unsupported].
type Provider interface {
	// ExchangeCode redeems a log-in code. A code is sent at most once, so the
	// caller never retries: after any error the mini-program fetches a new
	// code.
	//
	// Errors: [auth.CodeInvalid], [auth.CodeUsed], [auth.UserBlocked],
	// [auth.PlatformQuota], [auth.PlatformUnavailable] (also for time-outs and
	// answers that cannot be read), [auth.PlatformMisconfigured], or the
	// context's error when the caller gave up. [ErrNotSent] and
	// [ErrUnknownAnswer] are among the causes. No error text holds the secret,
	// the code or a session key.
	ExchangeCode(ctx context.Context, app Credentials, code string) (Account, error)

	// ExchangePhoneCode redeems a phone code, which is not a log-in code, and
	// returns the number of a user who agreed to it, in the form of E.164, as
	// [auth.ValidPhone] demands. The user is named by the openid of the identity that presents the
	// code: another user's code is refused. A code that the platform may have
	// looked at is not sent again.
	//
	// Errors: [auth.PhoneCodeInvalid] (wrong, expired, used, or another user's),
	// [auth.UserBlocked], [auth.PlatformQuota], [auth.PlatformUnavailable],
	// [auth.PlatformMisconfigured], [auth.StorageUnavailable], or the context's
	// error when the caller gave up. [ErrNotSent], [ErrCodeUnspent] and
	// [ErrUnknownAnswer] are among the causes. No error text holds the secret, the
	// code, the number, the openid or an access token.
	ExchangePhoneCode(ctx context.Context, app Credentials, openID, code string) (string, error)
}
