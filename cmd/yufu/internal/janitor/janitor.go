// Package janitor deletes expired rows: sessions long past their absolute expiry, cutoffs
// and bind tickets past their retention, and counts of failed attempts that no longer slow
// any attempt.
//
// It owns when and how much: in small batches, with a pause between rounds, and never at
// start-up, when all replicas may restart at once. The store decides what is deleted. A
// failed round is logged, and the next round tries again. A row is deleted only if it has
// expired by this machine's clock and by the database's: a wrong clock of one machine must
// not end the sessions of all users.
package janitor

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// interval is the mean pause between rounds. A pause varies by half of it either way, so
	// that replicas do not clean at the same time.
	interval = 10 * time.Minute
	// batch is the number of rows of each kind that one call deletes.
	batch = 1000
	// keep is the time for which an expired session is kept, so that an operator can
	// investigate an incident.
	keep = 7 * 24 * time.Hour
)

// Store is the part of the store that the janitor uses.
type Store interface {
	// DeleteExpired deletes at most limit sessions that expired before the given time, and
	// at most limit cutoffs whose retention ended before now.
	DeleteExpired(ctx context.Context, sessionsBefore, now time.Time, limit int) (int, error)
	// Now returns the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Run deletes expired rows at every tick of pause until ctx is done. Production passes
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

// clean deletes batches until one is not full.
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
