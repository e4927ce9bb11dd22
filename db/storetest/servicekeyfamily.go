package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// childKey returns a key that creator created.
func childKey(id string, creator servicekey.Key) servicekey.Key {
	k := serviceKey(id, t0)
	k.Creator = auth.ActorServiceKey(creator.ID)
	return k
}

func keyIDs(keys []servicekey.Key) string {
	text := ""
	for _, k := range keys {
		text += k.ID[:1]
	}
	return text
}

func (f *fixture) revokeKey(t *testing.T, id string, descendants bool, at time.Time) servicekey.Revocation {
	t.Helper()
	r, err := f.Store.RevokeServiceKey(t.Context(), id, descendants, event(auth.AuditServiceKeyEnded, at))
	wantCode(t, err, "")
	return r
}

var familyTests = []test{
	{"a revocation reports the descendants that still work, or revokes them", func(t *testing.T, f *fixture) {
		// a created b and c, b created d, d created e; f has no parent. c has expired.
		later := t0.Add(time.Hour)
		a := f.addServiceKey(t, serviceKey("a", t0))
		b := f.addServiceKey(t, childKey("b", a))
		c := childKey("c", a)
		c.ExpiresAt = later
		c = f.addServiceKey(t, c)
		d := f.addServiceKey(t, childKey("d", b))
		e := f.addServiceKey(t, childKey("e", d))
		other := f.addServiceKey(t, serviceKey("f", t0))

		before := f.counts(t)
		r := f.revokeKey(t, b.ID, false, later)
		wantEqual(t, "revoked", keyIDs(r.Revoked), "b")
		wantEqual(t, "living", keyIDs(r.Living), "de")
		f.wantCounts(t, before, counts{Audit: 1})

		// Of a's children, b is already revoked and c has expired; d and e descend from b.
		r = f.revokeKey(t, a.ID, false, later)
		wantEqual(t, "revoked", keyIDs(r.Revoked), "a")
		wantEqual(t, "living", keyIDs(r.Living), "de")

		before = f.counts(t)
		r = f.revokeKey(t, a.ID, true, later.Add(time.Hour))
		wantEqual(t, "revoked", keyIDs(r.Revoked), "cde")
		wantEqual(t, "living", keyIDs(r.Living), "")
		f.wantCounts(t, before, counts{Audit: 3})
		wantEqual(t, "events that name the key and its ancestor",
			f.number(t, `select count(*) from audit where action = ? and cast(detail as text) like ? and cast(detail as text) like ?`,
				string(auth.AuditServiceKeyEnded), "%"+e.ID+"%", "%"+a.ID+"%"), 1)
		b.RevokedAt, d.RevokedAt = later, later.Add(time.Hour)
		for _, k := range []servicekey.Key{b, d, other} {
			f.wantServiceKey(t, k)
		}
		before = f.counts(t)
		wantEqual(t, "revoked by the repeat", len(f.revokeKey(t, a.ID, true, later.Add(2*time.Hour)).Revoked), 0)
		f.wantCounts(t, before, counts{})
	}},
	{"a revoked or expired key cannot create a key", func(t *testing.T, f *fixture) {
		void, expired := serviceKey("a", t0), serviceKey("b", t0)
		void.RevokedAt, expired.ExpiresAt = t0, t0
		f.addServiceKey(t, void)
		f.addServiceKey(t, expired)
		before := f.counts(t)
		for i, creator := range []servicekey.Key{void, expired, serviceKey("0", t0)} {
			err := f.Store.AddServiceKey(t.Context(), childKey(fmt.Sprint("c", i), creator), event(auth.AuditServiceKeyAdded, t0))
			wantCode(t, err, auth.ServiceKeyInvalid)
		}
		f.wantCounts(t, before, counts{})
	}},
	{"no key survives that is created while its creator is revoked", func(t *testing.T, f *fixture) {
		a := f.addServiceKey(t, serviceKey("a", t0))
		const n = 12
		together(n, func(i int) {
			if i == n/2 {
				if _, err := f.Store.RevokeServiceKey(t.Context(), a.ID, true, event(auth.AuditServiceKeyEnded, t0)); err != nil {
					t.Error(err)
				}
				return
			}
			err := f.Store.AddServiceKey(t.Context(), childKey(fmt.Sprintf("c%02d", i), a), event(auth.AuditServiceKeyAdded, t0))
			if code := auth.CodeOf(err); code != "" && code != auth.ServiceKeyInvalid {
				t.Error(err)
			}
		})
		wantEqual(t, "keys that work", f.number(t, `select count(*) from service_keys where revoked_at is null`), 0)
	}},
}
