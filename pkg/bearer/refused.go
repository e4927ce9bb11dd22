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

// refusals tells of tokens that are refused: the owner of the back end of each, and the
// log of each reason from time to time.
type refusals struct {
	tell  func(ctx context.Context, err error) // may be nil
	log   *slog.Logger
	clock func() time.Time

	mu sync.Mutex
	// reasons are bounded: they are the package's own errors.
	reasons map[error]*reason
}

// reason is how often a reason was met since it was logged.
type reason struct {
	logged time.Time
	count  int
}

// refuse tells of a token that Verify refuses with err.
func (r *refusals) refuse(ctx context.Context, err error) {
	if r == nil {
		return
	}
	if r.tell != nil {
		r.tell(ctx, err)
	}
	// Tokens expire and are revoked every day, and the feed logs that it is stale.
	if !errors.Is(err, ErrInvalid) {
		return
	}
	why := err
	if g := (*genuineError)(nil); errors.As(err, &g) {
		why = g.error // every token has a genuineError of its own
	}
	now := r.clock()
	r.mu.Lock()
	seen := r.reasons[why]
	if seen == nil {
		seen = &reason{logged: now.Add(-refusedLogInterval)}
		r.reasons[why] = seen
	}
	seen.count++
	due := now.Sub(seen.logged) >= refusedLogInterval
	count := seen.count
	if due {
		seen.logged, seen.count = now, 0
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
	r.log.LogAttrs(ctx, level, "access tokens are refused", slog.Any("error", err), slog.Int("count", count))
}
