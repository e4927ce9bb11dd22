package keyring_test

import (
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

func TestRetire(t *testing.T) {
	t.Parallel()
	t.Run("the key that signs is refused", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for use := range uses {
			if why := f.refused(f.in(use, current).KID); !strings.Contains(why, "signs now") {
				t.Errorf("description = %q, want the advice to rotate first", why)
			}
			f.wantStates(use, current, next)
		}
	})
	t.Run("a previous key is refused until its tokens have expired, with the time", func(t *testing.T) {
		t.Parallel()
		for use, of := range uses {
			f := newFleet(t, 1, policy)
			f.pass(takeoverAge)
			was := f.in(use, current)
			f.rotate(keyring.RotateRequest{})
			until := f.now.Add(of.life + keyring.PropagationTime)
			if why := f.refused(was.KID); !strings.Contains(why, until.UTC().Format(time.RFC3339)) {
				t.Errorf("description = %q, want it to name %s", why, until)
			}
			f.now = until
			if out := f.retire(was.KID, false); out.Key.State != retired || out.SessionsEnded || len(f.cutoffs()) != 0 {
				t.Errorf("Retire() = %+v, want it retired without ended sessions", out)
			}
		}
	})
	t.Run("a next key that has not signed is replaced", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for use := range uses {
			was := f.in(use, next)
			out := f.retire(was.KID, false)
			if out.Key.KID != was.KID || out.Current == nil || out.Current.KID != f.in(use, current).KID {
				t.Errorf("Retire() = %+v, want the next key retired and the current key", out)
			}
			f.wantStates(use, retired, current, next)
		}
		if n := len(f.cutoffs()); n != 0 {
			t.Errorf("%d cutoffs, want 0", n)
		}
	})
	t.Run("an unknown key is not found", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		if _, err := f.tryRetire("unknown", true); auth.CodeOf(err) != auth.NotFound {
			t.Errorf("error = %v, want %v", err, auth.NotFound)
		}
	})
	t.Run("a retirement is harmless to repeat", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		mac := f.in(keyring.UseRefresh, current)
		f.retire(mac.KID, true)
		keys := stored(t, f.replicas[0].store)
		for _, compromised := range []bool{false, true} {
			if out := f.retire(mac.KID, compromised); out.SessionsEnded || out.Key.State != retired {
				t.Errorf("Retire() = %+v, want it retired without ended sessions", out)
			}
		}
		if after := stored(t, f.replicas[0].store); len(after) != len(keys) {
			t.Error("the second Retire() made keys")
		}
	})
}

func TestRetireCompromised(t *testing.T) {
	t.Parallel()
	t.Run("a current signing key is replaced by the next one if validators know it", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		dead, successor := f.in(keyring.UseAccess, current), f.in(keyring.UseAccess, next)
		out := f.retire(dead.KID, true)
		if out.Current == nil || out.Current.KID != successor.KID || out.Pending != nil || out.SessionsEnded {
			t.Errorf("Retire() = %+v, want the next key as the current one", out)
		}
		f.signs(successor.KID)
		f.wantStates(keyring.UseAccess, retired, current, next)
		if got := f.cutoffs(); len(got) != 1 || got[0].Kind != auth.CutoffKey || got[0].KID != dead.KID || !got[0].ExpiresAt.IsZero() {
			t.Errorf("cutoffs = %+v, want one of the key", got)
		}
		if f.replicas[0].applied != 1 {
			t.Errorf("the hook was called %d times", f.replicas[0].applied)
		}
		if len(f.row(dead.KID).Sealed) != 0 {
			t.Error("the private key was not wiped")
		}
		if n := f.audited(auth.AuditKeyRetired, auth.ActorCLI, "it leaked", dead.KID); n != 1 {
			t.Errorf("%d audit events, want 1", n)
		}
		f.wantStates(keyring.UseRefresh, current, next)
	})
	t.Run("the previous key signs until validators know the next one", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		first := f.in(keyring.UseAccess, current)
		f.rotate(keyring.RotateRequest{})
		nextKey := f.in(keyring.UseAccess, next)
		f.pass(time.Minute)
		out := f.retire(f.in(keyring.UseAccess, current).KID, true)
		if out.Current == nil || out.Current.KID != first.KID || out.Pending == nil || out.Pending.KID != nextKey.KID || !out.Pending.ActiveAt.Equal(nextKey.KnownAt) {
			t.Errorf("Retire() = %+v, want the first key as the current one and the next key pending", out)
		}
		f.signs(first.KID)
		f.now = nextKey.KnownAt
		f.signs(nextKey.KID)
		// The tokens that the first key signed meanwhile stay valid.
		if got := f.in(keyring.UseAccess, previous); got.KID != first.KID || !got.RetiresAt.Equal(nextKey.KnownAt.Add(auth.MaxAccessTokenTTL+keyring.PropagationTime)) {
			t.Errorf("previous key = %+v", got)
		}
	})
	t.Run("the next key signs at once if validators know no other key", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(time.Second)
		successor := f.in(keyring.UseAccess, next)
		f.retire(f.in(keyring.UseAccess, current).KID, true)
		f.signs(successor.KID)
		// The same again and again.
		for range 3 {
			f.pass(time.Second)
			dead := signingKID(t, f.replicas[0].Ring, f.now)
			f.retire(dead, true)
			if signingKID(t, f.replicas[1].Ring, f.now) == dead {
				t.Fatal("the retired key still signs")
			}
		}
	})
	t.Run("the retirement of a promoted key does not change the current one", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(time.Second)
		was := f.in(keyring.UseAccess, current)
		coming := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess})[0]
		f.retire(coming.KID, true)
		f.wantStates(keyring.UseAccess, retired, current, next)
		f.pass(2 * takeoverAge)
		f.signs(was.KID)
	})
	t.Run("the retirement of the current key brings a promoted one forward", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		f.pass(time.Second)
		dead := f.in(keyring.UseAccess, current)
		coming := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess})[0]
		f.pass(time.Second)
		f.retire(dead.KID, true)
		f.signs(coming.KID)
	})
	t.Run("a MAC key ends every session", func(t *testing.T) {
		t.Parallel()
		for _, state := range []keyring.State{current, previous, next} {
			f := newFleet(t, 2, policy)
			err := f.replicas[0].store.AddApp(t.Context(), auth.App{ID: "wx1", Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}},
				auth.AuditEvent{At: now, Action: auth.AuditAppAdded, Actor: auth.ActorCLI})
			if err != nil {
				t.Fatal(err)
			}
			f.pass(takeoverAge)
			f.rotate(keyring.RotateRequest{})
			f.pass(takeoverAge)
			dead := f.in(keyring.UseRefresh, state)
			out := f.retire(dead.KID, true)
			if !out.SessionsEnded || out.Current == nil || out.Current.KID == dead.KID {
				t.Errorf("%s: Retire() = %+v, want all sessions ended", state, out)
			}
			if got := f.cutoffs(); len(got) != 1 || got[0].Kind != auth.CutoffApp || got[0].AppID != "wx1" || got[0].Epoch != 1 {
				t.Errorf("%s: cutoffs %+v", state, got)
			}
			for i, r := range f.replicas {
				if macKID(t, r.Ring, f.now) == dead.KID {
					t.Errorf("%s: replica %d signs with the retired key", state, i)
				}
			}
			f.wantStates(keyring.UseAccess, previous, current, next)
		}
	})
	t.Run("a key that was retired normally gets its cutoff later", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		dead := f.in(keyring.UseAccess, next)
		f.retire(dead.KID, false)
		f.retire(dead.KID, true)
		if got := f.cutoffs(); len(got) != 1 || got[0].KID != dead.KID {
			t.Errorf("cutoffs = %+v, want one of the key", got)
		}
	})
}
