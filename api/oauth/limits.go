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

// admit returns [auth.RateLimited] when the client has used up either allowance;
// settle charges for what the exchange came to. Nothing is held meanwhile, or a
// slow platform would make a crowd of honest phones look like failures; what was
// admitted together may overdraw, by no more than the calls to the platform that
// may be under way at once, and is waited for afterwards.
func (l *ExchangeLimits) admit(client netip.Addr) (settle func(error), err error) {
	if l == nil {
		return func(error) {}, nil
	}
	now := l.clock()
	if wait := l.failures.Wait(client, now); wait > 0 {
		return nil, &auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errors.New("oauth: too many failed exchanges from this network")}
	}
	if wait := l.successes.Wait(client, now); wait > 0 {
		return nil, &auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errors.New("oauth: too many exchanges from this network")}
	}
	return func(err error) {
		switch {
		case err == nil:
			l.successes.Charge(client, l.clock())
		case clientsFault(err):
			l.failures.Charge(client, l.clock())
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
