// Package app implements the use cases for registered apps.
//
// It owns what admins see and change of apps ([Service]), the rules of what they send
// ([Form]), how an app's secrets are sealed, and the copy of all apps in memory with which
// validation goes on while the database is away ([Directory]). It does not own the type
// of an app and its policy (pkg/auth), how a change is committed (db), or
// the protocol of webhooks (binding/webhook).
//
// # States
//
//	enabled ↔ disabled
//
// An app is registered once and never deleted. Disabling it ends its sessions, and they
// stay ended. A caller that is restricted to apps may change and disable its own apps, as
// long as a change gives an app no more access than before. It may not register or
// enable an app.
//
// The age of a directory is the time since the apps were known to be as it has them. The
// follower of the cutoffs asks the database once a second whether they have changed, so
// while the database answers, every replica knows a change to an app about a second later.
//
// # Failure
//
// A refused change changes nothing, with one exception: keys that were made for a signing
// algorithm stay. A [FieldError] names the member that is wrong. No error and
// no audit event holds a secret.
//
// While the database is away the directory answers from memory until it is older
// than the maximum staleness, and with [auth.StorageUnavailable] after that. It
// also reports that the database is away ([Directory.Answering]), so that others
// do not wait for it.
package app

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
	// checkInterval is how often the directory checks whether the apps have changed.
	checkInterval = time.Second
	// readTimeout bounds a read.
	readTimeout = 3 * time.Second
)

// Directory knows all registered apps. It is safe for concurrent use, and its
// methods except [Directory.Run] do no I/O.
type Directory struct {
	c      DirectoryConfig
	latest atomic.Pointer[snapshot]
	wake   chan struct{}
}

// DirectoryConfig configures a [Directory]. All fields are required.
type DirectoryConfig struct {
	Store interface {
		AppsState(ctx context.Context) (version string, apps []auth.App, err error)
	}
	// Version returns the name of the state of the apps at a moment, and the moment, without
	// asking the database, or the error if the database does not answer. The name changes
	// with each change of an app.
	Version func() (name string, at time.Time, err error)
	// MaxStaleness is how old the directory may be.
	MaxStaleness time.Duration
	Clock        func() time.Time
	Log          *slog.Logger
}

// snapshot is what one read found. It never changes.
type snapshot struct {
	apps map[string]auth.App
	// version is the name of the state, and at the moment at which the apps were so.
	version string
	at      time.Time
}

// OpenDirectory returns a directory that is up to date, or an error when the database
// does not answer. [Directory.Run] keeps it up to date.
func OpenDirectory(ctx context.Context, c DirectoryConfig) (*Directory, error) {
	d := &Directory{c: c, wake: make(chan struct{}, 1)}
	if err := d.update(ctx); err != nil {
		return nil, fmt.Errorf("app: read the apps: %w", err)
	}
	return d, nil
}

// Wake makes [Directory.Run] check at once whether the apps have changed.
func (d *Directory) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run checks once a second and after each [Directory.Wake] whether the apps have changed,
// and then reads them, until ctx is done.
func (d *Directory) Run(ctx context.Context) {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-tick.C:
		}
		// A failure matters only when the directory gets too old. The follower of
		// the cutoffs logs that the database is away.
		if err := d.update(ctx); err != nil && ctx.Err() == nil {
			d.c.Log.Debug("apps not read", "cause", err)
		}
	}
}

// update reads the apps if they have changed.
func (d *Directory) update(ctx context.Context) error {
	version, at, err := d.c.Version()
	if err != nil {
		return err
	}
	last := d.latest.Load()
	if last != nil && last.version == version {
		d.latest.Store(&snapshot{last.apps, version, at})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	state, apps, err := d.c.Store.AppsState(ctx)
	if err != nil {
		return err
	}
	// Another state is either newer, and the next check finds it, or that of a server
	// that was replaced. The first read has nothing to fall back on, and the next check
	// repairs it.
	if state != version && last != nil {
		return errOtherState
	}
	version = state
	s := &snapshot{make(map[string]auth.App, len(apps)), version, at}
	for i := range apps {
		s.apps[apps[i].ID] = apps[i]
	}
	d.latest.Store(s)
	return nil
}

var errOtherState = errors.New("app: the apps read are in another state than the follower named")

var errStale = errors.New("app: the apps were read too long ago")

func (d *Directory) check(s *snapshot) error {
	if d.c.Clock().Sub(s.at) > d.c.MaxStaleness {
		return &auth.Error{Code: auth.StorageUnavailable, Err: errStale}
	}
	return nil
}

// App returns an app as it was at the last read.
//
// Errors: [auth.AppUnknown], also for an app that was registered since;
// [auth.StorageUnavailable] when the last read is too long ago.
func (d *Directory) App(appID string) (auth.App, error) {
	s := d.latest.Load()
	if err := d.check(s); err != nil {
		return auth.App{}, err
	}
	a, ok := s.apps[appID]
	if !ok {
		return auth.App{}, auth.AppUnknown
	}
	return a, nil
}

// HasSeveral reports whether more than one app is registered.
//
// Errors: [auth.StorageUnavailable] when the last read is too long ago and found at
// most one app. A true result never becomes wrong, because apps are never deleted.
func (d *Directory) HasSeveral() (bool, error) {
	s := d.latest.Load()
	if len(s.apps) > 1 {
		return true, nil
	}
	return false, d.check(s)
}
