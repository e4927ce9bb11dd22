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
	// maxGrants bounds how often one call tries to grant. A second time is usual
	// after a database lost its latest commits, or when a session changed at the same
	// moment.
	maxGrants = 4
)

// Memory is what a replica knows of revocations, whatever the database forgets. A
// cutoff stays in it as long as a token may live that it hits. Implemented by
// cutoffs.Follower.
type Memory interface {
	// Hitting returns the cutoffs that hit a token minted from the row.
	Hitting(row *auth.Session) []auth.Cutoff
	// Cutoffs returns the cutoffs of sessions and apps, one of each.
	Cutoffs() []auth.Cutoff
	// Deployment returns the deployment whose revocations these are.
	Deployment() uuid.UUID
	// CatchUp reads what the database has that the replica does not know yet.
	CatchUp(ctx context.Context) error
}

// RestorerConfig is what a [Restorer] is made of. All fields are required.
type RestorerConfig struct {
	// Store applies the cutoffs that it writes, see [Config].
	Store  RestorationStore
	Memory Memory
	// Keys reads the keys, and retires again those that this replica remembers as
	// retired.
	Keys func(ctx context.Context) error
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
	Log   *slog.Logger
}

// Restorer restores revocations that this replica remembers to a database that lost its
// latest commits: before each grant those of its session, and all of them when the
// database has become another one. It is safe for concurrent use.
type Restorer struct {
	c              RestorerConfig
	historyChanged chan struct{}
	// unrecorded says that the database may have lost commits while this replica was not
	// running, so that it does not remember them.
	unrecorded atomic.Bool
}

// NewRestorer returns a restorer, after it has asked whether the history of the database
// was recorded. If it was not, [Restorer.Check] returns an error until it is.
//
// Errors: those of [RestorationStore.RecordedHistory] and
// [RestorationStore.RecordHistory].
func NewRestorer(ctx context.Context, c RestorerConfig) (*Restorer, error) {
	r := &Restorer{c: c, historyChanged: make(chan struct{}, 1)}
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
// from this database, else nil.
func (r *Restorer) Check() error {
	if r.unrecorded.Load() {
		return &auth.Error{Code: auth.StorageUnavailable, Err: errLost}
	}
	return nil
}

// HistoryChanged tells that the database has become another one. It does not block.
func (r *Restorer) HistoryChanged() {
	select {
	case r.historyChanged <- struct{}{}:
	default:
	}
}

// Run restores all rows when the database has become another one, until ctx is done. A
// database whose history was not recorded is asked again after each pause. Production passes
// [RestorePause].
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
		case <-r.historyChanged:
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
	// The replica must know what was restored before it restores what it remembers:
	// what was revoked here meanwhile may be lost again.
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

// RestoreAll restores the keys and, [MaxRestored] at a time, all rows, and then records
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
// minted from the row. If so, the row in the database has been restored by then, and
// the caller starts over from it.
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

// Grantable returns a row of the session from which tokens may be minted that no
// validator refuses which follows the revocations. It is the given row, or, if the
// database had lost a revocation of it that this replica remembers, the restored one.
//
// Errors: [auth.SessionRevoked] when the session has ended by that, and those of
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
		// What was read may come from a commit that was interrupted.
		if err := s.c.Store.Confirm(ctx); err != nil {
			return row, err
		}
		row = st.Session
	}
	return row, errUnsettled
}

var errUnsettled = &auth.Error{Code: auth.StorageUnavailable, Err: fmt.Errorf("session: gave up after %d tries: each time a newer revocation changed the row", maxGrants)}

// Mint calls mint, and once more after the keys were restored if there was no key to
// sign with: the cutoffs may hit all keys that this replica has.
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

// grantCurrent calls do until no remembered revocation refuses its row. It returns the last
// row, and how many sessions ended in all calls.
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
