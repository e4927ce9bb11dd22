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
// The age of a directory is the time since its last successful read began. It reads once
// a second, so while the database answers, every replica knows a change to an app about
// a second later.
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
	// readInterval is how often the apps are read.
	readInterval = time.Second
	// readTimeout bounds a read.
	readTimeout = 3 * time.Second
	// awayAfter is the duration of a read after which the database counts as away.
	awayAfter = time.Second
)

// Directory knows all registered apps. It is safe for concurrent use, and its
// methods except [Directory.Run] do no I/O.
type Directory struct {
	c      DirectoryConfig
	latest atomic.Pointer[snapshot]
	// waitingSince is when the oldest unanswered read began; nil: all are answered.
	// A read that failed counts as unanswered since the zero time.
	waitingSince atomic.Pointer[time.Time]
}

// DirectoryConfig configures a [Directory]. All fields are required.
type DirectoryConfig struct {
	Store interface {
		Apps(ctx context.Context) ([]auth.App, error)
	}
	// MaxStaleness is how old the directory may be.
	MaxStaleness time.Duration
	Clock        func() time.Time
	Log          *slog.Logger
}

// snapshot is the answer to one read. It never changes.
type snapshot struct {
	apps map[string]auth.App
	// asked is when the read began.
	asked time.Time
}

// OpenDirectory returns a directory that is up to date, or an error when the database
// does not answer. [Directory.Run] keeps it up to date.
func OpenDirectory(ctx context.Context, c DirectoryConfig) (*Directory, error) {
	d := &Directory{c: c}
	if err := d.read(ctx); err != nil {
		return nil, fmt.Errorf("app: read the apps: %w", err)
	}
	return d, nil
}

// Run reads the apps once a second until ctx is done.
func (d *Directory) Run(ctx context.Context) {
	tick := time.NewTicker(readInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// A failure matters only when the directory gets too old. The follower of
			// the cutoffs logs that the database is away.
			if err := d.read(ctx); err != nil && ctx.Err() == nil {
				d.c.Log.Debug("apps not read", "cause", err)
			}
		}
	}
}

func (d *Directory) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	asked := d.c.Clock()
	d.waitingSince.CompareAndSwap(nil, &asked)
	apps, err := d.c.Store.Apps(ctx)
	if err != nil {
		d.waitingSince.Store(&time.Time{})
		return err
	}
	s := &snapshot{apps: make(map[string]auth.App, len(apps)), asked: asked}
	for i := range apps {
		s.apps[apps[i].ID] = apps[i]
	}
	d.latest.Store(s)
	d.waitingSince.Store(nil)
	return nil
}

// Answering reports whether the database answers: false when the last read
// failed, or has waited for more than a second.
func (d *Directory) Answering() bool {
	since := d.waitingSince.Load()
	return since == nil || d.c.Clock().Sub(*since) <= awayAfter
}

var errStale = errors.New("app: the apps were read too long ago")

func (d *Directory) check(s *snapshot) error {
	if d.c.Clock().Sub(s.asked) > d.c.MaxStaleness {
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
