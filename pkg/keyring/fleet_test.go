package keyring_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

// policy is the policy of the tests, with sessions of at most a day.
var policy = keyring.Policy{Rotation: 2 * time.Hour, JWKSMaxAge: 5 * time.Minute, SessionMaxTTL: 24 * time.Hour}

// takeoverAge is the age from which a next signing key may sign.
var takeoverAge = policy.JWKSMaxAge + keyring.PropagationTime

// fleet is a number of replicas on one database, whose clock is now.
type fleet struct {
	t        *testing.T
	now      time.Time
	path     string
	policy   keyring.Policy
	replicas []*replica
}

// replica is one process: its own connection to the database, its own memory,
// its own clock.
type replica struct {
	*keyring.Ring
	*keyring.Keeper
	store *sqlite.Store
	// skew is how far its clock is ahead.
	skew time.Duration
	// applied counts how often the store applied cutoffs.
	applied int
	heard   time.Time
}

func newFleet(t *testing.T, n int, p keyring.Policy) *fleet {
	t.Helper()
	f := &fleet{t: t, now: now, path: filepath.Join(t.TempDir(), "yufu.db"), policy: p}
	for range n {
		f.start(0)
	}
	return f
}

// start starts one more replica.
func (f *fleet) start(skew time.Duration) *replica {
	f.t.Helper()
	r := &replica{store: openFile(f.t, f.path), skew: skew, heard: f.now}
	r.Ring = open(f.t, db.ApplyCutoffs(r.store, func(context.Context) { r.applied++ }), f.now)
	var err error
	r.Keeper, err = keyring.NewKeeper(keyring.KeeperConfig{
		Ring: r.Ring, Policy: f.policy,
		Clock:         func() time.Time { return f.now.Add(r.skew) },
		DatabaseClock: func(context.Context) (time.Time, error) { return f.now, nil },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.replicas = append(f.replicas, r)
	return r
}

// pass lets time pass.
func (f *fleet) pass(d time.Duration) { f.now = f.now.Add(d) }

// follow makes all replicas read the changes of the others.
func (f *fleet) follow() {
	f.t.Helper()
	for _, r := range f.replicas {
		if err := r.ReloadIfChanged(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
}

// applyPolicy makes each replica apply the policy, without reading the changes of the
// others in between.
func (f *fleet) applyPolicy() {
	f.t.Helper()
	for _, r := range f.replicas {
		if err := r.ApplyPolicy(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
	f.follow()
}

// keys returns the keys of a use as admins see them.
func (f *fleet) keys(use keyring.Use) []keyring.Key {
	f.t.Helper()
	all, err := f.replicas[0].Keys(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(k keyring.Key) bool { return k.Use != use })
}

// in returns the one key of a use and state.
func (f *fleet) in(use keyring.Use, state keyring.State) keyring.Key {
	f.t.Helper()
	var found []keyring.Key
	for _, k := range f.keys(use) {
		if k.State == state {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		f.t.Fatalf("%d %s %s keys: %+v", len(found), state, use, f.keys(use))
	}
	return found[0]
}

// states returns the states of the keys of a use, in their order.
func (f *fleet) states(use keyring.Use) (out []keyring.State) {
	f.t.Helper()
	for _, k := range f.keys(use) {
		out = append(out, k.State)
	}
	return out
}

func (f *fleet) wantStates(use keyring.Use, want ...keyring.State) {
	f.t.Helper()
	if got := f.states(use); !slices.Equal(got, want) {
		f.t.Fatalf("%s keys are %v, want %v", use, got, want)
	}
}

// rotate asks one replica to rotate.
func (f *fleet) rotate(q keyring.RotateRequest) []keyring.Key {
	f.t.Helper()
	q.By = auth.AuditEvent{Actor: auth.ActorCLI}
	keys, err := f.replicas[0].Rotate(f.t.Context(), q)
	if err != nil {
		f.t.Fatal(err)
	}
	f.follow()
	return keys
}

// retire asks one replica to retire a key.
func (f *fleet) retire(kid string, compromised bool) keyring.Retirement {
	f.t.Helper()
	out, err := f.tryRetire(kid, compromised)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func (f *fleet) tryRetire(kid string, compromised bool) (keyring.Retirement, error) {
	f.t.Helper()
	out, err := f.replicas[0].Retire(f.t.Context(), keyring.RetireRequest{
		KID: kid, Compromised: compromised,
		By: auth.AuditEvent{Actor: auth.ActorCLI, Reason: "it leaked", RequestID: "req-1"},
	})
	f.follow()
	return out, err
}

// refused checks that the retirement of a key is refused, and returns the reason.
func (f *fleet) refused(kid string) string {
	f.t.Helper()
	_, err := f.tryRetire(kid, false)
	var e *auth.Error
	if !errors.As(err, &e) || e.Code != auth.KeyInUse || e.Description == "" {
		f.t.Fatalf("Retire() error = %v, want %v with a description", err, auth.KeyInUse)
	}
	return e.Description
}

// signs checks that all replicas sign with a key.
func (f *fleet) signs(kid string) {
	f.t.Helper()
	for i, r := range f.replicas {
		if got := signingKID(f.t, r.Ring, f.now); got != kid {
			f.t.Errorf("replica %d signs with %s, want %s", i, got, kid)
		}
	}
}

// row returns the stored key.
func (f *fleet) row(kid string) keyring.StoredKey {
	f.t.Helper()
	all := stored(f.t, f.replicas[0].store)
	i := slices.IndexFunc(all, func(k keyring.StoredKey) bool { return k.KID == kid })
	if i < 0 {
		f.t.Fatalf("no key %s", kid)
	}
	return all[i]
}

// cutoffs returns the cutoffs in the database.
func (f *fleet) cutoffs() []auth.Cutoff {
	f.t.Helper()
	b, err := f.replicas[0].store.Cutoffs(f.t.Context(), 0, 100)
	if err != nil {
		f.t.Fatal(err)
	}
	return b.Cutoffs
}
