package keyring_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/token"
)

const (
	next     = keyring.Next
	current  = keyring.Current
	previous = keyring.Previous
	retired  = keyring.Retired
)

// uses are the uses of keys, with the age from which a next key may sign, and the time
// for which its tokens are valid.
var uses = map[keyring.Use]struct{ ripe, life time.Duration }{
	keyring.UseAccess:  {takeoverAge, auth.MaxAccessTokenTTL},
	keyring.UseRefresh: {keyring.PropagationTime, policy.SessionMaxTTL},
}

func TestAutomaticRotation(t *testing.T) {
	t.Parallel()
	for use, of := range uses {
		t.Run("the "+string(use)+" key is rotated when it is due, once for all replicas", func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3, policy)
			was, successor := f.in(use, current), f.in(use, next)
			f.pass(policy.Rotation - time.Microsecond)
			f.applyPolicy()
			f.wantStates(use, current, next)
			f.pass(time.Microsecond)
			f.applyPolicy()
			f.wantStates(use, previous, current, next)
			if got := f.in(use, current); got.KID != successor.KID || !got.ActiveAt.Equal(f.now) {
				t.Errorf("current key = %+v, want the former next key", got)
			}
			if got := f.in(use, previous); got.KID != was.KID || !got.RetiresAt.Equal(f.now.Add(of.life+keyring.PropagationTime)) {
				t.Errorf("previous key = %+v", got)
			}
		})
		t.Run("the previous "+string(use)+" key is retired when its tokens have expired", func(t *testing.T) {
			t.Parallel()
			// With one rotation, so that there is one previous key.
			p := policy
			p.Rotation = 30 * 24 * time.Hour
			f := newFleet(t, 2, p)
			was := f.in(use, current)
			f.pass(p.Rotation)
			f.applyPolicy()
			f.pass(of.life + keyring.PropagationTime - time.Microsecond)
			f.applyPolicy()
			f.wantStates(use, previous, current, next)
			if len(f.row(was.KID).Sealed) == 0 {
				t.Error("the previous key was wiped too early")
			}
			f.pass(time.Microsecond)
			f.applyPolicy()
			f.wantStates(use, retired, current, next)
			if row := f.row(was.KID); len(row.Sealed) != 0 || !row.RetiredAt.Equal(f.now) || (len(row.Public) > 0) != (use == keyring.UseAccess) {
				t.Errorf("row = %+v, want the private key wiped and the public key kept", row)
			}
			if n := len(f.cutoffs()); n != 0 {
				t.Errorf("%d cutoffs, want 0", n)
			}
			for i, r := range f.replicas {
				if published(t, r.Ring)[was.KID] != nil {
					t.Errorf("replica %d publishes the retired key", i)
				}
			}
		})
	}
	t.Run("a rotation waits until validators know the next key", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(policy.Rotation - time.Minute)
		f.rotate(keyring.RotateRequest{Now: true}) // the new next key is not known yet
		f.retire(f.in(keyring.UseAccess, current).KID, true)
		f.wantStates(keyring.UseAccess, retired, current, next, next)
		f.pass(2 * time.Minute)
		f.applyPolicy()
		f.wantStates(keyring.UseAccess, retired, current, next, next)
	})
	t.Run("without rotation only previous keys are retired", func(t *testing.T) {
		t.Parallel()
		p := policy
		p.Rotation = 0
		f := newFleet(t, 1, p)
		f.pass(10 * 365 * 24 * time.Hour)
		f.applyPolicy()
		f.wantStates(keyring.UseAccess, current, next)
		f.rotate(keyring.RotateRequest{})
		f.pass(auth.MaxAccessTokenTTL + keyring.PropagationTime)
		f.applyPolicy()
		f.wantStates(keyring.UseAccess, retired, current, next)
		f.wantStates(keyring.UseRefresh, previous, current, next)
	})
	t.Run("rotation uses the database's clock, not a wrong one", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.rotate(keyring.RotateRequest{Now: true})
		f.pass(time.Minute)
		before := stored(t, f.replicas[0].store)
		wrong := f.start(365 * 24 * time.Hour)
		if err := wrong.ApplyPolicy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := stored(t, f.replicas[0].store); len(after) != len(before) {
			t.Error("the call made keys")
		}
		f.wantStates(keyring.UseRefresh, previous, current, next)
	})
	t.Run("many replicas at once make one rotation", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 8, policy)
		f.pass(policy.Rotation)
		var wg sync.WaitGroup
		errs := make([]error, len(f.replicas))
		for i, r := range f.replicas {
			wg.Go(func() { errs[i] = r.ApplyPolicy(t.Context()) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		f.follow()
		f.wantStates(keyring.UseAccess, previous, current, next)
		f.wantStates(keyring.UseRefresh, previous, current, next)
		f.signs(f.in(keyring.UseAccess, current).KID)
	})
	t.Run("the database is not asked while nothing is due", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.replicas[0].ApplyPolicy(ctx); err != nil {
			t.Errorf("ApplyPolicy() = %v, want nil without a query", err)
		}
	})
	t.Run("rotations are audited", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		was := f.in(keyring.UseAccess, current)
		f.pass(policy.Rotation)
		f.applyPolicy()
		f.pass(auth.MaxAccessTokenTTL + keyring.PropagationTime)
		f.applyPolicy()
		for _, action := range []auth.AuditAction{auth.AuditKeyPromoted, auth.AuditKeyRetired} {
			if n := f.audited(action, auth.ActorService, "", was.KID); (n == 1) != (action == auth.AuditKeyRetired) {
				t.Errorf("%d events %s of the first key, want 1", n, action)
			}
		}
		// There were two keys of each use at first, and each rotation made one.
		if n := f.audited(auth.AuditKeyCreated, auth.ActorService, "", ""); n != 6 {
			t.Errorf("%d keys created, want 6", n)
		}
	})
}

// audited counts events; an empty kid is any.
func (f *fleet) audited(action auth.AuditAction, actor, reason, kid string) (n int) {
	f.t.Helper()
	db, err := sql.Open("sqlite", "file:"+f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	err = db.QueryRowContext(f.t.Context(), `select count(*) from audit where action = ? and actor = ? and reason = ?
and (? = '' or detail ->> 'kid' = ?)`, string(action), actor, reason, kid, kid).Scan(&n)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// slow is a little less than the time that a replica may take to learn of a change.
const slow = keyring.PropagationTime - time.Microsecond

func TestLateReplica(t *testing.T) {
	t.Parallel()
	t.Run("a key that is published late is in every copy of the JWK set when it signs", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		f.rotate(keyring.RotateRequest{})
		// The next key was made now, and replica 1 has not read it.
		late := f.replicas[1]
		f.retire(f.in(keyring.UseAccess, next).KID, false)
		made := f.in(keyring.UseAccess, next)
		if late.Reload(t.Context()) != nil {
			t.Fatal("the replica did not reload")
		}
		promoted, err := f.replicas[0].Rotate(t.Context(), keyring.RotateRequest{Use: keyring.UseAccess})
		if err != nil || promoted[0].KID != made.KID {
			t.Fatalf("Rotate() = %+v, %v; want the key %s", promoted, err, made.KID)
		}
		if copied := f.now.Add(slow + policy.JWKSMaxAge); !promoted[0].ActiveAt.After(copied) {
			t.Errorf("the key signs from %s, but a copy without it may be kept until %s", promoted[0].ActiveAt, copied)
		}
	})
	t.Run("a late replica signs with a previous key that others still accept", func(t *testing.T) {
		t.Parallel()
		for use, of := range uses {
			f := newFleet(t, 1, policy)
			f.pass(takeoverAge)
			was := f.in(use, current)
			f.rotate(keyring.RotateRequest{})
			f.pass(slow + of.life)
			f.applyPolicy()
			if row := f.row(was.KID); !row.RetiredAt.IsZero() {
				t.Errorf("the %s key is retired", use)
			}
		}
	})
	t.Run("a late replica knows a MAC key before another replica signs with it", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.rotate(keyring.RotateRequest{Use: keyring.UseRefresh, Now: true})
		f.pass(slow)
		f.wantStates(keyring.UseRefresh, current, next, next)
	})
}

func TestRotate(t *testing.T) {
	t.Parallel()
	t.Run("the next keys sign at once if validators know them", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		was := f.in(keyring.UseAccess, next)
		f.pass(takeoverAge)
		keys := f.rotate(keyring.RotateRequest{})
		if len(keys) != 2 || keys[0].KID != was.KID || !keys[0].ActiveAt.Equal(f.now) || keys[0].State != current {
			t.Errorf("Rotate() = %+v, want two keys, the next key as the current one first", keys)
		}
		f.signs(was.KID)
		f.wantStates(keyring.UseAccess, previous, current, next)
		f.wantStates(keyring.UseRefresh, previous, current, next)
	})
	for use, of := range uses {
		t.Run("a new "+string(use)+" key signs when it is known everywhere", func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, policy)
			was := f.in(use, next)
			f.pass(of.ripe - time.Second)
			keys := f.rotate(keyring.RotateRequest{Use: use})
			if len(keys) != 1 || keys[0].KID != was.KID || !keys[0].ActiveAt.Equal(f.now.Add(time.Second)) || keys[0].State != next {
				t.Errorf("Rotate() = %+v, want the next key, active in a second", keys)
			}
			f.wantStates(use, current, next, next)
			t.Run("a second call changes nothing", func(t *testing.T) {
				before := stored(t, f.replicas[0].store)
				if again := f.rotate(keyring.RotateRequest{Use: use}); len(again) != 1 || again[0] != keys[0] {
					t.Errorf("second Rotate() = %+v, want %+v", again, keys)
				}
				if after := stored(t, f.replicas[0].store); len(after) != len(before) {
					t.Error("the call made keys")
				}
			})
			f.pass(time.Second)
			if got := f.in(use, current); got.KID != was.KID {
				t.Errorf("current key = %+v, want the promoted one", got)
			}
			f.wantStates(use, previous, current, next)
		})
	}
	t.Run("with Now a signing key signs at once, and a MAC key when the replicas know it", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(time.Second)
		keys := f.rotate(keyring.RotateRequest{Now: true})
		if len(keys) != 2 || keys[0].Use != keyring.UseAccess || !keys[0].ActiveAt.Equal(f.now) || !keys[0].KnownAt.Equal(now.Add(takeoverAge)) {
			t.Errorf("Rotate() = %+v, want two keys, the access key active now first", keys)
		}
		if keys[1].Use != keyring.UseRefresh || !keys[1].ActiveAt.Equal(now.Add(keyring.PropagationTime)) {
			t.Errorf("Rotate() = %+v, want the refresh key second, active when the replicas know it", keys)
		}
	})
	t.Run("with Now a promoted key signs earlier", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(time.Second)
		later := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess})[0]
		f.pass(time.Second)
		sooner := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess, Now: true})[0]
		if sooner.KID != later.KID || !sooner.ActiveAt.Equal(f.now) {
			t.Errorf("Rotate() with Now = %+v, want an earlier ActiveAt", sooner)
		}
		f.signs(sooner.KID)
		f.wantStates(keyring.UseAccess, previous, current, next)
	})
	t.Run("after two rotations at once the second key signs", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(time.Second)
		for range 5 {
			k := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess, Now: true})[0]
			f.pass(time.Microsecond)
			f.signs(k.KID)
			f.pass(-time.Microsecond)
		}
	})
	t.Run("an unknown kind of key is refused", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for _, q := range []keyring.RotateRequest{{Use: "other"}, {Alg: "RS256"}, {Use: keyring.UseRefresh, Alg: "ES256"}} {
			if _, err := f.replicas[0].Rotate(t.Context(), q); auth.CodeOf(err) != auth.InvalidRequest {
				t.Errorf("Rotate(%+v) error = %v, want %v", q, err, auth.InvalidRequest)
			}
		}
	})
	t.Run("the number of published keys is bounded", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		var err error
		n := 0
		for ; err == nil && n < 200; n++ {
			f.pass(time.Second)
			_, err = f.replicas[0].Rotate(t.Context(), keyring.RotateRequest{Use: keyring.UseAccess, Now: true})
		}
		if auth.CodeOf(err) != auth.KeyInUse || len(published(t, f.replicas[0].Ring)) > 100 || n < 20 {
			t.Errorf("after %d: %v, %d keys are published", n, err, len(published(t, f.replicas[0].Ring)))
		}
		// A compromised key can still be replaced.
		f.retire(signingKID(t, f.replicas[0].Ring, f.now), true)
	})
}

func TestEnsureKeys(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"EdDSA", "RS256"} {
		t.Run(alg+" keys sign when validators know them, and until then the default ones do", func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, policy)
			by := auth.AuditEvent{Actor: auth.ActorCLI}
			from, err := f.replicas[0].EnsureKeys(t.Context(), alg, by)
			if err != nil || !from.Equal(f.now.Add(takeoverAge)) {
				t.Fatalf("EnsureKeys() = %v, %v", from, err)
			}
			again, err := f.replicas[1].EnsureKeys(t.Context(), alg, by)
			if err != nil || !again.Equal(from) {
				t.Errorf("second EnsureKeys() = %v, %v, want %v", again, err, from)
			}
			f.follow()
			sign := func() token.SigningKey {
				t.Helper()
				k, err := f.replicas[1].CurrentSigningKey(alg, f.now)
				if err != nil {
					t.Fatal(err)
				}
				return k
			}
			f.pass(takeoverAge - time.Microsecond)
			if k := sign(); k.Alg != token.DefaultAlg {
				t.Errorf("%s signs too early", k.Alg)
			}
			f.pass(time.Microsecond)
			k := sign()
			if _, verifyAlg, ok := f.replicas[0].VerificationKey(k.KID); k.Alg != alg || verifyAlg != alg || !ok {
				t.Errorf("%s signs, verified by %s", k.Alg, verifyAlg)
			}
			if now, err := f.replicas[0].EnsureKeys(t.Context(), alg, by); err != nil || !now.Equal(f.now) {
				t.Errorf("EnsureKeys() when the keys sign = %v, %v", now, err)
			}
			// They rotate like all other keys.
			f.pass(policy.Rotation)
			f.applyPolicy()
			if after := sign(); after.Alg != alg || after.KID == k.KID {
				t.Errorf("%s %s signs after the rotation", after.Alg, after.KID)
			}
			f.retire(sign().KID, true)
			if after := sign(); after.KID != k.KID {
				t.Errorf("%s %s signs, want the previous key", after.Alg, after.KID)
			}
		})
	}
	t.Run("an unknown algorithm is refused", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for _, alg := range []string{"", "none", "HS256", "ES384"} {
			if _, err := f.replicas[0].EnsureKeys(t.Context(), alg, auth.AuditEvent{}); auth.CodeOf(err) != auth.InvalidRequest {
				t.Errorf("%q: error = %v, want %v", alg, err, auth.InvalidRequest)
			}
		}
	})
	t.Run("the default algorithm signs while an algorithm has no key to sign with", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		if _, err := f.replicas[0].EnsureKeys(t.Context(), "EdDSA", auth.AuditEvent{}); err != nil {
			t.Fatal(err)
		}
		f.pass(takeoverAge)
		f.rotate(keyring.RotateRequest{Alg: "EdDSA"})
		f.pass(time.Second)
		for range 2 {
			k, err := f.replicas[0].CurrentSigningKey("EdDSA", f.now)
			if err != nil || k.Alg != "EdDSA" {
				t.Fatalf("CurrentSigningKey() = %+v, %v", k, err)
			}
			f.retire(k.KID, true)
		}
		if k, err := f.replicas[0].CurrentSigningKey("EdDSA", f.now); err != nil || k.Alg != token.DefaultAlg {
			t.Errorf("CurrentSigningKey() = %+v, %v", k, err)
		}
		f.pass(takeoverAge)
		if k, err := f.replicas[0].CurrentSigningKey("EdDSA", f.now); err != nil || k.Alg != "EdDSA" {
			t.Errorf("CurrentSigningKey() = %+v, %v", k, err)
		}
	})
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	if err := keyring.DefaultPolicy.Check(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		change func(*keyring.Policy)
		says   string
	}{
		"no max-age":             {func(p *keyring.Policy) { p.JWKSMaxAge = 0 }, "max-age of the JWK set"},
		"a max-age over a day":   {func(p *keyring.Policy) { p.JWKSMaxAge = 25 * time.Hour }, "max-age of the JWK set"},
		"a fraction of a second": {func(p *keyring.Policy) { p.JWKSMaxAge = 1500 * time.Millisecond }, "whole seconds"},
		"too many keys":          {func(p *keyring.Policy) { p.Rotation = time.Minute }, "rotation must be 0 or at least"},
		"a negative rotation":    {func(p *keyring.Policy) { p.Rotation = -time.Hour }, "rotation must be 0 or at least"},
		"keys not yet known":     {func(p *keyring.Policy) { p.Rotation, p.JWKSMaxAge = 2*time.Hour, 2*time.Hour }, "longer than"},
	} {
		p := keyring.DefaultPolicy
		c.change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: Check() error = %v, want %q in it", name, err, c.says)
		}
		if _, err := keyring.NewKeeper(keyring.KeeperConfig{Policy: p}); err == nil {
			t.Errorf("%s: NewKeeper() error = nil, want an error", name)
		}
	}
}

func TestCurrentAge(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, policy)
	r := f.replicas[0]
	f.pass(takeoverAge)
	if got := r.CurrentAge(keyring.UseAccess, "ES256", f.now); got != takeoverAge {
		t.Errorf("CurrentAge() = %s, want %s", got, takeoverAge)
	}
	f.rotate(keyring.RotateRequest{})
	for at, want := range map[time.Duration]time.Duration{0: 0, time.Minute: time.Minute, -time.Second: takeoverAge - time.Second} {
		if got := r.CurrentAge(keyring.UseRefresh, keyring.AlgMAC, f.now.Add(at)); got != want {
			t.Errorf("CurrentAge() after %s = %s", at, got)
		}
	}
	if got := r.CurrentAge(keyring.UseAccess, "RS256", f.now); got != 0 {
		t.Errorf("CurrentAge() without a key = %s, want 0", got)
	}
	if !slices.Contains(f.states(keyring.UseAccess), previous) {
		t.Error("nothing was rotated")
	}
}
