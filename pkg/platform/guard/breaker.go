package guard

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

const (
	// window is the period in which failures are counted.
	window       = 30 * time.Second
	windowBucket = 5 * time.Second
	// openFor is how long an open breaker refuses before it tries again, and probes is
	// the number of calls that it then lets through.
	openFor = 5 * time.Second
	probes  = 3
	// An app's breaker opens after consecutiveFailures, or when there were at least
	// minCalls calls and at least half of them failed.
	consecutiveFailures = 5
	minCalls            = 20
)

// breaker is a circuit breaker that knows when it will let calls through again.
type breaker struct {
	*gobreaker.TwoStepCircuitBreaker[struct{}]
	openUntil atomic.Int64 // Unix nanoseconds
}

func newBreaker(name string, clock func() time.Time) *breaker {
	b := &breaker{}
	b.TwoStepCircuitBreaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         name,
		MaxRequests:  probes,
		Interval:     window,
		BucketPeriod: windowBucket,
		Timeout:      openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			// Requests also counts the calls under way and the excluded ones.
			counted := c.TotalSuccesses + c.TotalFailures
			return c.ConsecutiveFailures >= consecutiveFailures ||
				counted >= minCalls && c.TotalFailures*2 >= counted
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.openUntil.Store(clock().Add(openFor).UnixNano())
			}
		},
		IsSuccessful: func(err error) bool { return !platformFailed(err) },
		IsExcluded:   excluded,
	})
	return b
}

// platformFailed reports whether the platform failed to answer. The guard itself counts
// quota errors of a caller, not the breaker.
func platformFailed(err error) bool { return errors.Is(err, auth.PlatformUnavailable) }

// excluded reports whether the outcome says nothing about the platform: the caller gave
// up, the call was never made, our own database failed, or the platform gave an answer
// that is unknown here, whose cause may be anywhere. Such an outcome neither opens nor
// closes the breaker, and the next call takes its place among the probes.
func excluded(err error) bool {
	for _, neutral := range []error{context.Canceled, context.DeadlineExceeded, platform.ErrNotSent, platform.ErrUnknownAnswer, errSent, errHeldBack, auth.RateLimited, auth.StorageUnavailable} {
		if errors.Is(err, neutral) {
			return true
		}
	}
	return err == errBusy || err == errPanicked //nolint:errorlint // only these values, not other errors with their codes
}

// allow admits a call, or refuses it with the time to wait. The caller passes the outcome
// to done.
func (a *app) allow(now time.Time) (done func(error), err error) {
	done, err = a.breaker.Allow()
	if err == nil {
		return done, nil
	}
	wait := max(time.Unix(0, a.breaker.openUntil.Load()).Sub(now), time.Second)
	return nil, &auth.Error{Code: auth.PlatformUnavailable, RetryAfter: wait, Err: errors.New("guard: calls suspended, the platform keeps failing")}
}
