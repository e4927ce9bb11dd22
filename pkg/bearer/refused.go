package bearer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// refusedLogInterval is the shortest time between two logs of one reason.
const refusedLogInterval = time.Minute

// refusals reports refused tokens: each one to onRefused, and each reason to the log from
// time to time.
type refusals struct {
	onRefused func(ctx context.Context, err error) // may be nil
	log       *slog.Logger
	clock     func() time.Time

	mu sync.Mutex
	// reasons has few entries: its keys are the package's own errors.
	reasons map[error]*reason
}

// reason counts the refusals for one reason since its last log.
type reason struct {
	logged time.Time
	count  int
}

// record reports a token that Verify refuses with err.
func (r *refusals) record(ctx context.Context, err error) {
	if r == nil {
		return
	}
	if r.onRefused != nil {
		r.onRefused(ctx, err)
	}
	// Expired and revoked tokens are normal, and the feed logs when its data is stale.
	if !errors.Is(err, ErrInvalid) {
		return
	}
	cause := err
	if g := (*genuineError)(nil); errors.As(err, &g) {
		cause = g.error // each token gets its own genuineError
	}
	now := r.clock()
	r.mu.Lock()
	counted := r.reasons[cause]
	if counted == nil {
		counted = &reason{logged: now.Add(-refusedLogInterval)}
		r.reasons[cause] = counted
	}
	counted.count++
	due := now.Sub(counted.logged) >= refusedLogInterval
	count := counted.count
	if due {
		counted.logged, counted.count = now, 0
	}
	r.mu.Unlock()
	if !due {
		return
	}
	// These mean that configuration and tokens do not match. The other reasons also occur
	// in random traffic from the internet.
	level := slog.LevelInfo
	if errors.Is(err, errIssuer) || errors.Is(err, errAudience) || errors.Is(err, ErrOtherApp) {
		level = slog.LevelWarn
	}
	r.log.LogAttrs(ctx, level, "access tokens refused", slog.Any("error", err), slog.Int("count", count))
}
