// Package platform is the seam between Yufu and the companies whose apps host
// mini-programs.
//
// It owns the [Provider] interface, and on whose behalf it is called
// ([WithCaller]). The WeChat client is in platform/wechat, a simulator of WeChat
// in platform/wechatsim. Providers keep no state about users and never see our
// database.
package platform

import (
	"context"
	"errors"

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
	// ErrUnknownAnswer: the platform answered in its own form, with an error
	// that the provider does not know. It may be anybody's fault.
	ErrUnknownAnswer = errors.New("an answer that is not known")
)

// Provider is a client of one platform.
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
}
