package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

const (
	// countInterval is how often the apps are counted.
	countInterval = time.Second
	// countTimeout bounds a count.
	countTimeout = 3 * time.Second
)

// AppCount knows how many apps are registered, as of a moment that it can tell.
// It is safe for concurrent use.
type AppCount struct {
	c     AppCountConfig
	known atomic.Pointer[appCount]
}

// AppCountConfig is what an [AppCount] is made of. All fields are required.
type AppCountConfig struct {
	Store interface {
		Apps(ctx context.Context) ([]auth.App, error)
	}
	// MaxStaleness is how old the count may be.
	MaxStaleness time.Duration
	Clock        func() time.Time
	Log          *slog.Logger
}

// appCount never changes.
type appCount struct {
	several bool
	// asked is when the question began.
	asked time.Time
}

// OpenAppCount returns a count that is up to date, or an error when the database
// does not answer. [AppCount.Run] keeps it so.
func OpenAppCount(ctx context.Context, c AppCountConfig) (*AppCount, error) {
	a := &AppCount{c: c}
	if err := a.count(ctx); err != nil {
		return nil, fmt.Errorf("gate: count the apps: %w", err)
	}
	return a, nil
}

// Run counts once a second until ctx is done.
func (a *AppCount) Run(ctx context.Context) {
	tick := time.NewTicker(countInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// The age says what a failure means; the follower of the cutoffs
			// logs that the database is gone.
			if err := a.count(ctx); err != nil && ctx.Err() == nil {
				a.c.Log.Debug("the apps could not be counted", "cause", err)
			}
		}
	}
}

func (a *AppCount) count(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	asked := a.c.Clock()
	apps, err := a.c.Store.Apps(ctx)
	if err != nil {
		return err
	}
	a.known.Store(&appCount{several: len(apps) > 1, asked: asked})
	return nil
}

var errCountStale = errors.New("gate: how many apps there are is not known well enough")

// Several implements [Apps].
func (a *AppCount) Several() (bool, error) {
	known := a.known.Load()
	// Apps are disabled and never deleted, so several remain several.
	if !known.several && a.c.Clock().Sub(known.asked) > a.c.MaxStaleness {
		return false, &auth.Error{Code: auth.StorageUnavailable, Err: errCountStale}
	}
	return known.several, nil
}
