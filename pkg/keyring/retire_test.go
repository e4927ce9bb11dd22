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
	t.Run("refuses the key that signs", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for use := range uses {
			if why := f.refused(f.in(use, current).KID); !strings.Contains(why, "signs now") {
				t.Errorf("%q", why)
			}
			f.wantStates(use, current, next)
		}
	})
	t.Run("refuses a previous key until nothing is left of what it signed, and says when", func(t *testing.T) {
		t.Parallel()
		for use, of := range uses {
			f := newFleet(t, 1, policy)
			f.pass(takeoverAge)
			was := f.in(use, current)
			f.rotate(keyring.RotateRequest{})
			until := f.now.Add(of.life + keyring.PropagationTime)
			if why := f.refused(was.KID); !strings.Contains(why, until.UTC().Format(time.RFC3339)) {
				t.Errorf("%q does not say %s", why, until)
			}
			f.now = until
			if out := f.retire(was.KID, false); out.Key.State != retired || out.SessionsEnded || len(f.cutoffs()) != 0 {
				t.Errorf("%+v", out)
			}
		}
	})
	t.Run("replaces a next key that has signed nothing", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		for use := range uses {
			was := f.in(use, next)
			out := f.retire(was.KID, false)
			if out.Key.KID != was.KID || out.Current == nil || out.Current.KID != f.in(use, current).KID {
				t.Errorf("%+v", out)
			}
			f.wantStates(use, retired, current, next)
		}
		if n := len(f.cutoffs()); n != 0 {
			t.Errorf("%d cutoffs", n)
		}
	})
	t.Run("of what there is not is not found", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		if _, err := f.tryRetire("nobody", true); auth.CodeOf(err) != auth.NotFound {
			t.Errorf("%v", err)
		}
	})
	t.Run("is harmless to repeat", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		mac := f.in(keyring.UseRefresh, current)
		f.retire(mac.KID, true)
		keys := stored(t, f.replicas[0].store)
		for _, compromised := range []bool{false, true} {
			if out := f.retire(mac.KID, compromised); out.SessionsEnded || out.Key.State != retired {
				t.Errorf("%+v", out)
			}
		}
		if after := stored(t, f.replicas[0].store); len(after) != len(keys) {
			t.Error("it made keys")
		}
	})
}

func TestRetireCompromised(t *testing.T) {
	t.Parallel()
	t.Run("a current signing key has the next one take over at once, if everybody knows it", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		dead, successor := f.in(keyring.UseAccess, current), f.in(keyring.UseAccess, next)
		out := f.retire(dead.KID, true)
		if out.Current == nil || out.Current.KID != successor.KID || out.Pending != nil || out.SessionsEnded {
			t.Errorf("%+v", out)
		}
		f.signs(successor.KID)
		f.wantStates(keyring.UseAccess, retired, current, next)
		if got := f.cutoffs(); len(got) != 1 || got[0].Kind != auth.CutoffKey || got[0].KID != dead.KID || !got[0].ExpiresAt.IsZero() {
			t.Errorf("cutoffs %+v", got)
		}
		if f.replicas[0].applied != 1 {
			t.Errorf("the hook was called %d times", f.replicas[0].applied)
		}
		if len(f.row(dead.KID).Sealed) != 0 {
			t.Error("the private half is kept")
		}
		if n := f.audited(auth.AuditKeyRetired, auth.ActorCLI, "it leaked", dead.KID); n != 1 {
			t.Errorf("%d events", n)
		}
		f.wantStates(keyring.UseRefresh, current, next)
	})
	t.Run("a current signing key has the previous one sign until everybody knows the next", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(takeoverAge)
		first := f.in(keyring.UseAccess, current)
		f.rotate(keyring.RotateRequest{})
		young := f.in(keyring.UseAccess, next)
		f.pass(time.Minute)
		out := f.retire(f.in(keyring.UseAccess, current).KID, true)
		if out.Current == nil || out.Current.KID != first.KID || out.Pending == nil || out.Pending.KID != young.KID || !out.Pending.ActiveAt.Equal(young.KnownAt) {
			t.Errorf("%+v", out)
		}
		f.signs(first.KID)
		f.now = young.KnownAt
		f.signs(young.KID)
		// What the first one signed meanwhile is good as long as ever.
		if got := f.in(keyring.UseAccess, previous); got.KID != first.KID || !got.RetiresAt.Equal(young.KnownAt.Add(auth.MaxAccessTokenTTL+keyring.PropagationTime)) {
			t.Errorf("previous is %+v", got)
		}
	})
	t.Run("the only key that validators know has a young one sign at once", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 2, policy)
		f.pass(time.Second)
		successor := f.in(keyring.UseAccess, next)
		f.retire(f.in(keyring.UseAccess, current).KID, true)
		f.signs(successor.KID)
		// And so on, however often.
		for range 3 {
			f.pass(time.Second)
			dead := signingKID(t, f.replicas[0].Ring, f.now)
			f.retire(dead, true)
			if signingKID(t, f.replicas[1].Ring, f.now) == dead {
				t.Fatal("it signs on")
			}
		}
	})
	t.Run("a key that is on its way leaves the current one as it is", func(t *testing.T) {
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
	t.Run("a current key whose successor is on its way has that come earlier", func(t *testing.T) {
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
			err := f.replicas[0].store.AddApp(t.Context(), auth.App{ID: "wx1", Platform: auth.PlatformWeChat, SealedSecret: []byte("s")},
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
				t.Errorf("%s: %+v", state, out)
			}
			if got := f.cutoffs(); len(got) != 1 || got[0].Kind != auth.CutoffApp || got[0].AppID != "wx1" || got[0].Epoch != 1 {
				t.Errorf("%s: cutoffs %+v", state, got)
			}
			for i, r := range f.replicas {
				if macKID(t, r.Ring, f.now) == dead.KID {
					t.Errorf("%s: replica %d signs with it", state, i)
				}
			}
			f.wantStates(keyring.UseAccess, previous, current, next)
		}
	})
	t.Run("a key that was retired in good order gets its cutoff all the same", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, 1, policy)
		dead := f.in(keyring.UseAccess, next)
		f.retire(dead.KID, false)
		f.retire(dead.KID, true)
		if got := f.cutoffs(); len(got) != 1 || got[0].KID != dead.KID {
			t.Errorf("cutoffs %+v", got)
		}
	})
}
