package bearer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// refusedLogInterval is how often one reason to refuse is logged, at most.
const refusedLogInterval = time.Minute

// refusals reports tokens that are refused: each one to onRefused, and each reason to
// the log from time to time.
type refusals struct {
	onRefused func(ctx context.Context, err error) // may be nil
	log       *slog.Logger
	clock     func() time.Time

	mu sync.Mutex
	// reasons are bounded: they are the package's own errors.
	reasons map[error]*reason
}

// reason is how often a reason was met since it was logged.
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
	// Tokens expire and are revoked every day, and the feed logs that it is stale.
	if !errors.Is(err, ErrInvalid) {
		return
	}
	cause := err
	if g := (*genuineError)(nil); errors.As(err, &g) {
		cause = g.error // every token has a genuineError of its own
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
	// These say that configuration and tokens do not fit; the others are also what the
	// internet sends.
	level := slog.LevelInfo
	if errors.Is(err, errIssuer) || errors.Is(err, errAudience) || errors.Is(err, ErrOtherApp) {
		level = slog.LevelWarn
	}
	r.log.LogAttrs(ctx, level, "access tokens refused", slog.Any("error", err), slog.Int("count", count))
}
