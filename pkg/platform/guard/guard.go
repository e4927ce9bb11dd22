package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// Config sets the bounds of a guard. Zero values mean the defaults.
type Config struct {
	// Concurrency is how many calls may be under way at once, for all apps
	// together. Default 128.
	Concurrency int
	// Clock returns the current time. Default time.Now.
	Clock func() time.Time
}

// Bounds that nobody needs to set.
const (
	defaultConcurrency = 128
	// queueTimeout is how long a call waits for its turn.
	queueTimeout = time.Second
	// maxCallers bounds the memory of an app's callers that are held back.
	maxCallers = 1 << 12
	// quotaPause is how long a caller, or the app, is held back.
	quotaPause = time.Minute
	// quotaCallers is how many callers must have been told of the quota within
	// a pause, with nobody let in meanwhile, before the whole app is held back.
	quotaCallers = 3
	// quotaProbe is how often, while the app is held back, one caller who is not
	// held back himself is let through, to find out whether it is over.
	quotaProbe = 3 * time.Second
)

// Guard wraps a provider. It is a [platform.Provider] itself, and safe for
// concurrent use.
type Guard struct {
	next  platform.Provider
	clock func() time.Time
	slots chan struct{}
	codes *codeSet

	mu   sync.Mutex
	apps map[string]*app // only registered apps get here
}

var _ platform.Provider = (*Guard)(nil)

// New returns a guard of the provider.
func New(next platform.Provider, c Config) *Guard {
	if c.Concurrency <= 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &Guard{
		next:  next,
		clock: c.Clock,
		slots: make(chan struct{}, c.Concurrency),
		codes: newCodeSet(maxCodes),
		apps:  make(map[string]*app),
	}
}

// ExchangeCode implements [platform.Provider].
func (g *Guard) ExchangeCode(ctx context.Context, creds platform.Credentials, code string) (platform.Account, error) {
	a := g.app(creds.AppID)
	caller := platform.CallerOf(ctx)
	hash := hashCode(creds.AppID, code)
	if g.codes.seen(hash) {
		return platform.Account{}, errSeen
	}
	if wait := a.paused(caller, g.clock()); wait > 0 {
		return platform.Account{}, &auth.Error{Code: auth.PlatformQuota, RetryAfter: wait, Err: errHeldBack}
	}
	done, err := a.allow(g.clock())
	if err != nil {
		return platform.Account{}, err
	}
	// Whatever happens in there, a panic too, the breaker hears of it.
	err = errPanicked
	defer func() { done(err) }()
	var account platform.Account
	account, err = g.call(ctx, hash, creds, code)
	switch {
	case err == nil:
		a.letIn()
	case errors.Is(err, platform.ErrNotSent):
		g.codes.release(hash)
	case errors.Is(err, auth.PlatformQuota) && a.pause(caller, g.clock()):
		err = fmt.Errorf("%w: several callers were told so; the app is held back for %s", err, quotaPause)
	}
	return account, err
}

// Errors for the log.
var (
	errSeen     = &auth.Error{Code: auth.CodeUsed, Err: errors.New("guard: this code was sent to the platform before; it was not sent again")}
	errHeldBack = errors.New("guard: the platform asked for a pause")
	errPanicked = errors.New("guard: the provider panicked")
	errBusy     = &auth.Error{Code: auth.PlatformUnavailable, RetryAfter: time.Second, Err: errors.New("guard: too many calls to the platform are under way")}
)

// call takes a slot and makes the call, unless the code went out meanwhile.
func (g *Guard) call(ctx context.Context, hash codeHash, creds platform.Credentials, code string) (platform.Account, error) {
	select {
	case g.slots <- struct{}{}:
	default:
		turn := time.NewTimer(queueTimeout)
		defer turn.Stop()
		select {
		case g.slots <- struct{}{}:
		case <-turn.C:
			return platform.Account{}, errBusy
		case <-ctx.Done():
			return platform.Account{}, ctx.Err()
		}
	}
	defer func() { <-g.slots }()
	if err := ctx.Err(); err != nil {
		return platform.Account{}, err // before the code is spent
	}
	if err := platform.Check(ctx); err != nil {
		return platform.Account{}, err
	}
	if !g.codes.claim(hash, g.clock()) {
		return platform.Account{}, errSeen
	}
	// From here on the code is spent, and the answer is heard even when the
	// caller hangs up: a wrong code, or a quota that is used up, counts against
	// whoever sent it. Else hanging up at once would be a way around the limits.
	spent := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		spent, cancel = context.WithDeadline(spent, deadline)
		defer cancel()
	}
	return g.next.ExchangeCode(spent, creds, code)
}

// app returns the state of an app.
func (g *Guard) app(id string) *app {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := g.apps[id]
	if !ok {
		a = newApp(id, g.clock)
		g.apps[id] = a
	}
	return a
}

// app is what the guard knows of one app.
type app struct {
	breaker *breaker

	mu      sync.Mutex
	callers map[string]time.Time // until when each is held back
	told    map[string]struct{}  // their owners, if told since anybody was let in
	until   time.Time            // until when the whole app is held back
	probeAt time.Time            // when one caller may find out whether it still must be
}

func newApp(id string, clock func() time.Time) *app {
	return &app{
		breaker: newBreaker(id, clock),
		callers: make(map[string]time.Time),
		told:    make(map[string]struct{}),
	}
}

// paused returns how long the caller must still wait.
func (a *app) paused(caller string, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if wait := a.callers[caller].Sub(now); wait > 0 {
		return max(wait, a.until.Sub(now))
	}
	wait := a.until.Sub(now)
	if wait > 0 && !now.Before(a.probeAt) {
		a.probeAt = now.Add(quotaProbe)
		return 0
	}
	return max(wait, 0)
}

// owner returns what a caller is counted by when several are: an IPv4 address,
// or the /48 of an IPv6 network, since that is what one customer is given.
func owner(caller string) string {
	p, err := netip.ParsePrefix(caller)
	if err != nil || !p.Addr().Is6() || p.Bits() < 48 {
		return caller
	}
	return netip.PrefixFrom(p.Addr(), 48).Masked().String()
}

// pause holds a caller back, and the whole app if enough of them are. It
// reports whether the app now is.
func (a *app) pause(caller string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c, until := range a.callers {
		if !until.After(now) {
			delete(a.callers, c)
			delete(a.told, owner(c))
		}
	}
	if len(a.callers) < maxCallers {
		a.callers[caller] = now.Add(quotaPause)
		a.told[owner(caller)] = struct{}{}
	}
	if len(a.told) < quotaCallers {
		return false
	}
	a.until, a.probeAt = now.Add(quotaPause), now.Add(quotaProbe)
	return true
}

// letIn notes that the platform let somebody in: its quota is not one of the
// whole app, or not any more.
func (a *app) letIn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.told)
	a.until = time.Time{}
}
