package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// unrestricted returns a key that is valid for all apps.
func unrestricted(id string) servicekey.Key {
	k := serviceKey(id, t0)
	k.Apps = nil
	return k
}

func (f *fixture) firstPin(t *testing.T, id string, at time.Time) servicekey.Key {
	t.Helper()
	k, err := f.Store.FirstPinServiceKey(t.Context(), id, event(auth.AuditServiceKeyPin, at))
	wantCode(t, err, "")
	return k
}

func (f *fixture) setDisabled(t *testing.T, appID string, disabled bool) {
	t.Helper()
	var err error
	if disabled {
		_, err = f.Store.DisableApp(t.Context(), appID, event(auth.AuditAppDisabled, t0))
	} else {
		_, err = f.Store.EnableApp(t.Context(), appID, event(auth.AuditAppEnabled, t0))
	}
	wantCode(t, err, "")
}

var pinTests = []test{
	{"the first use pins a key permanently to the only enabled app", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, unrestricted("k"))
		f.setDisabled(t, appB, true)
		before := f.counts(t)
		k.PinnedApp, k.PinnedAt = appA, t0.Add(time.Minute)
		wantEqual(t, "key", f.firstPin(t, k.ID, k.PinnedAt), k)
		f.wantServiceKey(t, k)
		f.wantCounts(t, before, counts{Audit: 1})
		wantEqual(t, "app in the audit", f.text(t, `select detail from audit where action = ? order by id desc limit 1`, string(auth.AuditServiceKeyPin)) != "", true)

		// A later app neither gets access nor removes the pin. The pinned app keeps the
		// pin while it is disabled.
		f.setDisabled(t, appB, false)
		f.addApp(t, auth.App{ID: "wxcccc", Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("sealed")}})
		f.setDisabled(t, appA, true)
		before = f.counts(t)
		wantEqual(t, "key later", f.firstPin(t, k.ID, t0.Add(time.Hour)), k)
		f.wantServiceKey(t, k)
		f.wantCounts(t, before, counts{})
	}},
	{"with several enabled apps the decision is no pin", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, unrestricted("k"))
		k.PinnedAt = t0.Add(time.Minute)
		wantEqual(t, "key", f.firstPin(t, k.ID, k.PinnedAt), k)
		f.setDisabled(t, appB, true)
		before := f.counts(t)
		wantEqual(t, "key with one app left", f.firstPin(t, k.ID, t0.Add(time.Hour)), k)
		f.wantServiceKey(t, k)
		f.wantCounts(t, before, counts{})
	}},
	{"without an enabled app nothing is decided", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, unrestricted("k"))
		f.setDisabled(t, appA, true)
		f.setDisabled(t, appB, true)
		before := f.counts(t)
		wantEqual(t, "key", f.firstPin(t, k.ID, t0), k)
		f.wantCounts(t, before, counts{})
		f.setDisabled(t, appB, false)
		wantEqual(t, "pin when there is an app", f.firstPin(t, k.ID, t0).PinnedApp, appB)
	}},
	{"a restricted key is not pinned", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, serviceKey("k", t0))
		f.setDisabled(t, appB, true)
		before := f.counts(t)
		wantEqual(t, "key", f.firstPin(t, k.ID, t0), k)
		f.wantCounts(t, before, counts{})
	}},
	{"one of several concurrent first uses decides for all", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, unrestricted("k"))
		f.setDisabled(t, appB, true)
		before := f.counts(t)
		const n = 8
		got := make([]servicekey.Key, n)
		together(n, func(i int) {
			var err error
			got[i], err = f.Store.FirstPinServiceKey(t.Context(), k.ID, event(auth.AuditServiceKeyPin, t0.Add(time.Duration(i)*time.Second)))
			if err != nil {
				t.Error(err)
			}
		})
		for _, g := range got {
			wantEqual(t, "key", g, got[0])
		}
		wantEqual(t, "pin", got[0].PinnedApp, appA)
		f.wantServiceKey(t, got[0])
		f.wantCounts(t, before, counts{Audit: 1})
	}},
	{"an admin sets and removes the pin", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, unrestricted("k"))
		other := f.addServiceKey(t, unrestricted("other"))
		for i, app := range []string{appB, appA, ""} {
			before := f.counts(t)
			at := t0.Add(time.Duration(i) * time.Minute)
			got, err := f.Store.PinServiceKey(t.Context(), k.ID, app, func(asked servicekey.Key) error {
				wantEqual(t, "key passed to check", asked, k)
				return nil
			}, event(auth.AuditServiceKeyPin, at))
			wantCode(t, err, "")
			k.PinnedApp, k.PinnedAt = app, at
			wantEqual(t, "key", got, k)
			f.wantServiceKey(t, k)
			f.wantCounts(t, before, counts{Audit: 1})
		}
		// An admin's decision is final.
		f.setDisabled(t, appB, true)
		wantEqual(t, "key after its first use", f.firstPin(t, k.ID, t0.Add(time.Hour)), k)
		f.wantServiceKey(t, other)
	}},
	{"a pin refused by check changes nothing", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, unrestricted("k"))
		before := f.counts(t)
		refusal := auth.Invalid("no")
		_, err := f.Store.PinServiceKey(t.Context(), k.ID, appA, func(servicekey.Key) error { return refusal }, event(auth.AuditServiceKeyPin, t0))
		if !errors.Is(err, refusal) {
			t.Errorf("PinServiceKey() error = %v, want that of check", err)
		}
		f.wantServiceKey(t, k)
		f.wantCounts(t, before, counts{})
	}},
	{"an unknown key has no pin", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		for _, id := range append([]string{"", serviceKey("k", t0).ID}, hostile...) {
			_, err := f.Store.FirstPinServiceKey(t.Context(), id, event(auth.AuditServiceKeyPin, t0))
			wantCode(t, err, auth.NotFound)
			_, err = f.Store.PinServiceKey(t.Context(), id, appA, func(servicekey.Key) error { return nil }, event(auth.AuditServiceKeyPin, t0))
			wantCode(t, err, auth.NotFound)
		}
		f.wantCounts(t, before, counts{})
	}},
}
