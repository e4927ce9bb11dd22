package storetest

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// serviceKey returns a key whose id starts with the given characters.
func serviceKey(id string, created time.Time) servicekey.Key {
	return servicekey.Key{
		ID: id + strings.Repeat("0", 16-len(id)), Name: "shop back end 商城",
		Scopes: []servicekey.Scope{servicekey.ScopeService, servicekey.ScopeOpenID},
		Apps:   []string{appB, appA}, Hash: sha256.Sum256([]byte(id)), CreatedAt: created, Creator: auth.ActorCLI,
	}
}

func (f *fixture) addServiceKey(t *testing.T, k servicekey.Key) servicekey.Key {
	t.Helper()
	wantCode(t, f.Store.AddServiceKey(t.Context(), k, event(auth.AuditServiceKeyAdded, t0)), "")
	return k
}

func (f *fixture) wantServiceKey(t *testing.T, want servicekey.Key) {
	t.Helper()
	got, err := f.Store.ServiceKey(t.Context(), want.ID)
	wantCode(t, err, "")
	wantEqual(t, "service key", got, want)
}

var serviceKeyTests = []test{
	{"an added key is read back unchanged and audited", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		full := serviceKey("full", t0)
		full.LastUsedAt, full.RevokedAt = t0.Add(time.Minute), t0.Add(time.Hour)
		full.Creator, full.ExpiresAt = auth.ActorService, t0.Add(3*time.Hour)
		full.PinnedApp, full.PinnedAt = appA, t0.Add(2*time.Minute)
		plain := serviceKey("plain", t0)
		plain.Scopes, plain.Apps = []servicekey.Scope{servicekey.ScopeAdmin}, nil
		for _, k := range []servicekey.Key{full, plain} {
			f.wantServiceKey(t, f.addServiceKey(t, k))
		}
		f.wantCounts(t, before, counts{ServiceKeys: 2, Audit: 2})
		wantEqual(t, "audit events",
			f.number(t, `select count(*) from audit where action = ? and reason = 'because' and at = ?`, string(auth.AuditServiceKeyAdded), f.Time(t0)), 2)
	}},
	{"keys are listed by age and id", func(t *testing.T, f *fixture) {
		keys, err := f.Store.ServiceKeys(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "keys at first", len(keys), 0)
		newer := f.addServiceKey(t, serviceKey("a", t0.Add(time.Second)))
		b := f.addServiceKey(t, serviceKey("c", t0))
		a := f.addServiceKey(t, serviceKey("b", t0))
		keys, err = f.Store.ServiceKeys(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "keys", keys, []servicekey.Key{a, b, newer})
	}},
	{"an id is used only once", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, serviceKey("k", t0))
		before := f.counts(t)
		other := k
		other.Name = "thief"
		wantCode(t, f.Store.AddServiceKey(t.Context(), other, event(auth.AuditServiceKeyAdded, t0)), auth.Internal)
		f.wantCounts(t, before, counts{})
		f.wantServiceKey(t, k)
	}},
	{"an invalid id or scope is not written", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		for _, id := range []string{"", "short", "UPPERCASE0000000", "with_underscore0", "seventeen00000000"} {
			k := serviceKey("k", t0)
			k.ID = id
			wantCode(t, f.Store.AddServiceKey(t.Context(), k, event(auth.AuditServiceKeyAdded, t0)), auth.Internal)
		}
		k := serviceKey("k", t0)
		k.Scopes = nil
		wantCode(t, f.Store.AddServiceKey(t.Context(), k, event(auth.AuditServiceKeyAdded, t0)), auth.Internal)
		f.wantCounts(t, before, counts{})
	}},
	{"a revoked key has the time of revocation, which is audited once", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, serviceKey("k", t0))
		other := f.addServiceKey(t, serviceKey("other", t0))
		before := f.counts(t)
		k.RevokedAt = t0.Add(time.Hour)
		for i := range 3 {
			e := event(auth.AuditServiceKeyEnded, k.RevokedAt.Add(time.Duration(i)*time.Hour))
			r, err := f.Store.RevokeServiceKey(t.Context(), k.ID, i == 2, e)
			wantCode(t, err, "")
			var revoked []servicekey.Key
			if i == 0 {
				revoked = []servicekey.Key{k}
			}
			wantEqual(t, "revocation", r, servicekey.Revocation{Revoked: revoked})
			f.wantServiceKey(t, k)
		}
		f.wantCounts(t, before, counts{Audit: 1})
		f.wantServiceKey(t, other)
	}},
	{"an unknown key is not found", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		for _, id := range append([]string{"", serviceKey("k", t0).ID}, hostile...) {
			_, err := f.Store.ServiceKey(t.Context(), id)
			wantCode(t, err, auth.NotFound)
			_, err = f.Store.RevokeServiceKey(t.Context(), id, true, event(auth.AuditServiceKeyEnded, t0))
			wantCode(t, err, auth.NotFound)
			wantCode(t, f.Store.TouchServiceKey(t.Context(), id, t0), "")
		}
		f.wantCounts(t, before, counts{})
	}},
	{"the time of use is stored and never decreases", func(t *testing.T, f *fixture) {
		k := f.addServiceKey(t, serviceKey("k", t0))
		other := f.addServiceKey(t, serviceKey("other", t0))
		before := f.counts(t)
		k.LastUsedAt = t0.Add(time.Hour)
		for _, at := range []time.Duration{time.Minute, time.Hour, 2 * time.Minute} {
			wantCode(t, f.Store.TouchServiceKey(t.Context(), k.ID, t0.Add(at)), "")
		}
		f.wantServiceKey(t, k)
		f.wantServiceKey(t, other)
		f.wantCounts(t, before, counts{})
	}},
}
