package keyring_test

import (
	"database/sql"
	"slices"
	"strconv"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

// save copies the keys, and returns a function that restores the copy: all commits in
// between are lost then.
func (f *fleet) save() (lose func()) {
	f.t.Helper()
	db, err := sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	exec := func(q string) {
		f.t.Helper()
		if _, err := db.ExecContext(f.t.Context(), q); err != nil {
			f.t.Fatal(err)
		}
	}
	exec(`create table saved as select * from signing_keys`) //nolint:unqueryvet // whatever there is
	return func() {
		f.t.Helper()
		exec(`begin immediate; delete from signing_keys; insert into signing_keys select * from saved; delete from cutoffs; commit`) //nolint:unqueryvet // whatever there is
	}
}

// remembers makes a replica know the cutoffs of these keys.
func (r *replica) remembers(kids ...string) {
	r.SetCutoffCheck(func(kid string) bool { return slices.Contains(kids, kid) })
}

func (f *fleet) restoredEvents(kid string) int {
	f.t.Helper()
	return f.audited(auth.AuditStoreRolledBack, auth.ActorService, "", kid)
}

func TestLostTail(t *testing.T) {
	t.Parallel()
	t.Run("a leaked signing key does not sign, and is retired again with its cutoff", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		lose := f.save()
		dead := f.in(keyring.UseAccess, current).KID
		f.retire(dead, true)
		f.follow()
		lose()
		f.replicas[0].remembers(dead)
		fresh := f.start(0) // it does not remember the lost commits
		f.follow()
		if kid := signingKID(t, f.replicas[0].Ring, f.now); kid == dead {
			t.Error("the key signs although a cutoff hits it")
		}
		if kid := signingKID(t, fresh.Ring, f.now); kid != dead {
			t.Error("the new replica does not sign with the restored key")
		}
		f.applyPolicy()
		f.wantStates(keyring.UseAccess, retired, current, next)
		if got := f.cutoffs(); len(got) != 1 || got[0].KID != dead {
			t.Errorf("cutoffs %+v, want one of %s", got, dead)
		}
		if n := f.restoredEvents(dead); n != 1 {
			t.Errorf("%d events, want 1", n)
		}
		if f.replicas[0].applied != 2 {
			t.Errorf("the hook was called %d times, want 2: once for each retirement", f.replicas[0].applied)
		}
		for i, r := range f.replicas {
			if signingKID(t, r.Ring, f.now) == dead {
				t.Errorf("replica %d signs with it", i)
			}
		}
	})
	t.Run("the cutoff is enough to remember a retirement", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(takeoverAge)
		dead := f.in(keyring.UseAccess, current).KID
		f.replicas[0].remembers(dead)
		if kid := signingKID(t, f.replicas[0].Ring, f.now); kid == dead || kid != f.in(keyring.UseAccess, next).KID {
			t.Errorf("%s signs, want the next key", kid)
		}
		f.applyPolicy()
		f.wantStates(keyring.UseAccess, retired, current, next)
		if got := f.cutoffs(); len(got) != 1 || got[0].KID != dead {
			t.Errorf("cutoffs %+v, want one of %s", got, dead)
		}
	})
	t.Run("a key that was retired normally is retired again, and nothing else ends", func(t *testing.T) {
		t.Parallel()
		for use, of := range uses {
			f := newFleet(t, 2, policy)
			f.pass(takeoverAge)
			was := f.in(use, current).KID
			f.rotate(keyring.RotateRequest{})
			f.follow()
			f.pass(of.life + keyring.PropagationTime)
			lose := f.save()
			f.retire(was, false)
			f.follow()
			lose()
			f.follow()
			f.applyPolicy()
			if f.row(was).RetiredAt.IsZero() || len(f.row(was).Sealed) != 0 {
				t.Errorf("%s: key after the restore = %+v, want it retired and without its sealed text", use, f.row(was))
			}
			if n := f.restoredEvents(was); n != 1 {
				t.Errorf("%s: %d events, want 1", use, n)
			}
			if got := f.cutoffs(); len(got) != 0 {
				t.Errorf("%s: cutoffs %+v", use, got)
			}
		}
	})
	t.Run("a leaked MAC key is not used again", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		lose := f.save()
		dead := f.in(keyring.UseRefresh, current).KID
		f.retire(dead, true)
		f.follow()
		lose()
		f.follow()
		n, err := strconv.ParseUint(dead, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range f.replicas {
			if _, good := r.MACKey(uint32(n)); good || macKID(t, r.Ring, f.now) == dead {
				t.Errorf("replica %d uses the MAC key", i)
			}
		}
		f.applyPolicy()
		f.wantStates(keyring.UseRefresh, retired, current, next)
	})
	t.Run("every session ends when a restored MAC key turns out to have leaked", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(takeoverAge)
		lose := f.save()
		mac := f.in(keyring.UseRefresh, next).KID
		f.retire(mac, false)
		lose()
		if out := f.retire(mac, true); !out.SessionsEnded || out.Key.State != retired {
			t.Errorf("Retire() = %+v, want all sessions ended", out)
		}
		if out := f.retire(mac, true); out.SessionsEnded {
			t.Error("a second Retire() ends the sessions again")
		}
	})
	t.Run("any other change retires the key again with its cutoff, and applies it here", func(t *testing.T) {
		t.Parallel()
		for name, change := range map[string]func(f *fleet, dead string){
			"a rotation":              func(f *fleet, _ string) { f.rotate(keyring.RotateRequest{Use: keyring.UseRefresh}) },
			"the end of the same key": func(f *fleet, dead string) { f.retire(dead, true) },
			"the end of another key":  func(f *fleet, _ string) { f.retire(f.in(keyring.UseRefresh, next).KID, false) },
		} {
			f := newFleet(t, 1, policy)
			f.pass(takeoverAge)
			lose := f.save()
			one := f.in(keyring.UseAccess, current).KID
			f.retire(one, true)
			other := f.in(keyring.UseAccess, current).KID
			f.retire(other, true)
			lose()
			f.replicas[0].remembers(one, other)
			f.replicas[0].applied = 0
			change(f, one)
			var got []string
			for _, c := range f.cutoffs() {
				got = append(got, c.KID)
			}
			slices.Sort(got)
			want := []string{one, other}
			slices.Sort(want)
			if !slices.Equal(got, want) || f.replicas[0].applied != 1 {
				t.Errorf("%s: cutoffs of %q, applied %d times; want of %q, once", name, got, f.replicas[0].applied, want)
			}
		}
	})
	t.Run("any other change retires a normally retired key again", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(takeoverAge)
		lose := f.save()
		dead := f.in(keyring.UseAccess, next).KID
		f.retire(dead, false)
		lose()
		f.rotate(keyring.RotateRequest{Use: keyring.UseAccess, Now: true})
		if f.row(dead).RetiredAt.IsZero() || signingKID(t, f.replicas[0].Ring, f.now) == dead {
			t.Error("the retired key was promoted")
		}
	})
}

// All keys are retired for a database that was restored while no replica ran.
func TestEndEverything(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, policy)
	if _, err := f.replicas[0].EnsureKeys(t.Context(), "RS256", auth.AuditEvent{Actor: auth.ActorCLI}); err != nil {
		t.Fatal(err)
	}
	f.pass(2 * takeoverAge)
	f.follow()
	was := f.keys(keyring.UseAccess)
	_, err := f.replicas[0].store.EndEverything(t.Context(), auth.AuditEvent{At: f.now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, f.now)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.cutoffs()); n != len(was) {
		t.Errorf("%d cutoffs, want one for each of %d signing keys", n, len(was))
	}
	f.follow()
	f.applyPolicy()
	f.start(0)
	for _, alg := range []string{"ES256", "RS256"} {
		for i, r := range f.replicas {
			key, err := r.CurrentSigningKey(alg, f.now)
			if err != nil || key.Alg != alg || slices.ContainsFunc(was, func(k keyring.Key) bool { return k.KID == key.KID }) {
				t.Errorf("replica %d signs %s by %s %s, %v; want a new key", i, alg, key.Alg, key.KID, err)
			}
		}
	}
}
