package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

const (
	// restorePause is how long a [Restorer] waits before it tries again.
	restorePause = time.Second
	// restoreTimeout bounds one call of the store.
	restoreTimeout = 10 * time.Second
	// maxGrants bounds the tries of one call to grant. A second try is normal after a
	// database lost its latest commits, or when a session changed at the same moment.
	maxGrants = 4
)

// Memory holds the revocations that a replica knows, even if the database loses them. A
// cutoff stays in it as long as a token that it hits may live. Implemented by
// cutoffs.Follower.
type Memory interface {
	// Hitting returns the cutoffs that hit a token minted from the row.
	Hitting(row *auth.Session) []auth.Cutoff
	// Cutoffs returns the cutoffs of sessions and apps, one for each session and app.
	Cutoffs() []auth.Cutoff
	// Deployment returns the deployment whose revocations these are.
	Deployment() uuid.UUID
	// CatchUp reads the cutoffs that the replica does not know yet.
	CatchUp(ctx context.Context) error
}

// RestorerConfig configures a [Restorer]. All fields are required.
type RestorerConfig struct {
	// Store applies the cutoffs that it writes, see [Config].
	Store  RestorationStore
	Memory Memory
	// Keys reads the keys. It also retires again each key that this replica remembers as
	// retired.
	Keys func(ctx context.Context) error
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
	Log   *slog.Logger
}

// Restorer restores remembered revocations to a database that lost its latest commits:
// before each grant those of its session, and all of them when the database's timeline
// has changed. It is safe for concurrent use.
type Restorer struct {
	c               RestorerConfig
	timelineChanged chan struct{}
	// unrecorded says that the database may have lost commits while this replica was not
	// running, so that this replica does not remember them.
	unrecorded atomic.Bool
}

// NewRestorer returns a restorer, after it has read whether the history of the database
// was recorded. If it was not, [Restorer.Check] returns an error until it is.
//
// Errors: those of [RestorationStore.RecordedHistory] and
// [RestorationStore.RecordHistory].
func NewRestorer(ctx context.Context, c RestorerConfig) (*Restorer, error) {
	r := &Restorer{c: c, timelineChanged: make(chan struct{}, 1)}
	history, recorded, err := c.Store.RecordedHistory(ctx)
	if err != nil {
		return nil, err
	}
	if recorded {
		return r, c.Store.RecordHistory(ctx, history)
	}
	r.unrecorded.Store(true)
	c.Log.Error("token issue and validation stopped", "cause", errLost)
	return r, nil
}

var errLost = errors.New("the database was restored, moved or failed over while no replica was running, so it may have lost the latest revocations; " +
	"run yufu migrate --restored, which ends all sessions and keys, and users log in again")

// Check returns [auth.StorageUnavailable] with the reason while no tokens may be issued
// from this database, and nil otherwise.
func (r *Restorer) Check() error {
	if r.unrecorded.Load() {
		return &auth.Error{Code: auth.StorageUnavailable, Err: errLost}
	}
	return nil
}

// TimelineChanged makes [Restorer.Run] restore all rows, because the database's timeline
// has changed. It does not block.
func (r *Restorer) TimelineChanged() {
	select {
	case r.timelineChanged <- struct{}{}:
	default:
	}
}

// Run restores all rows after each [Restorer.TimelineChanged], until ctx is done. While the
// history of the database is not recorded, Run asks again after each pause. Production
// passes [RestorePause].
func (r *Restorer) Run(ctx context.Context, pause func() <-chan time.Time) {
	pending, failing := r.unrecorded.Load(), false
	for {
		var again <-chan time.Time
		if pending {
			again = pause()
		}
		select {
		case <-ctx.Done():
			return
		case <-r.timelineChanged:
		case <-again:
		}
		err := r.restoreOnce(ctx)
		pending = err != nil && ctx.Err() == nil
		was := failing
		if failing = pending && !errors.Is(err, errLost); failing && !was {
			r.c.Log.Warn("restore of remembered revocations failed, retrying", "cause", err)
		}
	}
}

// RestorePause returns a channel that fires when it is time to try again.
func RestorePause() <-chan time.Time { return time.After(restorePause) }

func (r *Restorer) restoreOnce(ctx context.Context) error {
	if !r.unrecorded.Load() {
		return r.RestoreAll(ctx)
	}
	asking, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	_, recorded, err := r.c.Store.RecordedHistory(asking)
	switch {
	case err != nil:
		return err
	case !recorded:
		return errLost
	}
	// Read the database's cutoffs before restoring: revocations that were made here
	// meanwhile may be lost again.
	if err := r.c.Memory.CatchUp(asking); err != nil {
		return err
	}
	if err := r.RestoreAll(ctx); err != nil {
		return err
	}
	r.unrecorded.Store(false)
	r.c.Log.Info("token issue and validation resumed, database history recorded")
	return nil
}

// RestoreAll restores the keys and then all rows, [MaxRestored] at a time. It then records
// the history that the database had at the beginning.
//
// Errors: those of [RestorerConfig.Keys] and of the methods of [RestorationStore].
func (r *Restorer) RestoreAll(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	history, _, err := r.c.Store.RecordedHistory(asking)
	if err != nil {
		return err
	}
	if err := r.c.Keys(ctx); err != nil {
		return err
	}
	for batch := range slices.Chunk(r.c.Memory.Cutoffs(), MaxRestored) {
		if _, err := r.restore(ctx, batch); err != nil {
			return err
		}
	}
	recording, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	return r.c.Store.RecordHistory(recording, history)
}

// outdated reports whether a validator that follows the revocations refuses a token
// minted from the row. If so, it has restored the row in the database, and the caller
// starts over from the restored row.
func (r *Restorer) outdated(ctx context.Context, row *auth.Session) (bool, error) {
	hits := r.c.Memory.Hitting(row)
	if len(hits) == 0 {
		return false, nil
	}
	done, err := r.restore(ctx, hits)
	if err == nil && len(done.Implausible) > 0 {
		err = &auth.Error{Code: auth.StorageUnavailable, Err: errImplausible}
	}
	return true, err
}

var errImplausible = errors.New("session: a remembered revocation is too far ahead of its row")

func (r *Restorer) restore(ctx context.Context, remembered []auth.Cutoff) (Restored, error) {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	now := auth.StoredTime(r.c.Clock())
	done, err := r.c.Store.RestoreCutoffs(ctx, RestoreParams{
		Deployment: r.c.Memory.Deployment(), Remembered: remembered, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorService},
	})
	if err != nil {
		return done, err
	}
	if done.Sessions+done.Apps > 0 {
		r.c.Log.Warn("lost revocations restored to the database", "sessions", done.Sessions, "apps", done.Apps)
	}
	for _, c := range done.Implausible {
		r.c.Log.Error("remembered revocation rejected: too far ahead of its row; no tokens are issued for this session or app; if the database was restored, run yufu migrate --restored; if not, somebody changed the row or the table cutoffs",
			"kind", string(c.Kind), "session", sessionOf(c), "app", c.AppID, "ver", c.Ver, "epoch", c.Epoch)
	}
	return done, nil
}

func sessionOf(c auth.Cutoff) string {
	if c.Kind == auth.CutoffSession {
		return c.Session.String()
	}
	return ""
}

// Grantable returns a row of the session such that validators that follow the revocations
// accept tokens minted from it. This is the given row or, if the database had lost a
// remembered revocation of it, the restored row.
//
// Errors: [auth.SessionRevoked] when this revocation ended the session, and those of
// [RestorationStore.RestoreCutoffs], [Store.Session] and [Store.Confirm].
func (s *Service) Grantable(ctx context.Context, row auth.Session) (auth.Session, error) {
	for range maxGrants {
		again, err := s.outdated(ctx, &row)
		if err != nil || !again {
			return row, err
		}
		st, err := s.c.Store.Session(ctx, row.ID)
		if err != nil {
			return row, err
		}
		if at, why := st.Ending(); !at.IsZero() || why != "" || st.AppDisabled {
			return row, auth.SessionRevoked
		}
		// The row may come from a commit whose wait for the standby was interrupted.
		if err := s.c.Store.Confirm(ctx); err != nil {
			return row, err
		}
		row = st.Session
	}
	return row, errUnsettled
}

var errUnsettled = &auth.Error{Code: auth.StorageUnavailable, Err: fmt.Errorf("session: gave up after %d tries: each time a newer revocation changed the row", maxGrants)}

// Mint calls mint. If there was no key to sign with, it restores the keys and calls mint
// once more: the cutoffs may hit all keys of this replica.
//
// Errors: those of mint and of [RestorerConfig.Keys].
func (s *Service) Mint(ctx context.Context, mint func() (auth.Secret, int, error)) (auth.Secret, int, error) {
	access, expiresIn, err := mint()
	if !errors.Is(err, token.ErrNoKey) || s.c.Restorer == nil {
		return access, expiresIn, err
	}
	if err := s.c.Restorer.c.Keys(ctx); err != nil {
		return "", 0, err
	}
	return mint()
}

func (s *Service) outdated(ctx context.Context, row *auth.Session) (bool, error) {
	if s.c.Restorer == nil {
		return false, nil
	}
	return s.c.Restorer.outdated(ctx, row)
}

// grantCurrent calls do until no remembered revocation hits its row. It returns the last
// row, with the number of sessions that ended in all calls.
func (s *Service) grantCurrent(ctx context.Context, do func() (Granted, error)) (Granted, error) {
	ended := 0
	for range maxGrants {
		g, err := do()
		if err != nil {
			return Granted{}, err
		}
		ended += g.Ended
		switch again, err := s.outdated(ctx, &g.Session); {
		case err != nil:
			return Granted{}, auth.About(err, g.Session.Subject())
		case !again:
			g.Ended = ended
			return g, nil
		}
	}
	return Granted{}, errUnsettled
}
