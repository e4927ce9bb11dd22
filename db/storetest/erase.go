package storetest

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// erase erases an identity.
func (f *fixture) erase(t testing.TB, id uuid.UUID, now time.Time) person.IdentityRecord {
	t.Helper()
	i, err := f.Store.EraseIdentity(t.Context(), change(id, auth.AuditIdentityErased, now))
	wantCode(t, err, "")
	return i
}

// phonePerson creates a person by a phone number and binds the identity to them.
func (f *fixture) phonePerson(t testing.TB, identity uuid.UUID) auth.PersonRecord {
	t.Helper()
	d := person.Draft{ID: newID(), Phone: text("+8613800001001"), Name: text("李雷"), Source: auth.PersonByPhone, Facts: map[string][]byte{"no": factMAC(1)}}
	p := f.createPerson(t, d)
	f.bindTo(t, identity, p.ID, auth.SecondJoins)
	return p
}

var eraseTests = []test{
	{"only the uuid and an audit trail without the person are left", func(t *testing.T, f *fixture) {
		x := params(appA, "o-secret", t0)
		x.Account.UnionID, x.Device = "u-secret", "李雷的手机"
		g, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		s := g.Session
		p := f.createPerson(t, personDraft("1001", "李雷", "+8613800001001", nil))
		c := change(s.Identity, auth.AuditBound, t0)
		c.Person, c.Event = p.ID, c.Event.With(map[string]any{"phone": "+86138****1001", "name": "李*", "kind": "address", "key": "192.0.2.1/32"})
		_, err = f.Store.BindIdentity(t.Context(), c)
		wantCode(t, err, "")
		written := f.lastRecord(t)
		wantEqual(t, "phone before", f.detail(t, "phone"), "+86138****1001")
		f.exec(t, `insert into bind_attempts (kind, key, failures, at, expires_at) values ('identity', ?, 3, ?, ?)`,
			s.Identity.String(), f.Time(t0), f.Time(t0.Add(time.Hour)))
		f.exec(t, `insert into bind_tickets (hash, person_id, created_at, expires_at, used_by, used_at) values (?, ?, ?, ?, ?, ?)`,
			factMAC(1), p.ID.String(), f.Time(t0), f.Time(t0), s.Identity.String(), f.Time(t0))
		before, later := f.counts(t), t0.Add(time.Hour)

		want := person.IdentityRecord{
			Identity:  auth.Identity{UUID: s.Identity, AppID: appA, PlatformAccount: auth.OpenIDAccount("")},
			CreatedAt: t0, LastLoginAt: t0, ErasedAt: later,
		}
		wantEqual(t, "result", f.erase(t, s.Identity, later), want)
		wantEqual(t, "identity", f.identity(t, s.Identity), want)
		f.wantCounts(t, before, counts{Audit: 1, Cutoffs: 1})
		wantEqual(t, "action", f.lastAction(t), string(auth.AuditIdentityErased))
		got := f.stored(t, s.ID)
		if got.EndReason != auth.EndErased || got.Device != "" || got.Person != nil {
			t.Errorf("session after the erasure = %+v", got)
		}
		f.wantSessionCutoff(t, s, later)
		f.refuse(t, s.ID, 1, later, auth.SessionRevoked)
		for _, query := range []string{
			`select count(*) from identities where subject = 'o-secret' or unionid is not null or length(sealed_session_key) > 0 or person_id is not null or bound_by is not null`,
			`select count(*) from audit_values`,
			`select count(*) from audit where cast(detail as text) like '%138%' or cast(detail as text) like '%李%' or cast(detail as text) like '%192.0.2.1%'`,
			`select count(*) from bind_attempts`,
			`select count(*) from bind_tickets`,
			`select count(*) from sessions where device <> '' or person_id is not null`,
		} {
			wantEqual(t, query, f.number(t, query), 0)
		}
		left := f.auditRecord(t, written.ID)
		wantEqual(t, "rest of the audit detail", left.Detail, map[string]any{"kind": "address", "method": person.BoundByAdmin})
		wantEqual(t, "erased details", left.Erased, []string{"key", "name", "phone"})
		wantEqual(t, "person taken over by an admin", f.record(t, p.ID), p)

		// A second erasure changes nothing, and every other change is refused.
		before = f.counts(t)
		wantEqual(t, "result", f.erase(t, s.Identity, later.Add(time.Hour)), want)
		for name, do := range f.changes(t) {
			if name == "erase" {
				continue
			}
			c := change(s.Identity, "x", later)
			c.Person = p.ID
			if _, err := do(c); auth.CodeOf(err) != auth.NotFound {
				t.Errorf("%s of the erased identity: error = %v", name, err)
			}
		}
		f.wantCounts(t, before, counts{})
		found, err := f.Store.Identities(t.Context(), person.IdentityQuery{OpenID: "erased:" + s.Identity.String(), Limit: 10})
		wantCode(t, err, "")
		wantEqual(t, "identities found by the placeholder of the openid", len(found), 0)

		again := f.exchange(t, "o-secret", later)
		if again.Identity == s.Identity || again.Person != nil {
			t.Errorf("next log-in = identity %s, person %v", again.Identity, again.Person)
		}
	}},
	{"a disabled account returns as a new identity", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		_, err := f.Store.DisableIdentity(t.Context(), change(s.Identity, auth.AuditIdentityDisabled, t0))
		wantCode(t, err, "")
		wantEqual(t, "disabled", f.erase(t, s.Identity, t0).Disabled, false)
		f.exchange(t, "o-1", t0)
	}},
	{"a person created by a phone is forgotten with their last identity", func(t *testing.T, f *fixture) {
		one, two := f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0)
		p := f.phonePerson(t, one.Identity)
		f.bindTo(t, two.Identity, p.ID, auth.SecondJoins)
		// An event about the person and no identity.
		_, err := f.Store.DisablePerson(t.Context(), p.ID, event(auth.AuditPersonDisabled, t0).With(map[string]any{"phone": "+86138****1001"}))
		wantCode(t, err, "")
		p, err = f.Store.EnablePerson(t.Context(), p.ID, event(auth.AuditPersonEnabled, t0))
		wantCode(t, err, "")
		values := `select count(*) from audit_values`
		f.erase(t, one.Identity, t0)
		wantEqual(t, "personal values in the audit trail", f.number(t, values), 1)
		wantEqual(t, "the person of another identity", f.record(t, p.ID), p)
		wantEqual(t, "person of the other", f.identity(t, two.Identity).Person, p.ID)
		f.erase(t, two.Identity, t0)
		if got := f.record(t, p.ID); got.Phone != "" || got.Name != "" || len(got.Facts) > 0 {
			t.Errorf("person after the erasure = %+v", got)
		}
		if f.detail(t, "person_forgotten") == "" {
			t.Error("the audit trail does not say that the person was forgotten")
		}
		wantEqual(t, "personal values in the audit trail afterwards", f.number(t, values), 0)
	}},
	{"a person that an admin has taken over stays", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		p := f.phonePerson(t, s.Identity)
		want, err := f.Store.UpdatePerson(t.Context(), p.ID, person.Draft{ExternalID: "1001"}, event(auth.AuditPersonUpdated, t0))
		wantCode(t, err, "")
		f.erase(t, s.Identity, t0)
		wantEqual(t, "person", f.record(t, p.ID), want)
	}},
	{"concurrent erasures, log-ins and bindings leave no live session of an erased identity", func(t *testing.T, f *fixture) {
		p := f.createPerson(t, personDraft("1001", "", "", nil))
		first := f.exchange(t, "o-1", t0).Identity
		together(48, func(i int) {
			var err error
			switch i % 4 {
			case 0:
				_, err = f.Store.EraseIdentity(t.Context(), change(first, auth.AuditIdentityErased, t0))
			case 1:
				c := change(first, auth.AuditBound, t0)
				c.Person, c.Second = p.ID, auth.SecondJoins
				_, err = f.Store.BindIdentity(t.Context(), c)
			default:
				_, err = f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
			}
			if err != nil && auth.CodeOf(err) != auth.NotFound {
				t.Errorf("call %d: error = %v", i, err)
			}
		})
		wantEqual(t, "live sessions of erased identities", f.number(t, `
select count(*) from sessions s join identities i on i.uuid = s.identity_uuid and i.shard = s.shard where i.erased_at is not null and s.ended_at is null`), 0)
		wantEqual(t, "persons of erased identities", f.number(t, `select count(*) from identities where erased_at is not null and person_id is not null`), 0)
		// All log-ins may have come before the first erasure. This one comes after it
		// in every order.
		last := f.exchange(t, "o-1", t0).Identity
		if last == first {
			t.Error("the log-in after the erasures got the erased identity")
		}
		wantEqual(t, "identities", f.number(t, `select count(*) from identities`), 2)
	}},
}

// plantAttempts inserts a counter.
func (f *fixture) plantAttempts(t testing.TB, kind auth.AttemptKind, key string, failures int, blocked, expires time.Time) {
	t.Helper()
	var until any
	if !blocked.IsZero() {
		until = f.Time(blocked)
	}
	f.exec(t, `insert into bind_attempts (kind, key, failures, at, blocked_until, expires_at) values (?, ?, ?, ?, ?, ?)`,
		string(kind), key, failures, f.Time(t0), until, f.Time(expires))
}

var delayTests = []test{
	{"counters are listed and lifted", func(t *testing.T, f *fixture) {
		policy := auth.Policy{Facts: auth.FactsPolicy{Lookup: "no", Check: []string{"name"}}}
		_, err := f.Store.UpdateApp(t.Context(), appA, app.Change{Policy: &policy}, event(auth.AuditAppUpdated, t0))
		wantCode(t, err, "")
		p := f.createPerson(t, personDraft("1001", "", "", map[string][]byte{"no": factMAC(0xab), "name": factMAC(1)}))
		f.createPerson(t, personDraft("1002", "", "", map[string][]byte{"no": factMAC(2)}))
		f.createPerson(t, personDraft("1003", "", "", map[string][]byte{"no": factMAC(2)}))
		id, soon, past := newID(), t0.Add(time.Minute), t0.Add(-time.Minute)
		hex := func(m []byte) string { return fmt.Sprintf("%x", m) }
		f.plantAttempts(t, auth.AttemptIdentity, id.String(), 5, soon, soon)
		f.plantAttempts(t, auth.AttemptAddress, "192.0.2.1 wx1", 1, time.Time{}, soon)
		f.plantAttempts(t, auth.AttemptAddress, "192.0.2.2 wx1", 60, past, soon)
		f.plantAttempts(t, auth.AttemptAddress, "192.0.2.3 wx1", 60, past, past) // expired
		f.plantAttempts(t, auth.AttemptAddress, "192.0.2.4 wx1", 0, time.Time{}, soon)
		f.plantAttempts(t, auth.AttemptValue, hex(factMAC(0xab)), 6, soon, soon)
		f.plantAttempts(t, auth.AttemptValue, hex(factMAC(2)), 6, soon, soon) // two persons have it
		f.plantAttempts(t, auth.AttemptValue, hex(factMAC(3)), 6, soon, soon) // no person has it

		list := func(q person.AttemptQuery) []string {
			q.Now, q.Limit = t0, cmp.Or(q.Limit, 10)
			found, err := f.Store.Attempts(t.Context(), q)
			wantCode(t, err, "")
			var keys []string
			for _, a := range found {
				keys = append(keys, a.Key)
			}
			return keys
		}
		f.plantAttempts(t, auth.AttemptAddress, "192.0.2.22 wx1", 9, past, soon)
		f.plantAttempts(t, auth.AttemptAddress, "192.0.2.2 wx2", 9, past, soon)
		wantEqual(t, "an address", list(person.AttemptQuery{Kind: auth.AttemptAddress, Key: "192.0.2.2"}), []string{"192.0.2.2 wx1", "192.0.2.2 wx2"})
		wantEqual(t, "an address in an app", list(person.AttemptQuery{Kind: auth.AttemptAddress, Key: "192.0.2.2 wx2"}), []string{"192.0.2.2 wx2"})
		f.exec(t, `delete from bind_attempts where failures = 9`)
		all := []string{"192.0.2.1 wx1", "192.0.2.2 wx1", id.String(), hex(factMAC(2)), hex(factMAC(3)), hex(factMAC(0xab))}
		wantEqual(t, "all", list(person.AttemptQuery{}), all)
		wantEqual(t, "delayed", list(person.AttemptQuery{Delayed: true}), all[2:])
		wantEqual(t, "addresses", list(person.AttemptQuery{Kind: auth.AttemptAddress}), all[:2])
		wantEqual(t, "one", list(person.AttemptQuery{Kind: auth.AttemptIdentity, Key: id.String()}), all[2:3])
		wantEqual(t, "of a person", list(person.AttemptQuery{Person: p.ID}), all[5:])
		wantEqual(t, "a page", list(person.AttemptQuery{Limit: 2, After: auth.AttemptKey{Kind: auth.AttemptAddress, Key: all[1]}}), all[2:4])

		found, err := f.Store.Attempts(t.Context(), person.AttemptQuery{Kind: auth.AttemptValue, Now: t0, Limit: 10})
		wantCode(t, err, "")
		var persons []uuid.UUID
		for _, a := range found {
			persons = append(persons, a.Person)
		}
		wantEqual(t, "persons of the values", persons, []uuid.UUID{uuid.Nil, uuid.Nil, p.ID})
		wantEqual(t, "a counter", found[2], auth.Attempts{
			AttemptKey: auth.ValueAttempts(factMAC(0xab)), Failures: 6, At: t0, BlockedUntil: soon, Person: p.ID,
		})

		before := f.counts(t)
		wantCode(t, f.Store.LiftDelay(t.Context(), auth.IdentityAttempts(id), event(auth.AuditDelayLifted, t0)), "")
		wantEqual(t, "identity in the audit trail", f.text(t, `select identity_uuid from audit where id = (select max(id) from audit)`), id.String())
		wantCode(t, f.Store.LiftDelay(t.Context(), auth.AddressAttempts("192.0.2.2", "wx1"), event(auth.AuditDelayLifted, t0)), "")
		wantEqual(t, "key in the audit trail", f.detail(t, "key"), "192.0.2.2 wx1")
		wantEqual(t, "left", list(person.AttemptQuery{}), []string{all[0], all[3], all[4], all[5]})
		f.wantCounts(t, before, counts{Audit: 2})
		for _, key := range []auth.AttemptKey{
			auth.IdentityAttempts(id), auth.AddressAttempts("192.0.2.3", "wx1"), auth.AddressAttempts("192.0.2.4", "wx1"), auth.AddressAttempts("none", "wx1"),
		} {
			wantCode(t, f.Store.LiftDelay(t.Context(), key, event(auth.AuditDelayLifted, t0)), auth.NotFound)
		}
		f.wantCounts(t, before, counts{Audit: 2})
	}},
}
