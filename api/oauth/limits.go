package oauth

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// ExchangeLimits bound how many exchanges a client network may make: failures
// tightly, because they are somebody trying codes or burning the platform's
// quota, and successes widely, because a carrier puts thousands of honest
// phones behind one address. Refreshes are not limited, nor does it count when
// the platform or the database fails.
type ExchangeLimits struct {
	failures, successes *web.Limiter
	clock               func() time.Time
}

// NewExchangeLimits returns limits per minute; 0 is no limit.
func NewExchangeLimits(failures, successes int, clock func() time.Time) *ExchangeLimits {
	return &ExchangeLimits{failures: web.NewLimiter(failures), successes: web.NewLimiter(successes), clock: clock}
}

// Close ends what the limits have running.
func (l *ExchangeLimits) Close() {
	l.failures.Close()
	l.successes.Close()
}

// admit takes one of each allowance beforehand, so that requests made at once
// do not slip through together; settle gives back what the outcome did not
// cost. It returns [auth.RateLimited] when either is used up.
func (l *ExchangeLimits) admit(client netip.Addr) (settle func(error), err error) {
	if l == nil {
		return func(error) {}, nil
	}
	now := l.clock()
	if wait := l.failures.Take(client, now); wait > 0 {
		return nil, &auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errors.New("oauth: too many failed exchanges from this network")}
	}
	if wait := l.successes.Take(client, now); wait > 0 {
		l.failures.Refund(client)
		return nil, &auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errors.New("oauth: too many exchanges from this network")}
	}
	return func(err error) {
		if err != nil {
			l.successes.Refund(client)
		}
		if err == nil || !clientsFault(err) {
			l.failures.Refund(client)
		}
	}, nil
}

// clientsFault reports whether a failed exchange says something about who made
// it, rather than about the platform, the database, us, or a lost connection.
func clientsFault(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch auth.CodeOf(err) {
	case auth.PlatformQuota, auth.PlatformUnavailable, auth.PlatformMisconfigured, auth.StorageUnavailable, auth.Internal:
		return false
	}
	return true
}
