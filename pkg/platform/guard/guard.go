package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// Config sets the limits of a guard. Zero values mean the defaults.
type Config struct {
	// Concurrency is the maximum number of concurrent calls for all apps together.
	// Default 128.
	Concurrency int
	// Clock returns the current time. Default time.Now.
	Clock func() time.Time
}

// Fixed limits.
const (
	defaultConcurrency = 128
	// queueTimeout is how long a call waits for its turn.
	queueTimeout = time.Second
)

// Guard wraps a provider. It implements [platform.Provider] and is safe for concurrent
// use.
type Guard struct {
	provider platform.Provider
	clock    func() time.Time
	slots    chan struct{}
	codes    *codeSet

	mu   sync.Mutex
	apps map[lane]*app // only registered apps are added
}

// lane is one kind of call for one app. Each lane has its own breaker and quota, so a
// failing phone-number API does not block log-ins.
type lane struct {
	kind  kind
	appID string
}

// kind is the kind of a code.
type kind byte

const (
	kindLogIn kind = iota
	kindPhone
)

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
		provider: next,
		clock:    c.Clock,
		slots:    make(chan struct{}, c.Concurrency),
		codes:    newCodeSet(maxCodes),
		apps:     make(map[lane]*app),
	}
}

// ExchangeCode implements [platform.Provider].
func (g *Guard) ExchangeCode(ctx context.Context, creds platform.Credentials, code string) (account platform.Account, err error) {
	err = g.guard(ctx, kindLogIn, creds, code, func(ctx context.Context) (err error) {
		account, err = g.provider.ExchangeCode(ctx, creds, code)
		return err
	})
	return account, err
}

// ExchangePhoneCode implements [platform.Provider].
func (g *Guard) ExchangePhoneCode(ctx context.Context, creds platform.Credentials, user auth.PlatformAccount, code string) (number string, err error) {
	err = g.guard(ctx, kindPhone, creds, code, func(ctx context.Context) (err error) {
		number, err = g.provider.ExchangePhoneCode(ctx, creds, user, code)
		return err
	})
	return number, err
}

// guard makes a call that uses up a code, or refuses it.
func (g *Guard) guard(ctx context.Context, kind kind, creds platform.Credentials, code string, call func(context.Context) error) (err error) {
	l := lane{kind, creds.AppID}
	a := g.app(l)
	caller := platform.CallerOf(ctx)
	hash := hashCode(l, creds.Secrets, code)
	if g.codes.seen(hash) {
		return g.repeatError(l, hash)
	}
	if err := a.check(caller, g.clock()); err != nil {
		return err
	}
	done, err := a.allow(g.clock())
	if err != nil {
		return err
	}
	// The breaker gets every outcome, even a panic.
	err = errPanicked
	defer func() { done(err) }()
	err = g.call(ctx, a, l, hash, call)
	switch {
	case err == nil:
		a.recordSuccess(caller)
	case errors.Is(err, errHeldBack):
	case errors.Is(err, auth.PlatformQuota) && a.holdBack(caller, g.clock()):
		err = fmt.Errorf("%w: several callers were refused, suspending all calls of the app for %s", err, quotaPause)
	}
	if errors.Is(err, platform.ErrNotSent) || errors.Is(err, platform.ErrCodeUnspent) {
		g.codes.release(hash)
	}
	switch {
	case errors.Is(err, errSent):
	case errors.Is(err, auth.CodeUsed):
		// The first use was elsewhere: on another replica, or in the business's own code.
		if _, fresh := g.codes.markReported(hash); fresh {
			err = &auth.Error{Code: auth.CodeUsed, Err: &platform.CodeReuse{Err: err}}
		}
	case errors.Is(err, auth.CodeInvalid):
		g.codes.markReported(hash)
	}
	return err
}

// repeatError returns the error for a code that was sent before.
func (g *Guard) repeatError(l lane, hash codeHash) error {
	if l.kind == kindPhone {
		return errPhoneSeen
	}
	if first, fresh := g.codes.markReported(hash); fresh {
		return &auth.Error{Code: auth.CodeUsed, Err: &platform.CodeReuse{First: first, Err: errSent}}
	}
	return errSeen
}

// Errors for the log.
var (
	errSent      = errors.New("guard: the code was already sent to the platform; it is not sent again")
	errSeen      = &auth.Error{Code: auth.CodeUsed, Err: errSent}
	errPhoneSeen = &auth.Error{Code: auth.PhoneCodeInvalid, Err: errSent}

	errPanicked = errors.New("guard: the provider panicked")
	errBusy     = &auth.Error{Code: auth.PlatformUnavailable, RetryAfter: time.Second, Err: errors.New("guard: too many concurrent calls to the platform")}
)

// call takes a slot and makes the call, unless another call sent the code meanwhile.
func (g *Guard) call(ctx context.Context, a *app, l lane, hash codeHash, call func(context.Context) error) error {
	select {
	case g.slots <- struct{}{}:
	default:
		timer := time.NewTimer(queueTimeout)
		defer timer.Stop()
		select {
		case g.slots <- struct{}{}:
		case <-timer.C:
			return errBusy
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-g.slots }()
	if err := ctx.Err(); err != nil {
		return err // before the code is used up
	}
	// The code is checked first: a repeated code must not use up a turn.
	caller := platform.CallerOf(ctx)
	if !g.codes.claim(hash, caller, g.clock()) {
		return g.repeatError(l, hash)
	}
	undo, err := a.take(caller, g.clock())
	if err == nil {
		err = platform.Check(ctx)
	}
	if err != nil {
		undo()
		g.codes.release(hash)
		return err
	}
	// From here on the code is used up, and the answer is awaited even if the caller
	// hangs up: a wrong code or an exhausted quota counts against its sender. Otherwise a
	// client could avoid the limits by hanging up at once.
	spent := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		spent, cancel = context.WithDeadline(spent, deadline)
		defer cancel()
	}
	if err = call(spent); errors.Is(err, platform.ErrNotSent) {
		undo()
	}
	return err
}

// app returns the state of a lane.
func (g *Guard) app(l lane) *app {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := g.apps[l]
	if !ok {
		a = newApp(l.appID, g.clock)
		g.apps[l] = a
	}
	return a
}

// app is the state of one kind of call for one app.
type app struct {
	breaker *breaker
	*quota
}

func newApp(id string, clock func() time.Time) *app {
	return &app{breaker: newBreaker(id, clock), quota: newQuota()}
}
