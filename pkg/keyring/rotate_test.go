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

// uses are the uses of keys, with how old a next key must be to take over, and
// how long what it signed is good.
var uses = map[keyring.Use]struct{ ripe, life time.Duration }{
	keyring.UseAccess:  {takeoverAge, auth.MaxAccessTokenTTL},
	keyring.UseRefresh: {keyring.PropagationTime, policy.SessionMaxTTL},
}

func TestAutomaticRotation(t *testing.T) {
	t.Parallel()
	for use, of := range uses {
		t.Run("of the "+string(use)+" key comes when its time is over, once for all replicas", func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3, policy)
			was, successor := f.in(use, current), f.in(use, next)
			f.pass(policy.Rotation - time.Microsecond)
			f.tend()
			f.wantStates(use, current, next)
			f.pass(time.Microsecond)
			f.tend()
			f.wantStates(use, previous, current, next)
			if got := f.in(use, current); got.KID != successor.KID || !got.ActiveAt.Equal(f.now) {
				t.Errorf("current is %+v, want what was next", got)
			}
			if got := f.in(use, previous); got.KID != was.KID || !got.RetiresAt.Equal(f.now.Add(of.life+keyring.PropagationTime)) {
				t.Errorf("previous is %+v", got)
			}
		})
		t.Run("of the "+string(use)+" key retires the previous one when nothing is left of what it signed", func(t *testing.T) {
			t.Parallel()
			// Once only, or there would be more of them.
			p := policy
			p.Rotation = 30 * 24 * time.Hour
			f := newFleet(t, 2, p)
			was := f.in(use, current)
			f.pass(p.Rotation)
			f.tend()
			f.pass(of.life + keyring.PropagationTime - time.Microsecond)
			f.tend()
			f.wantStates(use, previous, current, next)
			if len(f.row(was.KID).Sealed) == 0 {
				t.Error("it is wiped")
			}
			f.pass(time.Microsecond)
			f.tend()
			f.wantStates(use, retired, current, next)
			if row := f.row(was.KID); len(row.Sealed) != 0 || !row.RetiredAt.Equal(f.now) || (len(row.Public) > 0) != (use == keyring.UseAccess) {
				t.Errorf("row %+v, want it wiped and the public half kept", row)
			}
			if n := len(f.cutoffs()); n != 0 {
				t.Errorf("%d cutoffs", n)
			}
			for i, r := range f.replicas {
				if published(t, r.Ring)[was.KID] != nil {
					t.Errorf("replica %d publishes it", i)
				}
			}
		})
	}
	t.Run("waits until everybody knows the next key", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(policy.Rotation - time.Minute)
		f.rotate(keyring.RotateRequest{Now: true}) // the one that is next now is new
		f.retire(f.in(keyring.UseAccess, current).KID, true)
		f.wantStates(keyring.UseAccess, retired, current, next, next)
		f.pass(2 * time.Minute)
		f.tend()
		f.wantStates(keyring.UseAccess, retired, current, next, next)
	})
	t.Run("can be off, and then only what is left over is retired", func(t *testing.T) {
		t.Parallel()
		p := policy
		p.Rotation = 0
		f := newFleet(t, 1, p)
		f.pass(10 * 365 * 24 * time.Hour)
		f.tend()
		f.wantStates(keyring.UseAccess, current, next)
		f.rotate(keyring.RotateRequest{})
		f.pass(auth.MaxAccessTokenTTL + keyring.PropagationTime)
		f.tend()
		f.wantStates(keyring.UseAccess, retired, current, next)
		f.wantStates(keyring.UseRefresh, previous, current, next)
	})
	t.Run("goes by the database's clock, not by one that is wrong", func(t *testing.T) {
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
			t.Error("it made keys")
		}
		f.wantStates(keyring.UseRefresh, previous, current, next)
	})
	t.Run("by many replicas at once is one rotation", func(t *testing.T) {
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
	t.Run("asks nobody while nothing is due", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.replicas[0].ApplyPolicy(ctx); err != nil {
			t.Errorf("%v: it asked the database", err)
		}
	})
	t.Run("is in the audit trail", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		was := f.in(keyring.UseAccess, current)
		f.pass(policy.Rotation)
		f.tend()
		f.pass(auth.MaxAccessTokenTTL + keyring.PropagationTime)
		f.tend()
		for _, action := range []auth.AuditAction{auth.AuditKeyPromoted, auth.AuditKeyRetired} {
			if n := f.audited(action, auth.ActorService, "", was.KID); (n == 1) != (action == auth.AuditKeyRetired) {
				t.Errorf("%d events %s of the first key", n, action)
			}
		}
		// Two were there at first of each use; each rotation made one.
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

// slow is a little less than how long a replica may take to hear of a change.
const slow = keyring.PropagationTime - time.Microsecond

func TestLateReplica(t *testing.T) {
	t.Parallel()
	t.Run("publishes a key late, and yet every copy of its JWK set has it when it signs", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		f.rotate(keyring.RotateRequest{})
		// The next key was made at this moment, and replica 1 has not heard.
		late := f.replicas[1]
		f.retire(f.in(keyring.UseAccess, next).KID, false)
		made := f.in(keyring.UseAccess, next)
		if late.Reload(t.Context()) != nil {
			t.Fatal("no reload")
		}
		promoted, err := f.replicas[0].Rotate(t.Context(), keyring.RotateRequest{Use: keyring.UseAccess})
		if err != nil || promoted[0].KID != made.KID {
			t.Fatalf("%+v, %v", promoted, err)
		}
		if copied := f.now.Add(slow + policy.JWKSMaxAge); !promoted[0].ActiveAt.After(copied) {
			t.Errorf("it signs at %s, and a copy from before it was published may be kept until %s", promoted[0].ActiveAt, copied)
		}
	})
	t.Run("signs on with a previous key, which is known as long as that is good", func(t *testing.T) {
		t.Parallel()
		for use, of := range uses {
			f := newFleet(t, 1, policy)
			f.pass(takeoverAge)
			was := f.in(use, current)
			f.rotate(keyring.RotateRequest{})
			f.pass(slow + of.life)
			f.tend()
			if row := f.row(was.KID); !row.RetiredAt.IsZero() {
				t.Errorf("the %s key is retired", use)
			}
		}
	})
	t.Run("knows a MAC key before another one signs with it", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.rotate(keyring.RotateRequest{Use: keyring.UseRefresh, Now: true})
		f.pass(slow)
		f.wantStates(keyring.UseRefresh, current, next, next)
	})
}

func TestRotate(t *testing.T) {
	t.Parallel()
	t.Run("has the next keys take over at once, if everybody knows them", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		was := f.in(keyring.UseAccess, next)
		f.pass(takeoverAge)
		keys := f.rotate(keyring.RotateRequest{})
		if len(keys) != 2 || keys[0].KID != was.KID || !keys[0].ActiveAt.Equal(f.now) || keys[0].State != current {
			t.Errorf("%+v", keys)
		}
		f.signs(was.KID)
		f.wantStates(keyring.UseAccess, previous, current, next)
		f.wantStates(keyring.UseRefresh, previous, current, next)
	})
	for use, of := range uses {
		t.Run("has a "+string(use)+" key that is too young take over when it is not", func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, policy)
			was := f.in(use, next)
			f.pass(of.ripe - time.Second)
			keys := f.rotate(keyring.RotateRequest{Use: use})
			if len(keys) != 1 || keys[0].KID != was.KID || !keys[0].ActiveAt.Equal(f.now.Add(time.Second)) || keys[0].State != next {
				t.Errorf("%+v", keys)
			}
			f.wantStates(use, current, next, next)
			t.Run("which asking again does not change", func(t *testing.T) {
				before := stored(t, f.replicas[0].store)
				if again := f.rotate(keyring.RotateRequest{Use: use}); len(again) != 1 || again[0] != keys[0] {
					t.Errorf("%+v, want %+v", again, keys)
				}
				if after := stored(t, f.replicas[0].store); len(after) != len(before) {
					t.Error("it made keys")
				}
			})
			f.pass(time.Second)
			if got := f.in(use, current); got.KID != was.KID {
				t.Errorf("current is %+v", got)
			}
			f.wantStates(use, previous, current, next)
		})
	}
	t.Run("now has a signing key sign at once, and a MAC key when the replicas know it", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(time.Second)
		keys := f.rotate(keyring.RotateRequest{Now: true})
		if len(keys) != 2 || keys[0].Use != keyring.UseAccess || !keys[0].ActiveAt.Equal(f.now) || !keys[0].KnownAt.Equal(now.Add(takeoverAge)) {
			t.Errorf("%+v", keys)
		}
		if keys[1].Use != keyring.UseRefresh || !keys[1].ActiveAt.Equal(now.Add(keyring.PropagationTime)) {
			t.Errorf("%+v", keys)
		}
	})
	t.Run("now brings forward what was to come later", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(time.Second)
		later := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess})[0]
		f.pass(time.Second)
		sooner := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess, Now: true})[0]
		if sooner.KID != later.KID || !sooner.ActiveAt.Equal(f.now) {
			t.Errorf("%+v", sooner)
		}
		f.signs(sooner.KID)
		f.wantStates(keyring.UseAccess, previous, current, next)
	})
	t.Run("twice in a moment has the second take over", func(t *testing.T) {
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
	t.Run("of what there is none is refused", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for _, q := range []keyring.RotateRequest{{Use: "other"}, {Alg: "RS256"}, {Use: keyring.UseRefresh, Alg: "ES256"}} {
			if _, err := f.replicas[0].Rotate(t.Context(), q); auth.CodeOf(err) != auth.InvalidRequest {
				t.Errorf("%+v: %v", q, err)
			}
		}
	})
	t.Run("makes no more keys than validators read", func(t *testing.T) {
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
		// In an emergency it goes on.
		f.retire(signingKID(t, f.replicas[0].Ring, f.now), true)
	})
}

func TestProvide(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"EdDSA", "RS256"} {
		t.Run(alg+" keys sign when validators know them, and until then the default ones do", func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, policy)
			by := auth.AuditEvent{Actor: auth.ActorCLI}
			from, err := f.replicas[0].EnsureKeys(t.Context(), alg, by)
			if err != nil || !from.Equal(f.now.Add(takeoverAge)) {
				t.Fatalf("%v, %v", from, err)
			}
			again, err := f.replicas[1].EnsureKeys(t.Context(), alg, by)
			if err != nil || !again.Equal(from) {
				t.Errorf("again %v, %v", again, err)
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
				t.Errorf("%v, %v", now, err)
			}
			// They rotate as all others do.
			f.pass(policy.Rotation)
			f.tend()
			if after := sign(); after.Alg != alg || after.KID == k.KID {
				t.Errorf("%s %s signs after the rotation", after.Alg, after.KID)
			}
			f.retire(sign().KID, true)
			if after := sign(); after.KID != k.KID {
				t.Errorf("%s %s signs, want the previous key", after.Alg, after.KID)
			}
		})
	}
	t.Run("an algorithm that is none is refused", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for _, alg := range []string{"", "none", "HS256", "ES384"} {
			if _, err := f.replicas[0].EnsureKeys(t.Context(), alg, auth.AuditEvent{}); auth.CodeOf(err) != auth.InvalidRequest {
				t.Errorf("%q: %v", alg, err)
			}
		}
	})
	t.Run("keys of an algorithm without another to wait for leave it to the default one", func(t *testing.T) {
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
				t.Fatalf("%+v, %v", k, err)
			}
			f.retire(k.KID, true)
		}
		if k, err := f.replicas[0].CurrentSigningKey("EdDSA", f.now); err != nil || k.Alg != token.DefaultAlg {
			t.Errorf("%+v, %v", k, err)
		}
		f.pass(takeoverAge)
		if k, err := f.replicas[0].CurrentSigningKey("EdDSA", f.now); err != nil || k.Alg != "EdDSA" {
			t.Errorf("%+v, %v", k, err)
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
		"no max-age":              {func(p *keyring.Policy) { p.JWKSMaxAge = 0 }, "max-age of the JWK set"},
		"a max-age without end":   {func(p *keyring.Policy) { p.JWKSMaxAge = 25 * time.Hour }, "max-age of the JWK set"},
		"a max-age no header has": {func(p *keyring.Policy) { p.JWKSMaxAge = 1500 * time.Millisecond }, "whole seconds"},
		"too many keys":           {func(p *keyring.Policy) { p.Rotation = time.Minute }, "rotation must be 0 or at least"},
		"less than nothing":       {func(p *keyring.Policy) { p.Rotation = -time.Hour }, "rotation must be 0 or at least"},
		"keys that nobody knows":  {func(p *keyring.Policy) { p.Rotation, p.JWKSMaxAge = 2*time.Hour, 2*time.Hour }, "longer than"},
	} {
		p := keyring.DefaultPolicy
		c.change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := keyring.NewKeeper(keyring.KeeperConfig{Policy: p}); err == nil {
			t.Errorf("%s: there is a keeper", name)
		}
	}
}

func TestCurrentAge(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, policy)
	r := f.replicas[0]
	f.pass(takeoverAge)
	if got := r.CurrentAge(keyring.UseAccess, "ES256", f.now); got != takeoverAge {
		t.Errorf("%s", got)
	}
	f.rotate(keyring.RotateRequest{})
	for at, want := range map[time.Duration]time.Duration{0: 0, time.Minute: time.Minute, -time.Second: takeoverAge - time.Second} {
		if got := r.CurrentAge(keyring.UseRefresh, keyring.AlgMAC, f.now.Add(at)); got != want {
			t.Errorf("after %s it is %s", at, got)
		}
	}
	if got := r.CurrentAge(keyring.UseAccess, "RS256", f.now); got != 0 {
		t.Errorf("of no key it is %s", got)
	}
	if !slices.Contains(f.states(keyring.UseAccess), previous) {
		t.Error("nothing was rotated")
	}
}
