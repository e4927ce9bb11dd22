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
	// pollInterval is how often a keeper asks whether the keys have changed
	// without being woken.
	pollInterval = time.Second
	// askTimeout bounds the question whether they have, and changeTimeout making
	// a change: to generate an RSA key takes a while.
	askTimeout    = 3 * time.Second
	changeTimeout = 20 * time.Second
)

// KeeperConfig is what a [Keeper] is made of. All fields but Log are required.
type KeeperConfig struct {
	Ring   *Ring
	Policy Policy
	// Clock returns the time as far as this replica knows it, to see whether something
	// is due. DatabaseClock asks the database, by whose time the keys are changed.
	Clock         func() time.Time
	DatabaseClock func(ctx context.Context) (time.Time, error)
	// Log is told what [Keeper.Run] does by itself.
	Log *slog.Logger
}

// Keeper keeps a ring up to date and has its keys take over from each other,
// beside any number of others on the same database. It is safe for concurrent
// use.
type Keeper struct {
	c    KeeperConfig
	wake chan struct{}
	// unusable is why the keys in the database cannot be used; nil while they can.
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

// Wake has [Keeper.Run] look at once whether the keys have changed.
func (k *Keeper) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Unusable returns why the keys in the database cannot be used, or nil while they
// can: they are sealed with a master key that this replica does not have, for
// example. Then tokens of other replicas are refused here, so this replica should
// get no requests. [Keeper.Run] finds out; a database that does not answer leaves
// it as it is.
func (k *Keeper) Unusable() error {
	if err := k.unusable.Load(); err != nil {
		return *err
	}
	return nil
}

// Run follows the keys of the database, once a second and whenever it is woken,
// and does what is due, until ctx is done.
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
	if err := k.ReloadIfChanged(asking); err != nil {
		if ctx.Err() == nil && asking.Err() != nil {
			err = &auth.Error{Code: auth.StorageUnavailable, Err: err}
		}
		return err
	}
	changing, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	return k.ApplyPolicy(changing)
}

// CatchUp calls [Keeper.ReloadIfChanged] and then [Keeper.ApplyPolicy]: afterwards
// the ring has the keys of the database, and each key that the ring remembers as
// retired is retired in the database.
func (k *Keeper) CatchUp(ctx context.Context) error {
	if err := k.ReloadIfChanged(ctx); err != nil {
		return err
	}
	return k.ApplyPolicy(ctx)
}

// ReloadIfChanged reads the keys if they have changed.
//
// Errors: [auth.StorageUnavailable], and those of a key that is not as it should
// be; the ring keeps the keys it has, less what others have retired.
func (k *Keeper) ReloadIfChanged(ctx context.Context) error { return k.c.Ring.reloadIfChanged(ctx) }

// ApplyPolicy makes missing keys, promotes the next key and retires previous ones, as
// the policy says. It also retires keys again whose retirement the database has lost.
// When nothing is due, it does not ask the database.
func (k *Keeper) ApplyPolicy(ctx context.Context) error {
	if d := k.c.Policy.due(k.c.Ring.keys.Load().rows, k.c.Clock()); d.empty() && !k.c.Ring.lostRetirement() {
		return nil
	}
	now, err := k.now(ctx)
	if err != nil {
		return err
	}
	d := k.c.Policy.due(k.c.Ring.keys.Load().rows, now)
	if d.empty() && !k.c.Ring.lostRetirement() {
		return nil // not by the database's clock
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

// change retires keys again whose retirement the database has lost, and then changes
// the keys as do says.
func (k *Keeper) change(ctx context.Context, now time.Time, by auth.AuditEvent, do func(*plan) error) error {
	return k.c.Ring.change(ctx, k.c.Policy, now, by, do)
}

// now returns the database's time as stores keep it.
func (k *Keeper) now(ctx context.Context) (time.Time, error) {
	t, err := k.c.DatabaseClock(ctx)
	return t.UTC().Truncate(time.Microsecond), err
}

// Keys returns all keys, the retired ones too, as the database has them now; see
// [Describe] for their order.
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

// RotateRequest says which keys are to take over.
type RotateRequest struct {
	// Use and Alg narrow it to the keys of a use, of an algorithm; empty is any.
	Use Use
	Alg string
	// Now has a signing key sign at once, although validators may not know it
	// yet. Without it, a key that is too young takes over when it is old enough.
	Now bool
	// By tells the audit trail who asks and why: Actor, Reason, RequestID.
	By auth.AuditEvent
}

// Rotate has the next keys take over. It returns those that do or will: their
// ActiveAt says when. While one of a kind is on its way already, that one is
// returned and nothing changes, unless it is to sign at once.
//
// Errors: [auth.InvalidRequest] when there are no such keys, [auth.KeyInUse]
// when there are too many already, [auth.StorageUnavailable].
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
	// Compromised says that somebody else may have the key: it ends at once, and
	// with it whatever it signed.
	Compromised bool
	// By tells the audit trail who asks and why: Actor, Reason, RequestID.
	By auth.AuditEvent
}

// Retirement is what became of it.
type Retirement struct {
	// Key is the key that was retired.
	Key Key
	// Current is the key of its kind that signs now, or nil while one of the
	// default algorithm does. Pending is the one that will take over from it, if
	// one is on its way.
	Current, Pending *Key
	// SessionsEnded says that all sessions of all apps have ended.
	SessionsEnded bool
}

// Retire retires a key, and has another one take over if it signs. It is
// harmless to repeat.
//
// Errors: [auth.NotFound] when there is no such key; [auth.KeyInUse], unless it
// is compromised, while it signs or what it signed may be good: the description
// says until when; [auth.StorageUnavailable].
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
			// That it had leaked is known only now. A MAC key that is retired
			// signs nothing that anybody takes.
			p.change.Compromised = append(p.change.Compromised, r.KID)
			p.recordEvent(auth.AuditKeyRetired, found, map[string]any{"compromised": true})
		case r.Compromised && found.Use == UseRefresh && slices.Contains(p.retiredAgain, r.KID):
			// The database had it back until now, and other replicas may have used it.
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

// EnsureKeys makes keys of an algorithm, if there are none yet, and returns from
// when on they sign: when validators know them. Until then tokens of apps that
// chose it are signed by the default algorithm.
//
// Errors: [auth.InvalidRequest] for an algorithm that is none,
// [auth.StorageUnavailable].
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
