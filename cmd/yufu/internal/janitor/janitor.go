// Package janitor deletes what no longer says anything: sessions long past
// their absolute expiry, cutoffs and bind tickets past their retention, and counts
// of failed attempts that slow nobody any more.
//
// It owns when and how much: in small batches, with a pause between rounds, and
// never at start-up, when a fleet that restarts has better things to do. What
// is deleted is the store's matter. A failed round is logged and tried again.
// Nothing is deleted that has not expired by this clock and by the database's:
// one host whose clock went astray must not end everybody's sessions.
package janitor

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// interval is the pause between rounds, spread by a half each way so that
	// replicas do not march in step.
	interval = 10 * time.Minute
	// batch is how many rows one statement deletes.
	batch = 1000
	// keep is how long an expired session is kept for whoever looks into an
	// incident.
	keep = 7 * 24 * time.Hour
)

// Store is what the janitor cleans.
type Store interface {
	// DeleteExpired removes at most limit sessions that expired before the
	// given time, and as many cutoffs that may be forgotten at now.
	DeleteExpired(ctx context.Context, sessionsBefore, now time.Time, limit int) (int, error)
	// Now returns the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Run cleans at every tick of pause until ctx is done. Production passes
// [Pause].
func Run(ctx context.Context, store Store, log *slog.Logger, clock func() time.Time, pause func() <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause():
		}
		n, err := clean(ctx, store, clock())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Warn("cleanup of expired rows failed, next round retries", "deleted", n, "cause", err)
		case n > 0:
			log.Info("expired rows deleted", "deleted", n)
		}
	}
}

// Pause returns a channel that fires after the interval.
func Pause() <-chan time.Time {
	return time.After(interval/2 + rand.N(interval)) //nolint:gosec // not a secret
}

// clean deletes batch after batch until a batch is not full.
func clean(ctx context.Context, store Store, now time.Time) (total int, err error) {
	database, err := store.Now(ctx)
	if err != nil {
		return 0, err
	}
	if database.Before(now) {
		now = database
	}
	for {
		n, err := store.DeleteExpired(ctx, now.Add(-keep), now, batch)
		total += n
		if err != nil || n < batch {
			return total, err
		}
	}
}
