package storetest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/person"
)

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// mac returns a MAC that starts with a byte.
func mac(first byte) []byte { return append([]byte{first}, make([]byte, 31)...) }

// withFacts adds a person with facts.
func (f *fixture) withFacts(t testing.TB, externalID string, facts map[string][]byte) uuid.UUID {
	t.Helper()
	p, err := f.Store.CreatePerson(t.Context(), person.Draft{ID: newID(), ExternalID: externalID, Facts: facts}, event(auth.AuditPersonCreated, t0))
	wantCode(t, err, "")
	return p.ID
}

var personTests = []test{
	{"a created person is read back unchanged", func(t *testing.T, f *fixture) {
		name, phone := "李雷", "+8613800001001"
		d := person.Draft{
			ID: newID(), ExternalID: "1001", Name: &name, Phone: &phone, Attributes: []byte(`{"部门":"一 <b>","b":1.50}`),
			Facts: map[string][]byte{"name": mac(1), "employee_no": mac(2), "not_there": nil}, Source: auth.PersonByAdmin,
		}
		before := f.counts(t)
		got, err := f.Store.CreatePerson(t.Context(), d, event(auth.AuditPersonCreated, t0))
		wantCode(t, err, "")
		want := auth.PersonRecord{
			Person: auth.Person{ID: d.ID, ExternalID: "1001", Name: "李雷"}, Phone: phone, Attributes: d.Attributes,
			Facts: []string{"employee_no", "name"}, Source: auth.PersonByAdmin, CreatedAt: t0, UpdatedAt: t0,
		}
		wantEqual(t, "result", got, want)
		got, err = f.Store.Person(t.Context(), d.ID)
		wantCode(t, err, "")
		wantEqual(t, "person", got, want)
		f.wantCounts(t, before, counts{Persons: 1, Audit: 1})
		wantEqual(t, "person of the event", f.lastRecord(t).Person, d.ID)
	}},
	{"another person's external_id or phone is a conflict and changes nothing", func(t *testing.T, f *fixture) {
		phone := "+8613800001001"
		_, err := f.Store.CreatePerson(t.Context(), person.Draft{ID: newID(), ExternalID: "1001", Phone: &phone}, event(auth.AuditPersonCreated, t0))
		wantCode(t, err, "")
		before := f.counts(t)
		for _, d := range []person.Draft{{ExternalID: "1001"}, {ExternalID: "1002", Phone: &phone}} {
			d.ID = newID()
			_, err = f.Store.CreatePerson(t.Context(), d, event(auth.AuditPersonCreated, t0))
			wantCode(t, err, auth.PersonConflict)
		}
		f.wantCounts(t, before, counts{})
	}},
	{"a missing person is not found", func(t *testing.T, f *fixture) {
		_, err := f.Store.Person(t.Context(), newID())
		wantCode(t, err, auth.NotFound)
	}},
	{"the first fact key is kept", func(t *testing.T, f *fixture) {
		got, err := f.Store.FactKey(t.Context())
		wantCode(t, err, "")
		if got != nil {
			t.Errorf("FactKey() before AddFactKey = %x, want nil", got)
		}
		for _, sealed := range []string{"first", "second"} {
			got, err := f.Store.AddFactKey(t.Context(), []byte(sealed), t0)
			wantCode(t, err, "")
			wantEqual(t, "key", string(got), "first")
		}
		got, err = f.Store.FactKey(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "key", string(got), "first")
	}},
	{"a candidate has the value or is the next in order", func(t *testing.T, f *fixture) {
		got, err := f.Store.Candidate(t.Context(), "no", mac(1))
		wantCode(t, err, "")
		wantEqual(t, "candidate without persons", got, binding.Candidate{})
		two := f.withFacts(t, "2", map[string][]byte{"no": mac(20), "name": mac(1)})
		four := f.withFacts(t, "4", map[string][]byte{"no": mac(40), "name": mac(2), "birthday": mac(9)})
		f.withFacts(t, "x", map[string][]byte{"name": mac(40)}) // another fact
		for _, c := range []struct {
			asked  byte
			person uuid.UUID
			lookup byte
			facts  int
		}{{20, two, 20, 2}, {10, two, 20, 2}, {21, four, 40, 3}, {40, four, 40, 3}, {41, two, 20, 2}, {255, two, 20, 2}} {
			got, err := f.Store.Candidate(t.Context(), "no", mac(c.asked))
			wantCode(t, err, "")
			if got.Person != c.person || !bytes.Equal(got.Lookup, mac(c.lookup)) || got.Shared || len(got.Facts) != c.facts ||
				!bytes.Equal(got.Facts["no"], mac(c.lookup)) {
				t.Errorf("Candidate(%d) = %+v", c.asked, got)
			}
		}
	}},
	{"a value of two persons is ambiguous", func(t *testing.T, f *fixture) {
		f.withFacts(t, "1", map[string][]byte{"no": mac(1)})
		f.withFacts(t, "2", map[string][]byte{"no": mac(1)})
		got, err := f.Store.Candidate(t.Context(), "no", mac(1))
		wantCode(t, err, "")
		if !got.Shared {
			t.Errorf("Candidate() = %+v", got)
		}
	}},
	{"a number finds its person with or without facts", func(t *testing.T, f *fixture) {
		got, err := f.Store.PhoneCandidate(t.Context(), "+8613800001001")
		wantCode(t, err, "")
		wantEqual(t, "candidate without persons", got, binding.Candidate{})
		for phone, facts := range map[string]map[string][]byte{"+8613800001001": {}, "+8613800001002": {"a": mac(1), "b": mac(2)}} {
			p, err := f.Store.CreatePerson(t.Context(), person.Draft{ID: newID(), Phone: &phone, Facts: facts}, event(auth.AuditPersonCreated, t0))
			wantCode(t, err, "")
			got, err := f.Store.PhoneCandidate(t.Context(), phone)
			wantCode(t, err, "")
			wantEqual(t, "candidate", got, binding.Candidate{Person: p.ID, Facts: facts})
		}
	}},
}

// ticket adds a ticket for a person that is valid for ten minutes.
func (f *fixture) ticket(t testing.TB, p auth.Person, appID string) person.Ticket {
	t.Helper()
	id := newID()
	tk := person.Ticket{Hash: [32]byte(append(id[:], id[:]...)), Person: p, AppID: appID, CreatedAt: t0, ExpiresAt: t0.Add(10 * time.Minute)}
	if err := f.Store.AddTicket(t.Context(), tk, event(auth.AuditTicketMinted, t0)); err != nil {
		t.Fatalf("AddTicket() error = %v", err)
	}
	return tk
}

func ticketParams(s auth.Session, tk person.Ticket, now time.Time) binding.BindParams {
	b := bindParams(s, tk.Person.ID, now)
	b.Ticket, b.Method = &tk.Hash, auth.BindTicket
	return b
}

var ticketTests = []test{
	{"a ticket is read back with its person", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		before := f.counts(t)
		for _, appID := range []string{"", appA} {
			tk := f.ticket(t, p, appID)
			got, err := f.Store.Ticket(t.Context(), tk.Hash)
			wantCode(t, err, "")
			wantEqual(t, "ticket", got, tk)
		}
		f.wantCounts(t, before, counts{Audit: 2})
		_, err := f.Store.Ticket(t.Context(), [32]byte{1})
		wantCode(t, err, auth.TicketInvalid)
	}},
	{"a ticket needs an enabled person and an existing app", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		before := f.counts(t)
		add := func(tk person.Ticket) error {
			return f.Store.AddTicket(t.Context(), tk, event(auth.AuditTicketMinted, t0))
		}
		wantCode(t, add(person.Ticket{Person: auth.Person{ID: newID()}, CreatedAt: t0, ExpiresAt: t0}), auth.NotFound)
		wantCode(t, add(person.Ticket{Person: p, AppID: "wxnone", CreatedAt: t0, ExpiresAt: t0}), auth.AppUnknown)
		f.exec(t, `update persons set disabled_at = ?`, f.Time(t0))
		wantCode(t, add(person.Ticket{Person: p, CreatedAt: t0, ExpiresAt: t0}), auth.PersonDisabled)
		f.wantCounts(t, before, counts{})
	}},
	{"a ticket binds once, and again for the identity that it bound", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		tk := f.ticket(t, p, "")
		s := f.exchange(t, "o-1", t0)
		bound := f.mustBind(t, ticketParams(s, tk, t0))
		used, err := f.Store.Ticket(t.Context(), tk.Hash)
		wantCode(t, err, "")
		wantEqual(t, "used by", used.UsedBy, s.Identity)

		// The response was lost. Meanwhile the phone has refreshed or logged in
		// again, and the ticket has expired.
		tablet := f.exchange(t, "o-1", t0)
		before := f.dump(t)
		for _, s := range []auth.Session{bound, tablet} {
			done, err := f.Store.Bind(t.Context(), ticketParams(s, tk, t0.Add(time.Hour)))
			wantCode(t, err, "")
			wantEqual(t, "changed", done.Changed, false)
			wantEqual(t, "person", done.Session.Person, &p)
		}
		wantEqual(t, "rows", f.dump(t), before)

		b := ticketParams(f.exchange(t, "o-2", t0), tk, t0)
		b.Second = auth.SecondJoins
		f.refuseBind(t, b, auth.TicketInvalid)

		done, err := f.Store.Unbind(t.Context(), unbindParams(bound, t0))
		wantCode(t, err, "")
		f.refuseBind(t, ticketParams(done.Session, tk, t0), auth.TicketInvalid)
	}},
	{"an expired ticket, or one of another app or person, cannot bind", func(t *testing.T, f *fixture) {
		p, q := f.person(t, "1001"), f.person(t, "1002")
		s := f.exchange(t, "o-1", t0)
		tk := f.ticket(t, p, appA)
		f.refuseBind(t, ticketParams(s, tk, tk.ExpiresAt), auth.TicketInvalid)
		b := ticketParams(s, tk, t0)
		b.Target.Person = q.ID
		f.refuseBind(t, b, auth.TicketInvalid)
		f.refuseBind(t, ticketParams(s, f.ticket(t, p, appB), t0), auth.TicketInvalid)
		b = ticketParams(s, tk, t0)
		b.Ticket = &[32]byte{1}
		f.refuseBind(t, b, auth.TicketInvalid)
		f.mustBind(t, ticketParams(s, tk, tk.ExpiresAt.Add(-time.Microsecond)))
	}},
	{"a refused binding does not use up the ticket", func(t *testing.T, f *fixture) {
		p := f.person(t, "1001")
		f.mustBind(t, bindParams(f.exchange(t, "o-1", t0), p.ID, t0))
		tk := f.ticket(t, p, "")
		b := ticketParams(f.exchange(t, "o-2", t0), tk, t0)
		f.refuseBind(t, b, auth.PersonTaken)
		b.Second = auth.SecondReplaces
		f.mustBind(t, b)
	}},
	{"tickets are deleted a day after they expire", func(t *testing.T, f *fixture) {
		tk := f.ticket(t, f.person(t, "1001"), "")
		last := tk.ExpiresAt.Add(person.TicketRetention)
		for i, at := range []time.Time{last, last.Add(time.Microsecond)} {
			n, err := f.Store.DeleteExpired(t.Context(), t0, at, 10)
			wantCode(t, err, "")
			wantEqual(t, "deleted", n, i)
		}
		_, err := f.Store.Ticket(t.Context(), tk.Hash)
		wantCode(t, err, auth.TicketInvalid)
	}},
}
