package oauth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// ExchangeLimits bound how many exchanges of one app the platform is asked for
// by one client network: failures tightly, because a client that tries codes
// burns the platform's quota, and successes widely, because a carrier puts
// thousands of honest phones behind one address. Only what the platform was
// asked counts, and a limit that is reached lets one exchange a second through:
// no cheap request shuts out the others behind an address. A failure of the
// platform or the database does not count. Refreshes are limited by session
// ([session.Service.Refresh]).
type ExchangeLimits struct {
	failures, successes *web.Limiter[clientOfApp]
	clock               func() time.Time
}

// clientOfApp is what an exchange is counted by. The network is one that
// [web.Network] returns.
type clientOfApp struct {
	network netip.Prefix
	app     string
}

// NewExchangeLimits returns limits per minute; 0 is no limit.
func NewExchangeLimits(failures, successes int, clock func() time.Time) *ExchangeLimits {
	return &ExchangeLimits{
		failures: web.NewLimiter[clientOfApp](failures), successes: web.NewLimiter[clientOfApp](successes), clock: clock,
	}
}

// Close ends what the limits have running.
func (l *ExchangeLimits) Close() {
	l.failures.Close()
	l.successes.Close()
}

// limitedExchange is one exchange as the limits see it.
type limitedExchange struct {
	limits *ExchangeLimits
	client clientOfApp
	// asked is whether the platform was about to be asked.
	asked bool
}

// begin returns the exchange of a client.
func (l *ExchangeLimits) begin(client netip.Addr, app string) *limitedExchange {
	return &limitedExchange{limits: l, client: clientOfApp{web.Network(client), app}}
}

// check returns [auth.RateLimited] when the client has used up either allowance.
// It is asked when a request comes, so that it costs us nothing.
func (e *limitedExchange) check() error {
	now := e.limits.clock()
	if wait := e.limits.failures.Wait(e.client, now); wait > 0 {
		return tooMany(wait, "failed exchanges")
	}
	if wait := e.limits.successes.Wait(e.client, now); wait > 0 {
		return tooMany(wait, "exchanges")
	}
	return nil
}

// take is [limitedExchange.check] right before the platform is asked. Over a
// limit it takes the one exchange of this second.
func (e *limitedExchange) take() error {
	if err := e.check(); err != nil {
		return err
	}
	now := e.limits.clock()
	if wait := e.limits.failures.Take(e.client, now); wait > 0 {
		return tooMany(wait, "failed exchanges")
	}
	if wait := e.limits.successes.Take(e.client, now); wait > 0 {
		e.limits.failures.Return(e.client)
		return tooMany(wait, "exchanges")
	}
	e.asked = true
	return nil
}

func tooMany(wait time.Duration, what string) error {
	return &auth.Error{Code: auth.RateLimited, RetryAfter: wait, Err: errors.New("oauth: too many " + what + " of this app from this network")}
}

// settle charges the exchange for what it came to. Nothing is held meanwhile,
// or a slow platform would make a crowd of honest phones look like failures;
// what was under way together may overdraw, by about as much as the calls to
// the platform that may be under way at once, and is waited for afterwards.
func (e *limitedExchange) settle(err error) {
	switch {
	case !e.asked:
	case errors.Is(err, platform.ErrNotSent):
		e.limits.failures.Return(e.client)
		e.limits.successes.Return(e.client)
	case err == nil:
		e.limits.successes.Charge(e.storedKey(), e.limits.clock())
	case clientsFault(err):
		e.limits.failures.Charge(e.storedKey(), e.limits.clock())
	}
}

// storedKey is the key that a limiter keeps: the app's name is part of the request's
// body, which must not stay in memory with it.
func (e *limitedExchange) storedKey() clientOfApp {
	return clientOfApp{e.client.network, strings.Clone(e.client.app)}
}

// clientsFault reports whether a failed exchange says something about the
// client, rather than about the platform, the database, us, or a lost
// connection. A refusal by a limit costs nothing.
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
