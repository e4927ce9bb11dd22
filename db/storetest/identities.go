package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// change returns an admin's change of an identity.
func change(identity uuid.UUID, action auth.AuditAction, now time.Time) person.IdentityChange {
	return person.IdentityChange{Identity: identity, Now: now, Event: event(action, now)}
}

func jsonStrings(t testing.TB, text string) []string {
	t.Helper()
	var all []string
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%s: error = %v", text, err)
	}
	return all
}

// identity reads an identity.
func (f *fixture) identity(t testing.TB, id uuid.UUID) person.IdentityRecord {
	t.Helper()
	i, err := f.Store.Identity(t.Context(), id, nil)
	wantCode(t, err, "")
	return i
}

// raised checks the session's ver, its person and its last cutoff.
func (f *fixture) raised(t testing.TB, s auth.Session, ver int64, person *auth.Person) {
	t.Helper()
	got := f.stored(t, s.ID)
	wantEqual(t, "ver", got.Ver, ver)
	wantEqual(t, "person of the session", got.Person, person)
	wantEqual(t, "its cutoffs", f.number(t, `select count(*) from cutoffs where session_id = ? and ver = ? and expires_at = ?`,
		s.ID.String(), ver, f.Time(t0.Add(auth.CutoffRetention))), 1)
}

var identityTests = []test{
	{"an identity is read back and found by each of its names", func(t *testing.T, f *fixture) {
		x := params(appA, "o-1", t0)
		x.Account.UnionID = "u-1"
		g, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		one := g.Session.Identity
		g, err = f.Store.Exchange(t.Context(), params(appB, "o-1", t0))
		wantCode(t, err, "")
		two := g.Session.Identity
		three := f.exchange(t, "o-3", t0).Identity
		p := f.createPerson(t, personDraft("1001", "", "", nil))
		f.bindTo(t, one, p.ID, "")
		want := person.IdentityRecord{
			Identity: auth.Identity{UUID: one, AppID: appA, PlatformAccount: auth.PlatformAccount{SubjectKind: auth.SubjectOpenID, Subject: "o-1", UnionID: "u-1"}, Person: p.ID},
			BoundAt:  t0, BoundBy: person.BoundByAdmin, CreatedAt: t0, LastLoginAt: t0,
		}
		wantEqual(t, "identity", f.identity(t, one), want)
		for name, c := range map[string]struct {
			q    person.IdentityQuery
			want []uuid.UUID
		}{
			"nothing":                 {person.IdentityQuery{}, []uuid.UUID{one, two, three}},
			"openid of all apps":      {person.IdentityQuery{OpenID: "o-1"}, []uuid.UUID{one, two}},
			"openid of an app":        {person.IdentityQuery{OpenID: "o-1", AppID: appB}, []uuid.UUID{two}},
			"unionid":                 {person.IdentityQuery{UnionID: "u-1"}, []uuid.UUID{one}},
			"person":                  {person.IdentityQuery{Person: p.ID}, []uuid.UUID{one}},
			"another person":          {person.IdentityQuery{Person: newID()}, nil},
			"an app":                  {person.IdentityQuery{AppID: appA}, []uuid.UUID{one, three}},
			"some apps":               {person.IdentityQuery{Apps: []string{appB}}, []uuid.UUID{two}},
			"no app":                  {person.IdentityQuery{Apps: []string{}}, nil},
			"openid of the wrong app": {person.IdentityQuery{OpenID: "o-3", Apps: []string{appB}}, nil},
			"after one":               {person.IdentityQuery{After: one}, []uuid.UUID{two, three}},
		} {
			c.q.Limit = 10
			found, err := f.Store.Identities(t.Context(), c.q)
			wantCode(t, err, "")
			var ids []uuid.UUID
			for _, i := range found {
				ids = append(ids, i.UUID)
			}
			wantEqual(t, "found by "+name, ids, c.want)
		}
		page, err := f.Store.Identities(t.Context(), person.IdentityQuery{Limit: 2})
		wantCode(t, err, "")
		wantEqual(t, "length of a page", len(page), 2)
	}},
	{"an identity outside the apps does not exist", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		p := f.createPerson(t, personDraft("1001", "", "", nil))
		before := f.counts(t)
		for _, apps := range [][]string{{appB}, {}} {
			_, err := f.Store.Identity(t.Context(), s.Identity, apps)
			wantCode(t, err, auth.NotFound)
			_, err = f.Store.IdentitySessions(t.Context(), s.Identity, apps, uuid.Nil, 10)
			wantCode(t, err, auth.NotFound)
			for name, do := range f.changes(t) {
				c := change(s.Identity, "x", t0)
				c.Apps, c.Person = apps, p.ID
				_, err := do(c)
				if auth.CodeOf(err) != auth.NotFound {
					t.Errorf("%s outside the apps: error = %v", name, err)
				}
			}
		}
		for name, do := range f.changes(t) {
			c := change(newID(), "x", t0)
			c.Person = p.ID
			if _, err := do(c); auth.CodeOf(err) != auth.NotFound {
				t.Errorf("%s of an unknown identity: error = %v", name, err)
			}
		}
		f.wantCounts(t, before, counts{})
		f.wantLive(t, s)
		c := change(s.Identity, auth.AuditIdentityDisabled, t0)
		c.Apps = []string{appB, appA}
		_, err := f.Store.DisableIdentity(t.Context(), c)
		wantCode(t, err, "")
	}},
	{"a disabled identity loses its sessions and cannot log in", func(t *testing.T, f *fixture) {
		s, second, other := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0)
		before, later := f.counts(t), t0.Add(time.Hour)
		for range 2 {
			i, err := f.Store.DisableIdentity(t.Context(), change(s.Identity, auth.AuditIdentityDisabled, later))
			wantCode(t, err, "")
			wantEqual(t, "disabled", i.Disabled, true)
		}
		f.wantCounts(t, before, counts{Audit: 1, Cutoffs: 2})
		wantEqual(t, "sessions in the audit trail", f.detail(t, "sessions"), "2")
		wantEqual(t, "identity in the audit trail", f.text(t, `select identity_uuid from audit where action = ? and appid = ?`,
			string(auth.AuditIdentityDisabled), appA), s.Identity.String())
		for _, s := range []auth.Session{s, second} {
			if got := f.stored(t, s.ID); got.EndReason != auth.EndIdentityDisabled {
				t.Errorf("EndReason = %q", got.EndReason)
			}
			f.wantSessionCutoff(t, s, later)
			f.refuse(t, s.ID, 1, later, auth.SessionRevoked)
		}
		f.wantLive(t, other)
		_, err := f.Store.Exchange(t.Context(), params(appA, "o-1", later))
		wantCode(t, err, auth.IdentityDisabled)
		for range 2 {
			i, err := f.Store.EnableIdentity(t.Context(), change(s.Identity, auth.AuditIdentityEnabled, later))
			wantCode(t, err, "")
			wantEqual(t, "disabled", i.Disabled, false)
		}
		f.wantCounts(t, before, counts{Audit: 2, Cutoffs: 2})
		f.refuse(t, s.ID, 1, later, auth.SessionRevoked)
		wantEqual(t, "uuid", f.exchange(t, "o-1", later).Identity, s.Identity)
	}},
	{"all sessions are listed, newest first, including ended ones", func(t *testing.T, f *fixture) {
		var want []uuid.UUID
		var s auth.Session
		for range 5 {
			s = f.exchange(t, "o-1", t0)
			want = append(want, s.ID)
		}
		f.exchange(t, "o-2", t0)
		slices.SortFunc(want, func(a, b uuid.UUID) int { return -slices.Compare(a[:], b[:]) })
		f.mustRevoke(t, session.Target{Session: want[1]}, t0, 1)
		var got []uuid.UUID
		before := uuid.Nil
		for {
			page, err := f.Store.IdentitySessions(t.Context(), s.Identity, nil, before, 2)
			wantCode(t, err, "")
			if len(page) == 0 {
				break
			}
			for _, st := range page {
				got = append(got, st.Session.ID)
				wantEqual(t, "session", st.Session, f.stored(t, st.Session.ID))
			}
			before = got[len(got)-1]
		}
		wantEqual(t, "sessions", got, want)
	}},
	{"the sessions show an admin's binding and unbinding", func(t *testing.T, f *fixture) {
		s, second := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0)
		p := f.createPerson(t, personDraft("1001", "李雷", "", nil))
		before := f.counts(t)
		for range 2 {
			i := f.bindTo(t, s.Identity, p.ID, "")
			wantEqual(t, "result", i, f.identity(t, s.Identity))
			wantEqual(t, "person", i.Person, p.ID)
		}
		f.wantCounts(t, before, counts{Audit: 1, Cutoffs: 2})
		wantEqual(t, "method in the audit trail", f.detail(t, "method"), person.BoundByAdmin)
		wantEqual(t, "person in the audit trail", f.lastRecord(t).Person, p.ID)
		f.raised(t, s, 2, &p.Person)
		f.raised(t, second, 2, &p.Person)
		wantEqual(t, "the refreshed token's", *f.mustRefresh(t, s.ID, 1, t0, session.Rotate).Person, p.Person)
		for range 2 {
			i, err := f.Store.UnbindIdentity(t.Context(), change(s.Identity, auth.AuditUnbound, t0))
			wantCode(t, err, "")
			wantEqual(t, "result", i, f.identity(t, s.Identity))
			wantEqual(t, "person", i.Person, uuid.Nil)
		}
		f.wantCounts(t, before, counts{Audit: 2, Cutoffs: 4})
		wantEqual(t, "person in the audit trail", f.lastRecord(t).Person, p.ID)
		f.raised(t, s, 3, nil)
		f.mustRefresh(t, s.ID, 2, t0, session.Rotate)
	}},
	{"an admin moves an identity to another person", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		p, q := f.createPerson(t, personDraft("1001", "", "", nil)), f.createPerson(t, personDraft("1002", "", "", nil))
		f.bindTo(t, s.Identity, p.ID, "")
		f.bindTo(t, s.Identity, q.ID, "")
		f.raised(t, s, 3, &q.Person)
		wantEqual(t, "person before, in the audit trail", f.detail(t, "person_before"), p.ID.String())
	}},
	{"a second identity is refused, replaces or joins", func(t *testing.T, f *fixture) {
		first, second := f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0)
		p := f.createPerson(t, personDraft("1001", "", "", nil))
		f.bindTo(t, first.Identity, p.ID, "")
		before := f.counts(t)
		for _, rule := range []auth.SecondIdentity{"", auth.SecondRefused} {
			c := change(second.Identity, auth.AuditBound, t0)
			c.Person, c.Second = p.ID, rule
			_, err := f.Store.BindIdentity(t.Context(), c)
			wantCode(t, err, auth.PersonTaken)
		}
		f.wantCounts(t, before, counts{})
		// An identity in another app is no second identity.
		g, err := f.Store.Exchange(t.Context(), params(appB, "o-1", t0))
		wantCode(t, err, "")
		f.bindTo(t, g.Session.Identity, p.ID, "")

		before = f.counts(t)
		f.bindTo(t, second.Identity, p.ID, auth.SecondReplaces)
		f.wantCounts(t, before, counts{Audit: 2, Cutoffs: 2})
		wantEqual(t, "person of the first", f.identity(t, first.Identity).Person, uuid.Nil)
		wantEqual(t, "end of the first's session", f.stored(t, first.ID).EndReason, auth.EndReplaced)
		f.wantSessionCutoff(t, first, t0)
		wantEqual(t, "replaced in the audit trail", f.number(t, `select count(*) from audit where action = ? and identity_uuid = ?`,
			string(auth.AuditBindingReplaced), first.Identity.String()), 1)
		wantEqual(t, "person elsewhere", f.identity(t, g.Session.Identity).Person, p.ID)

		third := f.exchange(t, "o-3", t0)
		f.bindTo(t, third.Identity, p.ID, auth.SecondJoins)
		wantEqual(t, "person of the second", f.identity(t, second.Identity).Person, p.ID)
	}},
	{"no identity is bound to a missing person", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		c := change(s.Identity, auth.AuditBound, t0)
		c.Person = newID()
		_, err := f.Store.BindIdentity(t.Context(), c)
		wantCode(t, err, auth.BindingNoMatch)
		f.wantCounts(t, before, counts{})
	}},
	{"concurrent changes do not deadlock and leave no ended session without its cutoff", func(t *testing.T, f *fixture) {
		ids := []uuid.UUID{f.exchange(t, "o-0", t0).Identity, f.exchange(t, "o-1", t0).Identity}
		persons := []auth.PersonRecord{f.createPerson(t, personDraft("0", "", "", nil)), f.createPerson(t, personDraft("1", "", "", nil))}
		together(120, func(i int) {
			id, p := ids[i%2], persons[i/2%2].ID
			c := change(id, auth.AuditBound, t0)
			var err error
			switch i % 8 {
			case 0, 1:
				_, err = f.Store.Exchange(t.Context(), params(appA, fmt.Sprintf("o-%d", i%2), t0))
			case 2, 3:
				c.Person, c.Second = p, []auth.SecondIdentity{auth.SecondReplaces, auth.SecondJoins}[i/4%2]
				_, err = f.Store.BindIdentity(t.Context(), c)
			case 4:
				_, err = f.Store.UnbindIdentity(t.Context(), c)
			case 5:
				if _, err = f.Store.DisablePerson(t.Context(), p, event(auth.AuditPersonDisabled, t0)); err == nil {
					_, err = f.Store.EnablePerson(t.Context(), p, event(auth.AuditPersonEnabled, t0))
				}
			case 6:
				if _, err = f.Store.DisableIdentity(t.Context(), c); err == nil {
					_, err = f.Store.EnableIdentity(t.Context(), c)
				}
			case 7:
				_, err = f.Store.UpsertPersons(t.Context(), person.Upsert{Drafts: []person.Draft{
					personDraft("0", fmt.Sprint(i), fmt.Sprintf("+861380000%04d", i), nil), personDraft("1", "", "", nil),
				}, Event: event(auth.AuditPersonsImported, t0)})
			}
			switch auth.CodeOf(err) {
			case "", auth.PersonDisabled, auth.IdentityDisabled:
			default:
				t.Errorf("call %d: error = %v", i, err)
			}
		})
		wantEqual(t, "sessions that ended without a cutoff", f.number(t, `
select count(*) from sessions where ended_at is not null and id not in (select session_id from cutoffs where ver = 0)`), 0)
		wantEqual(t, "vers without a cutoff", f.number(t, `
select count(*) from sessions s left join cutoffs c on c.session_id = s.id and c.ver = s.ver where s.ver > 1 and c.id is null`), 0)
		wantEqual(t, "live sessions with another person than their identity", f.number(t, `
select count(*) from sessions s join identities i on i.uuid = s.identity_uuid and i.shard = s.shard
where s.ended_at is null and coalesce(s.person_id, i.uuid) <> coalesce(i.person_id, i.uuid)`), 0)
		wantEqual(t, "identities whose person_disabled_at differs from their person", f.number(t, `
select count(*) from identities i join persons p on p.id = i.person_id
where (p.disabled_at is null) <> (i.person_disabled_at is null)`), 0)
	}},
}

// changes returns all changes that admins make to an identity.
func (f *fixture) changes(t testing.TB) map[string]func(person.IdentityChange) (person.IdentityRecord, error) {
	all := map[string]func(person.IdentityChange) (person.IdentityRecord, error){}
	for name, do := range map[string]func(*fixture, person.IdentityChange) (person.IdentityRecord, error){
		"disable": func(f *fixture, c person.IdentityChange) (person.IdentityRecord, error) {
			return f.Store.DisableIdentity(t.Context(), c)
		},
		"enable": func(f *fixture, c person.IdentityChange) (person.IdentityRecord, error) {
			return f.Store.EnableIdentity(t.Context(), c)
		},
		"bind": func(f *fixture, c person.IdentityChange) (person.IdentityRecord, error) {
			return f.Store.BindIdentity(t.Context(), c)
		},
		"unbind": func(f *fixture, c person.IdentityChange) (person.IdentityRecord, error) {
			return f.Store.UnbindIdentity(t.Context(), c)
		},
		"erase": func(f *fixture, c person.IdentityChange) (person.IdentityRecord, error) {
			return f.Store.EraseIdentity(t.Context(), c)
		},
	} {
		all[name] = func(c person.IdentityChange) (person.IdentityRecord, error) { return do(f, c) }
	}
	return all
}
