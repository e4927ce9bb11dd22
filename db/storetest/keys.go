package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

func key(kid string, created time.Time) keyring.StoredKey {
	return keyring.StoredKey{
		KID: kid, Use: keyring.UseAccess, Alg: "ES256", Sealed: []byte{0, 1, 2}, Public: []byte(`{"kty":"EC"}`),
		CreatedAt: created,
	}
}

// changeKeys applies a change, whatever the present keys are.
func (f *fixture) changeKeys(t *testing.T, at time.Time, c keyring.Change) []keyring.StoredKey {
	t.Helper()
	all, err := f.Store.ChangeKeys(t.Context(), at, func([]keyring.StoredKey) (keyring.Change, error) { return c, nil })
	wantCode(t, err, "")
	return all
}

func (f *fixture) keysVersion(t *testing.T) string {
	t.Helper()
	v, err := f.Store.KeysVersion(t.Context())
	wantCode(t, err, "")
	return v
}

var keyTests = []test{
	{"a new database has no keys", func(t *testing.T, f *fixture) {
		keys, err := f.Store.Keys(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "keys", len(keys), 0)
	}},
	{"added keys are read back in order, with the audit of the change", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		next := key("b-next", t0)
		current := key("a-current", t0)
		current.ActiveAt = t0
		mac := keyring.StoredKey{KID: "00000001", Use: keyring.UseRefresh, Alg: "HS256", Sealed: []byte("mac"), CreatedAt: t0.Add(time.Second), ActiveAt: t0, RetiredAt: t0.Add(time.Hour)}
		want := []keyring.StoredKey{current, next, mac}
		got, err := f.Store.ChangeKeys(t.Context(), t0.Add(time.Minute), func(existing []keyring.StoredKey) (keyring.Change, error) {
			wantEqual(t, "existing", len(existing), 0)
			return keyring.Change{
				Add:    []keyring.StoredKey{mac, next, current},
				Events: []auth.AuditEvent{event(auth.AuditKeyCreated, t0.Add(time.Minute)), event(auth.AuditKeyPromoted, t0)},
			}, nil
		})
		wantCode(t, err, "")
		wantEqual(t, "result", got, want)
		got, err = f.Store.Keys(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "as read", got, want)
		f.wantCounts(t, before, counts{Keys: 3, Audit: 2})
		wantEqual(t, "audit events",
			f.number(t, `select count(*) from audit where action = ? and actor = ? and at = ?`,
				string(auth.AuditKeyCreated), auth.ActorCLI, f.Time(t0.Add(time.Minute))), 1)
	}},
	{"an empty change writes nothing and returns the present keys", func(t *testing.T, f *fixture) {
		f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{key("k", t0)}})
		before := f.counts(t)
		wantEqual(t, "keys", f.changeKeys(t, t0, keyring.Change{}), []keyring.StoredKey{key("k", t0)})
		f.wantCounts(t, before, counts{})
	}},
	{"an update writes only the times and erases the sealed key", func(t *testing.T, f *fixture) {
		k := key("k", t0)
		f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{k, key("l", t0)}})
		changed := k
		changed.Sealed, changed.ActiveAt, changed.RetiredAt = nil, t0.Add(time.Minute), t0.Add(time.Hour)
		changed.Alg, changed.Public, changed.CreatedAt = "other", []byte("other"), t0.Add(time.Hour)
		before := f.counts(t)
		got := f.changeKeys(t, t0, keyring.Change{Update: []keyring.StoredKey{changed}})
		k.Sealed, k.ActiveAt, k.RetiredAt = nil, changed.ActiveAt, changed.RetiredAt
		wantEqual(t, "keys", got, []keyring.StoredKey{k, key("l", t0)})
		f.wantCounts(t, before, counts{})
	}},
	{"a failing plan writes nothing and its error is returned unchanged", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		refused := errors.New("no entropy")
		_, err := f.Store.ChangeKeys(t.Context(), t0, func([]keyring.StoredKey) (keyring.Change, error) {
			return keyring.Change{Add: []keyring.StoredKey{key("k", t0)}}, refused
		})
		if err != refused { //nolint:errorlint // as it is, not wrapped
			t.Fatalf("ChangeKeys() error = %v, want the plan's own", err)
		}
		f.wantCounts(t, before, counts{})
	}},
	{"one invalid key rejects the whole change", func(t *testing.T, f *fixture) {
		before, epochs := f.counts(t), f.number(t, `select sum(epoch) from apps`)
		for name, bad := range map[string]keyring.Change{
			"an existing key":                {Add: []keyring.StoredKey{key("k", t0), key("k", t0)}},
			"an update of a missing key":     {Update: []keyring.StoredKey{key("k", t0)}},
			"the same after a valid new key": {Add: []keyring.StoredKey{key("good", t0)}, Update: []keyring.StoredKey{key("k", t0)}},
		} {
			bad.Compromised, bad.EndSessions = []string{"c"}, true
			bad.Events = []auth.AuditEvent{event(auth.AuditKeyRetired, t0)}
			_, err := f.Store.ChangeKeys(t.Context(), t0, func([]keyring.StoredKey) (keyring.Change, error) { return bad, nil })
			if got := auth.CodeOf(err); got != auth.Internal {
				t.Errorf("%s: ChangeKeys() error = %v", name, err)
			}
			f.wantCounts(t, before, counts{})
		}
		wantEqual(t, "epochs", f.number(t, `select sum(epoch) from apps`), epochs)
	}},
	{"the cutoff of a compromised key is kept forever", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{key("k", t0)}})
		f.changeKeys(t, t0, keyring.Change{Compromised: []string{"k", "l"}})
		_, err := f.Store.DeleteExpired(t.Context(), t0, t0.Add(100*maxTTL), 10)
		wantCode(t, err, "")
		b := f.batch(t, 0, 10)
		wantEqual(t, "cutoffs", b.Cutoffs, []auth.Cutoff{{ID: 1, Kind: auth.CutoffKey, KID: "k"}, {ID: 2, Kind: auth.CutoffKey, KID: "l"}})
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
	}},
	{"ending all sessions raises every epoch and writes its cutoff", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{key("k", t0)}, EndSessions: true})
		f.wantCounts(t, before, counts{Keys: 1, Cutoffs: 2})
		f.refuse(t, s.ID, 1, t0, auth.SessionRevoked)
		ends := t0.Add(auth.CutoffRetention)
		wantEqual(t, "cutoffs", f.batch(t, 0, 10).Cutoffs, []auth.Cutoff{
			{ID: 1, Kind: auth.CutoffApp, AppID: appA, Epoch: 1, ExpiresAt: ends},
			{ID: 2, Kind: auth.CutoffApp, AppID: appB, Epoch: 1, ExpiresAt: ends},
		})
		f.mustRefresh(t, f.exchange(t, "o-1", t0).ID, 1, t0, session.Rotate)
	}},
	{"the version differs after every change", func(t *testing.T, f *fixture) {
		k, l := key("k", t0), key("l", t0)
		seen := map[string]string{f.keysVersion(t): "none"}
		step := func(what string, c keyring.Change) {
			t.Helper()
			f.changeKeys(t, t0, c)
			v := f.keysVersion(t)
			if before, was := seen[v]; was {
				t.Errorf("the version after %s equals that of %s", what, before)
			}
			seen[v] = what
			wantEqual(t, "without a change", f.keysVersion(t), v)
		}
		step("a first key", keyring.Change{Add: []keyring.StoredKey{k}})
		step("another", keyring.Change{Add: []keyring.StoredKey{l}})
		k.ActiveAt = t0.Add(time.Hour)
		step("a promotion", keyring.Change{Update: []keyring.StoredKey{k}})
		k.ActiveAt = t0.Add(time.Microsecond)
		step("one that comes earlier", keyring.Change{Update: []keyring.StoredKey{k}})
		l.ActiveAt = t0
		step("another promotion", keyring.Change{Update: []keyring.StoredKey{l}})
		k.RetiredAt = t0
		step("a retirement", keyring.Change{Update: []keyring.StoredKey{k}})
	}},
	{"a change wakes listeners", func(t *testing.T, f *fixture) {
		woken := f.listen(t)
		woken() // the listener is ready
		k := key("k", t0)
		f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{k}})
		woken()
		f.changeKeys(t, t0, keyring.Change{Update: []keyring.StoredKey{k}})
		woken()
		f.changeKeys(t, t0, keyring.Change{Compromised: []string{"k"}})
		woken()
	}},
	{"replicas that start at once agree on one set", func(t *testing.T, f *fixture) {
		const replicas = 20
		sets := make([][]keyring.StoredKey, replicas)
		var wg sync.WaitGroup
		for i := range replicas {
			wg.Go(func() {
				var err error
				sets[i], err = f.Store.ChangeKeys(t.Context(), t0, func(existing []keyring.StoredKey) (keyring.Change, error) {
					if len(existing) > 0 {
						return keyring.Change{}, nil
					}
					return keyring.Change{Add: []keyring.StoredKey{key(fmt.Sprintf("current-%d", i), t0), key(fmt.Sprintf("next-%d", i), t0)}}, nil
				})
				if err != nil {
					t.Errorf("ChangeKeys() error = %v", err)
				}
			})
		}
		wg.Wait()
		wantEqual(t, "keys", len(sets[0]), 2)
		for _, s := range sets[1:] {
			wantEqual(t, "another replica's keys", s, sets[0])
		}
	}},
	{"concurrent changes are made one after another", func(t *testing.T, f *fixture) {
		const n = 20
		together(n, func(i int) {
			_, err := f.Store.ChangeKeys(t.Context(), t0, func(existing []keyring.StoredKey) (keyring.Change, error) {
				return keyring.Change{Add: []keyring.StoredKey{key(fmt.Sprintf("k-%02d", len(existing)), t0)}, EndSessions: i%4 == 0}, nil
			})
			if err != nil {
				t.Errorf("ChangeKeys() error = %v", err)
			}
			if _, err := f.Store.Revoke(t.Context(), revokeParams(session.Target{All: true}, t0)); err != nil {
				t.Errorf("Revoke() error = %v", err)
			}
		})
		keys, err := f.Store.Keys(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "keys", len(keys), n)
		wantEqual(t, "epochs of both apps", f.number(t, `select sum(epoch) from apps`), 2*(n+n/4))
	}},
}
