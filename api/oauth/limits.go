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

// check returns [auth.RateLimited] when the client has used up either allowance.
// It is asked when a request comes, and again right before the platform is.
func (l *ExchangeLimits) check(client netip.Addr) error {
	if l == nil {
		return nil
	}
	now := l.clock()
	if wait := l.failures.Wait(client, now); wait > 0 {
		return &auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errors.New("oauth: too many failed exchanges from this network")}
	}
	if wait := l.successes.Wait(client, now); wait > 0 {
		return &auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errors.New("oauth: too many exchanges from this network")}
	}
	return nil
}

// settle charges for what an exchange came to. Nothing is held meanwhile, or a
// slow platform would make a crowd of honest phones look like failures; what was
// under way together may overdraw, by about as much as the calls to the platform
// that may be under way at once, and is waited for afterwards.
func (l *ExchangeLimits) settle(client netip.Addr, err error) {
	switch {
	case l == nil:
	case err == nil:
		l.successes.Charge(client, l.clock())
	case clientsFault(err):
		l.failures.Charge(client, l.clock())
	}
}

// clientsFault reports whether a failed exchange says something about who made
// it, rather than about the platform, the database, us, or a lost connection. A
// refusal for the limits' sake costs nothing.
func clientsFault(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch auth.CodeOf(err) {
	case auth.PlatformQuota, auth.PlatformUnavailable, auth.PlatformMisconfigured, auth.StorageUnavailable, auth.Internal,
		auth.RateLimited:
		return false
	}
	return true
}
