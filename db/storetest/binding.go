package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// person adds a person through the store.
func (f *fixture) person(t testing.TB, externalID string) auth.Person {
	t.Helper()
	p, err := f.Store.CreatePerson(t.Context(), person.Draft{ID: newID(), ExternalID: externalID, Name: &externalID},
		event(auth.AuditPersonCreated, t0))
	if err != nil {
		t.Fatalf("CreatePerson() error = %v", err)
	}
	return p.Person
}

// bindParams binds the identity of a session, with its stored values, to a person.
func bindParams(s auth.Session, person uuid.UUID, now time.Time) binding.BindParams {
	return binding.BindParams{
		Session: s.ID, Ver: s.Ver, Target: binding.Target{Person: person}, Method: auth.BindFacts,
		Second: auth.SecondRefused, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditBound, Actor: auth.ActorBearer, RequestID: "req-3"},
	}
}

func unbindParams(s auth.Session, now time.Time) binding.UnbindParams {
	return binding.UnbindParams{
		Session: s.ID, Ver: s.Ver, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditUnbound, Actor: auth.ActorBearer, RequestID: "req-3"},
	}
}

// mustBind binds and fails the test unless that changed something.
func (f *fixture) mustBind(t testing.TB, b binding.BindParams) auth.Session {
	t.Helper()
	done, err := f.Store.Bind(t.Context(), b)
	if err != nil || !done.Changed {
		t.Fatalf("Bind() changed %t, error = %v; want true, nil", done.Changed, err)
	}
	return done.Session
}

// refuseBind fails the test unless the binding is refused with the code and
// changes nothing.
func (f *fixture) refuseBind(t testing.TB, b binding.BindParams, want auth.Code) {
	t.Helper()
	before := f.dump(t)
	done, err := f.Store.Bind(t.Context(), b)
	wantCode(t, err, want)
	wantEqual(t, "result of a refused binding", done, binding.BindResult{})
	wantEqual(t, "rows after a refused binding", f.dump(t), before)
}

// dump counts everything that a binding could change.
func (f *fixture) dump(t testing.TB) map[string]int {
	t.Helper()
	m := map[string]int{}
	for name, query := range map[string]string{
		"persons":        `select count(*) from persons`,
		"phones":         `select count(*) from persons where phone is not null`,
		"bound":          `select count(*) from identities where person_id is not null`,
		"vers":           `select coalesce(sum(ver), 0) from sessions`,
		"bound sessions": `select count(*) from sessions where person_id is not null`,
		"ended":          `select count(*) from sessions where ended_at is not null`,
		"cutoffs":        `select count(*) from cutoffs`,
		"audit":          `select count(*) from audit`,
		"used tickets":   `select count(*) from bind_tickets where used_by is not null`,
		"facts":          `select count(*) from person_facts`,
	} {
		m[name] = f.number(t, query)
	}
	return m
}

var bindTests = []test{
	{"binding gives the identity's sessions the person, the next ver and a cutoff", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		s, tablet, other := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0)
		ended := f.exchange(t, "o-1", t0)
		wantCode(t, f.Store.End(t.Context(), endParams(ended, t0)), "")
		now := t0.Add(time.Minute)
		before := f.counts(t)
		done, err := f.Store.Bind(t.Context(), bindParams(s, p.ID, now))
		wantCode(t, err, "")
		want := s
		want.Person, want.Ver = &p, 2
		wantEqual(t, "result", done, binding.BindResult{Session: want, Changed: true})
		wantEqual(t, "stored", f.stored(t, s.ID), want)
		want = tablet
		want.Person, want.Ver = &p, 2
		wantEqual(t, "the other device", f.stored(t, tablet.ID), want)
		wantEqual(t, "another identity", f.stored(t, other.ID), other)
		if e := f.stored(t, ended.ID); e.Ver != 1 || e.Person != nil {
			t.Errorf("the ended session = %+v, want it unchanged", e)
		}
		f.wantCounts(t, before, counts{Cutoffs: 2, Audit: 1})
		for _, id := range []uuid.UUID{s.ID, tablet.ID} {
			wantEqual(t, "cutoffs of the session", f.number(t, `select count(*) from cutoffs where kind = 'session' and session_id = ? and ver = 2`, id.String()), 1)
		}
		wantEqual(t, "the identity", f.number(t, `select count(*) from identities where uuid = ? and person_id = ? and bound_by = 'facts' and bound_at = ?`,
			s.Identity.String(), p.ID.String(), f.Time(now)), 1)
		wantEqual(t, "the event", f.number(t, `select count(*) from audit where action = 'binding.bound' and appid = ? and identity_uuid = ? and session_id = ? and request_id = 'req-3'`,
			appA, s.Identity.String(), s.ID.String()), 1)
		bound := f.records(t, audit.Query{Action: string(auth.AuditBound)})[0]
		wantEqual(t, "person of the event", bound.Person, p.ID)
		wantEqual(t, "detail of the event", bound.Detail, map[string]any{"method": "facts"})
	}},
	{"after binding, a refresh and a new log-in carry the person", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		s := f.exchange(t, "o-1", t0)
		f.mustBind(t, bindParams(s, p.ID, t0))
		got := f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		wantEqual(t, "person", got.Person, &p)
		wantEqual(t, "ver", got.Ver, 2)
		wantEqual(t, "person of the next log-in", f.exchange(t, "o-1", t0).Person, &p)
	}},
	{"sessions whose last tokens may still be in use are raised too", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		idle, expired := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0)
		now := t0.Add(idleTTL)
		f.exec(t, `update sessions set idle_expires_at = ? where id = ?`, f.Time(now.Add(-time.Minute)), idle.ID.String())
		f.exec(t, `update sessions set idle_expires_at = ? where id = ?`, f.Time(now.Add(-2*time.Hour)), expired.ID.String())
		s := f.exchange(t, "o-1", now)
		f.mustBind(t, bindParams(s, p.ID, now))
		wantEqual(t, "ver of the idle session", f.stored(t, idle.ID).Ver, 2)
		wantEqual(t, "ver of the session that expired long ago", f.stored(t, expired.ID).Ver, 1)
	}},
	{"binding to the same person again changes nothing", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		s := f.mustBind(t, bindParams(f.exchange(t, "o-1", t0), p.ID, t0))
		before := f.dump(t)
		done, err := f.Store.Bind(t.Context(), bindParams(s, p.ID, t0.Add(time.Hour)))
		wantCode(t, err, "")
		wantEqual(t, "result", done, binding.BindResult{Session: s})
		wantEqual(t, "rows", f.dump(t), before)
	}},
	{"an identity bound to another person moves only if allowed", func(t *testing.T, f *fixture) {
		p, q := f.person(t, "1001"), f.person(t, "1002")
		s := f.mustBind(t, bindParams(f.exchange(t, "o-1", t0), p.ID, t0))
		b := bindParams(s, q.ID, t0)
		f.refuseBind(t, b, auth.AlreadyBound)
		b.Rebind = true
		before := f.counts(t)
		moved := f.mustBind(t, b)
		wantEqual(t, "person", moved.Person, &q)
		wantEqual(t, "ver", moved.Ver, 3)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
	}},
	{"a bound identity does not move to another number, used or not", func(t *testing.T, f *fixture) {
		phone := func(s auth.Session, number string) binding.BindParams {
			b := bindParams(s, uuid.Nil, t0)
			b.Target, b.Method, b.Rebind = binding.Target{Phone: number, New: newID()}, auth.BindPhone, true
			return b
		}
		f.mustBind(t, phone(f.exchange(t, "o-0", t0), "+8613800001000"))
		s := f.mustBind(t, phone(f.exchange(t, "o-1", t0), "+8613800001001"))
		byTicket := f.mustBind(t, bindParams(f.exchange(t, "o-2", t0), f.person(t, "1001").ID, t0))
		for _, number := range []string{"+8613800001000", "+8613800009999"} {
			f.refuseBind(t, phone(s, number), auth.AlreadyBound)
			f.refuseBind(t, phone(byTicket, number), auth.AlreadyBound)
		}
		done, err := f.Store.Bind(t.Context(), phone(s, "+8613800001001"))
		wantCode(t, err, "")
		wantEqual(t, "the same number", done, binding.BindResult{Session: s})
	}},
	{"a second identity in the app is refused, replaces or joins", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		first, tablet := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0)
		first = f.mustBind(t, bindParams(first, p.ID, t0))
		elsewhere, err := f.Store.Exchange(t.Context(), params(appB, "o-1", t0))
		wantCode(t, err, "")
		f.mustBind(t, bindParams(elsewhere.Session, p.ID, t0)) // another app does not count
		second := f.exchange(t, "o-2", t0)
		b := bindParams(second, p.ID, t0)
		f.refuseBind(t, b, auth.PersonTaken)

		b.Second = auth.SecondJoins
		joined := f.mustBind(t, b)
		wantEqual(t, "the first", f.stored(t, first.ID), first)
		_, err = f.Store.Unbind(t.Context(), unbindParams(joined, t0))
		wantCode(t, err, "")

		b = bindParams(f.stored(t, second.ID), p.ID, t0)
		b.Second = auth.SecondReplaces
		before := f.counts(t)
		done, err := f.Store.Bind(t.Context(), b)
		wantCode(t, err, "")
		wantEqual(t, "replaced", done.Replaced, []uuid.UUID{first.Identity})
		f.wantCounts(t, before, counts{Cutoffs: 3, Audit: 2})
		for _, id := range []uuid.UUID{first.ID, tablet.ID} {
			if got := f.stored(t, id); got.EndReason != auth.EndReplaced {
				t.Errorf("end reason of the first identity's session = %q", got.EndReason)
			}
			wantEqual(t, "its cutoffs", f.number(t, `select count(*) from cutoffs where session_id = ? and ver = 0`, id.String()), 1)
		}
		wantEqual(t, "person of the first", f.text(t, `select person_id from identities where uuid = ?`, first.Identity.String()), "")
		if got := f.stored(t, elsewhere.Session.ID); !got.EndedAt.IsZero() || got.Person == nil {
			t.Errorf("the identity in the other app = %+v, want it unchanged", got)
		}
		wantEqual(t, "events", f.number(t, `select count(*) from audit where action = 'binding.replaced' and identity_uuid = ?`, first.Identity.String()), 1)
	}},
	{"a session that does not match its token cannot bind", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		s := f.exchange(t, "o-1", t0)
		for name, change := range map[string]func(*binding.BindParams){
			"an older ver":   func(b *binding.BindParams) { b.Ver-- },
			"a newer ver":    func(b *binding.BindParams) { b.Ver++ },
			"no session":     func(b *binding.BindParams) { b.Session = newID() },
			"idle":           func(b *binding.BindParams) { b.Now = t0.Add(idleTTL) },
			"gone long ago ": func(b *binding.BindParams) { b.Now = t0.Add(2 * maxTTL) },
		} {
			b := bindParams(s, p.ID, t0)
			change(&b)
			t.Log(name)
			f.refuseBind(t, b, auth.SessionRevoked)
		}
		_, err := f.Store.Revoke(t.Context(), revokeParams(session.Target{AppID: appA}, t0))
		wantCode(t, err, "")
		f.refuseBind(t, bindParams(s, p.ID, t0), auth.SessionRevoked)
		s = f.exchange(t, "o-1", t0)
		wantCode(t, f.Store.End(t.Context(), endParams(s, t0)), "")
		f.refuseBind(t, bindParams(s, p.ID, t0), auth.SessionRevoked)
	}},
	{"a missing or disabled person is not bound", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		s := f.exchange(t, "o-1", t0)
		f.refuseBind(t, bindParams(s, newID(), t0), auth.BindingNoMatch)
		f.exec(t, `update persons set disabled_at = ? where id = ?`, f.Time(t0), p.ID.String())
		f.refuseBind(t, bindParams(s, p.ID, t0), auth.PersonDisabled)
	}},
	{"a new number creates a person, a known one finds its person", func(t *testing.T, f *fixture) {
		b := bindParams(f.exchange(t, "o-1", t0), uuid.Nil, t0)
		b.Target, b.Method = binding.Target{Phone: "+8613800001001", New: newID()}, auth.BindPhone
		before := f.counts(t)
		made := f.mustBind(t, b).Person
		wantEqual(t, "person", made, &auth.Person{ID: b.Target.New, ExternalID: b.Target.New.String()})
		f.wantCounts(t, before, counts{Persons: 1, Cutoffs: 1, Audit: 2})
		record, err := f.Store.Person(t.Context(), made.ID)
		wantCode(t, err, "")
		wantEqual(t, "record", record, auth.PersonRecord{Person: *made, Phone: "+8613800001001", Attributes: []byte("{}"),
			Source: auth.PersonByPhone, CreatedAt: t0, UpdatedAt: t0})
		created := f.records(t, audit.Query{Action: string(auth.AuditPersonCreated)})[0]
		wantEqual(t, "detail of the event", created.Detail, map[string]any{"method": "phone", "phone": "+86138****1001"})

		b = bindParams(f.exchange(t, "o-2", t0), uuid.Nil, t0)
		b.Target, b.Second = binding.Target{Phone: "+8613800001001", New: newID()}, auth.SecondJoins
		wantEqual(t, "person of the second", f.mustBind(t, b).Person, made)

		b.Target.Phone, b.Ver = "+8613800001009", 7
		b.Session = f.exchange(t, "o-3", t0).ID
		f.refuseBind(t, b, auth.SessionRevoked) // and no person was created
	}},
	{"a person to save is created or updated by external_id", func(t *testing.T, f *fixture) {
		name, phone := "李雷", "+8613800001001"
		b := bindParams(f.exchange(t, "o-1", t0), uuid.Nil, t0)
		b.Method = auth.BindWebhook
		b.Target = binding.Target{Save: &person.Draft{ID: newID(), ExternalID: "1001", Name: &name, Phone: &phone,
			Facts: map[string][]byte{"name": make([]byte, 32)}, Source: auth.PersonByWebhook}}
		got := f.mustBind(t, b)
		wantEqual(t, "person", got.Person, &auth.Person{ID: b.Target.Save.ID, ExternalID: "1001", Name: "李雷"})

		later := t0.Add(time.Hour)
		renamed := "李磊"
		b = bindParams(got, uuid.Nil, later)
		b.Target = binding.Target{Save: &person.Draft{ID: newID(), ExternalID: "1001", Name: &renamed, Attributes: []byte(`{"a":1}`)}}
		before := f.counts(t)
		done, err := f.Store.Bind(t.Context(), b)
		wantCode(t, err, "")
		wantEqual(t, "changed", done.Changed, false)
		// A webhook's change of a person is audited even if the binding does not
		// change; a repetition is not audited.
		f.wantCounts(t, before, counts{Audit: 1})
		changed := f.text(t, `select detail from audit where action = ?`, string(auth.AuditPersonUpdated))
		if !strings.Contains(changed, "name") || !strings.Contains(changed, "attributes") || strings.Contains(changed, renamed) {
			t.Errorf("audited changes = %s", changed)
		}
		before = f.counts(t)
		again := b
		again.Now = later.Add(time.Hour)
		_, err = f.Store.Bind(t.Context(), again)
		wantCode(t, err, "")
		f.wantCounts(t, before, counts{})
		record, err := f.Store.Person(t.Context(), got.Person.ID)
		wantCode(t, err, "")
		wantEqual(t, "record", record, auth.PersonRecord{
			Person: auth.Person{ID: got.Person.ID, ExternalID: "1001", Name: "李磊"}, Phone: phone, Attributes: []byte(`{"a":1}`),
			Facts: []string{"name"}, Source: auth.PersonByWebhook, CreatedAt: t0, UpdatedAt: later,
		})

		for _, externalID := range []string{"1002", "1003"} {
			if externalID == "1003" {
				f.person(t, externalID)
			}
			b = bindParams(f.exchange(t, "o-2", t0), uuid.Nil, t0)
			b.Target = binding.Target{Save: &person.Draft{ID: newID(), ExternalID: externalID, Name: &name, Phone: &phone}}
			f.refuseBind(t, b, auth.PersonConflict)
		}
	}},
	{"unbinding removes the person from every session and raises its ver", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		s, tablet := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0)
		s = f.mustBind(t, bindParams(s, p.ID, t0))
		before := f.counts(t)
		done, err := f.Store.Unbind(t.Context(), unbindParams(s, t0))
		wantCode(t, err, "")
		want := s
		want.Person, want.Ver = nil, 3
		wantEqual(t, "result", done, binding.BindResult{Session: want, Changed: true})
		wantEqual(t, "stored", f.stored(t, s.ID), want)
		if got := f.stored(t, tablet.ID); got.Person != nil || got.Ver != 3 {
			t.Errorf("session of the other device = %+v", got)
		}
		f.wantCounts(t, before, counts{Cutoffs: 2, Audit: 1})
		wantEqual(t, "the identity", f.number(t, `select count(*) from identities where person_id is null and bound_by is null and bound_at is null`), 1)
		if next := f.exchange(t, "o-1", t0); next.Person != nil {
			t.Errorf("person of the next log-in = %v, want nil", next.Person)
		}

		before = f.counts(t)
		done, err = f.Store.Unbind(t.Context(), unbindParams(want, t0))
		wantCode(t, err, "")
		wantEqual(t, "changed again", done.Changed, false)
		f.wantCounts(t, before, counts{})
		_, err = f.Store.Unbind(t.Context(), unbindParams(s, t0))
		wantCode(t, err, auth.SessionRevoked)
	}},
}
