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

// ExchangeLimits bounds the exchanges of one app that one client network may send to
// the platform. The limit of failures is low, because a client that tries codes uses up
// the platform's quota. The limit of successes is high, because a carrier puts
// thousands of honest phones behind one address. Only exchanges that reached the
// platform count, and a reached limit still lets one exchange a second through: no
// cheap request shuts out the others behind an address. Failures of the platform or the
// database do not count. Refreshes are limited by session ([session.Service.Refresh]).
type ExchangeLimits struct {
	failures, successes *web.Limiter[clientOfApp]
	clock               func() time.Time
}

// clientOfApp is the key by which exchanges are counted. The network comes from
// [web.Network].
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

// Close stops the goroutines of the limits.
func (l *ExchangeLimits) Close() {
	l.failures.Close()
	l.successes.Close()
}

// limitedExchange tracks one exchange for the limits.
type limitedExchange struct {
	limits *ExchangeLimits
	client clientOfApp
	// asked is true once the exchange may call the platform.
	asked bool
}

// begin starts the tracking of a client's exchange.
func (l *ExchangeLimits) begin(client netip.Addr, app string) *limitedExchange {
	return &limitedExchange{limits: l, client: clientOfApp{web.Network(client), app}}
}

// check returns [auth.RateLimited] when the client has used up either allowance. It is
// called before any work, so that a refused request is cheap.
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

// take repeats [limitedExchange.check] right before the call to the platform. Over a
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

// settle charges the exchange for its result. It does not reserve in advance, because
// with a slow platform many honest phones would then count as failures. So concurrent
// exchanges may exceed an allowance, by about the number of concurrent calls to the
// platform. The excess counts against later exchanges.
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

// storedKey returns the key that a limiter keeps, with a copy of the app's id: the
// original is part of the request's body and would keep it in memory.
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
