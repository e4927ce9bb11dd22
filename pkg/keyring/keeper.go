package keyring

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

const (
	// pollInterval is the time between two checks for changed keys when nothing wakes
	// the keeper.
	pollInterval = time.Second
	// askTimeout bounds such a check. changeTimeout bounds a change: generating an RSA
	// key takes a while.
	askTimeout    = 3 * time.Second
	changeTimeout = 20 * time.Second
)

// KeeperConfig configures a [Keeper]. All fields except Log are required.
type KeeperConfig struct {
	Ring   *Ring
	Policy Policy
	// Clock returns this replica's estimate of the time, to see whether a change is
	// due. DatabaseClock asks the database; changes of keys use its time.
	Clock         func() time.Time
	DatabaseClock func(ctx context.Context) (time.Time, error)
	// Version, if it is not nil, returns what [Store.KeysVersion] returned lately, without
	// asking the database, or the error if the database does not answer. [Keeper.Run] then
	// reads the keys only when they have changed.
	Version func() (string, error)
	// Log gets the automatic changes and the failures of [Keeper.Run].
	Log *slog.Logger
}

// Keeper keeps a ring up to date and rotates its keys. Any number of keepers may
// use the same database. It is safe for concurrent use.
type Keeper struct {
	c    KeeperConfig
	wake chan struct{}
	// unusable is the reason why the keys in the database cannot be used, or nil.
	unusable atomic.Pointer[error]
}

// NewKeeper returns a keeper, or the error of [Policy.Check].
func NewKeeper(c KeeperConfig) (*Keeper, error) {
	if err := c.Policy.Check(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{c: c, wake: make(chan struct{}, 1)}, nil
}

// Wake makes [Keeper.Run] check at once whether the keys have changed.
func (k *Keeper) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Unusable returns why the keys in the database cannot be used, for example because
// they are sealed with a master key that this replica does not have, or nil. This
// replica then refuses tokens of other replicas, so it should get no requests.
// [Keeper.Run] updates the result while the database answers.
func (k *Keeper) Unusable() error {
	if err := k.unusable.Load(); err != nil {
		return *err
	}
	return nil
}

// Run checks whether the keys have changed and applies the policy, once a second and after
// each [Keeper.Wake], until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var failing auth.Code
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-tick.C:
		}
		err := k.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			k.unusable.Store(nil)
		case auth.CodeOf(err) != auth.StorageUnavailable:
			k.unusable.Store(&err)
		}
		switch {
		case auth.CodeOf(err) == failing:
		case err == nil:
			k.c.Log.Info("key refresh recovered")
		case auth.CodeOf(err) == auth.StorageUnavailable:
			k.c.Log.Warn("key refresh failed; this replica keeps its keys", "cause", err)
		default:
			k.c.Log.Error("keys in the database rejected; this replica keeps its own keys that are not retired", "cause", err)
		}
		failing = auth.CodeOf(err)
	}
}

func (k *Keeper) poll(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := k.reloadIfKnownChanged(asking); err != nil {
		if ctx.Err() == nil && asking.Err() != nil {
			err = &auth.Error{Code: auth.StorageUnavailable, Err: err}
		}
		return err
	}
	changing, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	return k.ApplyPolicy(changing)
}

// reloadIfKnownChanged reads the keys if they have changed, as far as
// [KeeperConfig.Version] knows.
func (k *Keeper) reloadIfKnownChanged(ctx context.Context) error {
	if k.c.Version == nil {
		return k.ReloadIfChanged(ctx)
	}
	version, err := k.c.Version()
	if err != nil || k.c.Ring.isVersion(version) {
		return err
	}
	return k.ReloadIfChanged(ctx)
}

// CatchUp calls [Keeper.ReloadIfChanged] and then [Keeper.ApplyPolicy]. Afterwards the
// ring has the keys of the database, and each key that the ring remembers as retired
// is retired in the database.
func (k *Keeper) CatchUp(ctx context.Context) error {
	if err := k.ReloadIfChanged(ctx); err != nil {
		return err
	}
	return k.ApplyPolicy(ctx)
}

// ReloadIfChanged reads the keys if they have changed.
//
// Errors: [auth.StorageUnavailable], and those of an invalid stored key. With an error
// the ring keeps its keys, except those that other replicas have retired.
func (k *Keeper) ReloadIfChanged(ctx context.Context) error { return k.c.Ring.reloadIfChanged(ctx) }

// ApplyPolicy makes missing keys, promotes next keys and retires previous keys, as the
// policy says. If the database has lost the retirement of a key, it retires that key
// again. It does not ask the database when nothing is due.
func (k *Keeper) ApplyPolicy(ctx context.Context) error {
	if d := k.c.Policy.due(k.c.Ring.keys.Load().rows, k.c.Clock()); d.empty() && !k.c.Ring.hasLostRetirement() {
		return nil
	}
	now, err := k.now(ctx)
	if err != nil {
		return err
	}
	d := k.c.Policy.due(k.c.Ring.keys.Load().rows, now)
	if d.empty() && !k.c.Ring.hasLostRetirement() {
		return nil // not due by the database's clock
	}
	var done []auth.AuditEvent
	err = k.change(ctx, now, auth.AuditEvent{Actor: auth.ActorService}, func(p *plan) error {
		err := p.applyPolicy()
		done = p.change.Events
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range done {
		k.c.Log.Info("keys changed automatically", "action", string(e.Action), "kid", e.Detail["kid"], "use", e.Detail["use"], "alg", e.Detail["alg"])
	}
	return nil
}

// change makes the change that do plans. If the database has lost the retirement of a key,
// it retires that key again first.
func (k *Keeper) change(ctx context.Context, now time.Time, by auth.AuditEvent, do func(*plan) error) error {
	return k.c.Ring.change(ctx, k.c.Policy, now, by, do)
}

// now returns the database's time as stores keep it.
func (k *Keeper) now(ctx context.Context) (time.Time, error) {
	t, err := k.c.DatabaseClock(ctx)
	return t.UTC().Truncate(time.Microsecond), err
}

// Keys reads all keys from the database, retired ones too, in the order of [Describe].
func (k *Keeper) Keys(ctx context.Context) ([]Key, error) {
	now, err := k.now(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := k.c.Ring.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return Describe(stored, k.c.Policy, now), nil
}

// RotateRequest names the keys to promote.
type RotateRequest struct {
	// Use and Alg restrict the request to keys of a use and an algorithm; empty means
	// any.
	Use Use
	Alg string
	// Now makes a signing key sign at once, even if validators may not know it
	// yet. Without Now the key signs as soon as all validators know it.
	Now bool
	// By is the caller for the audit trail: Actor, Reason, RequestID.
	By auth.AuditEvent
}

// Rotate promotes the next keys and returns them; their ActiveAt is the time from which
// they sign. If a key of a kind was promoted before and does not sign yet, Rotate
// returns that key and changes nothing, unless r.Now is set.
//
// Errors: [auth.InvalidRequest] when there are no such keys, [auth.KeyInUse]
// when too many keys are published already, [auth.StorageUnavailable].
func (k *Keeper) Rotate(ctx context.Context, r RotateRequest) ([]Key, error) {
	now, err := k.now(ctx)
	if err != nil {
		return nil, err
	}
	var promoted []Key
	err = k.change(ctx, now, r.By, func(p *plan) error {
		if err := p.addMissing(); err != nil {
			return err
		}
		for _, of := range kindsOf(p.keys) {
			if r.Use != "" && r.Use != of.use || r.Alg != "" && r.Alg != of.alg {
				continue
			}
			kid, err := p.rotate(of, r.Now)
			if err != nil {
				return err
			}
			promoted = append(promoted, p.describe(kid))
		}
		if len(promoted) == 0 {
			return auth.Invalid("use and alg must name an existing kind of key")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return promoted, nil
}

func (p *plan) describe(kid string) Key {
	k := p.find(kid)
	return describe(k, p.sequence(kind{k.Use, k.Alg}), p.policy, p.now)
}

// RetireRequest is a key to retire.
type RetireRequest struct {
	KID string
	// Compromised says that somebody else may have the key. The key and all tokens
	// that it signed become invalid at once.
	Compromised bool
	// By is the caller for the audit trail: Actor, Reason, RequestID.
	By auth.AuditEvent
}

// Retirement is the result of [Keeper.Retire].
type Retirement struct {
	// Key is the key that was retired.
	Key Key
	// Current is the key of its kind that signs now, or nil while a key of the
	// default algorithm signs. Pending is the promoted key that will replace it, or nil.
	Current, Pending *Key
	// SessionsEnded says that all sessions of all apps have ended.
	SessionsEnded bool
}

// Retire retires a key, and promotes another one if the key signs. It is harmless to
// repeat.
//
// Errors: [auth.NotFound] when there is no such key; [auth.KeyInUse] for a key that is
// not compromised, while it signs or its signatures may be valid (the description says
// until when); [auth.StorageUnavailable].
func (k *Keeper) Retire(ctx context.Context, r RetireRequest) (Retirement, error) {
	now, err := k.now(ctx)
	if err != nil {
		return Retirement{}, err
	}
	var out Retirement
	err = k.change(ctx, now, r.By, func(p *plan) error {
		found := p.find(r.KID)
		switch {
		case found == nil:
			return &auth.Error{Code: auth.NotFound, Description: "No key has this kid."}
		case found.RetiredAt.IsZero():
			if err := p.retire(r.KID, r.Compromised); err != nil {
				return err
			}
		case r.Compromised && found.Use == UseAccess && !slices.Contains(p.change.Compromised, r.KID):
			// The leak became known after the retirement. A retired MAC key needs
			// nothing: its tokens are refused already.
			p.change.Compromised = append(p.change.Compromised, r.KID)
			p.recordEvent(auth.AuditKeyRetired, found, map[string]any{"compromised": true})
		case r.Compromised && found.Use == UseRefresh && slices.Contains(p.retiredAgain, r.KID):
			// The database had lost the retirement, so other replicas may have used it.
			p.change.EndSessions = true
		}
		found = p.find(r.KID)
		out.Key = p.describe(r.KID)
		l := p.sequence(kind{found.Use, found.Alg})
		if signs := l.current(now); signs != nil {
			d := p.describe(signs.KID)
			out.Current = &d
		}
		if coming := l.pending(now); coming != nil {
			d := p.describe(coming.KID)
			out.Pending = &d
		}
		out.SessionsEnded = p.change.EndSessions
		return nil
	})
	if err != nil {
		return Retirement{}, err
	}
	return out, nil
}

// EnsureKeys makes keys of an algorithm if there are none yet. It returns the time from
// which they sign, when validators know them. Until then the default algorithm signs the
// tokens of apps that chose this one.
//
// Errors: [auth.InvalidRequest] for an unknown algorithm, [auth.StorageUnavailable].
func (k *Keeper) EnsureKeys(ctx context.Context, alg string, by auth.AuditEvent) (time.Time, error) {
	if err := auth.CheckSigningAlg(alg); err != nil {
		return time.Time{}, err
	}
	now, err := k.now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var from time.Time
	err = k.change(ctx, now, by, func(p *plan) error {
		of := kind{UseAccess, alg}
		l := p.sequence(of)
		if len(l) == 0 {
			if _, err := p.add(of, now.Add(k.c.Policy.JWKSMaxAge+PropagationTime)); err != nil {
				return err
			}
		}
		if err := p.addMissing(); err != nil {
			return err
		}
		if l = p.sequence(of); l.current(now) != nil {
			from = now
		} else {
			from = l[slices.IndexFunc(l, func(k *StoredKey) bool { return !k.ActiveAt.IsZero() })].ActiveAt
		}
		return nil
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("keyring: create key for %s: %w", alg, err)
	}
	return from, nil
}
