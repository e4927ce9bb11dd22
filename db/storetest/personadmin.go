package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

func text(s string) *string { return &s }

// factMAC returns the stored form of a fact.
func factMAC(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// personDraft returns a draft of a person by an admin.
func personDraft(externalID, name, phone string, facts map[string][]byte) person.Draft {
	d := person.Draft{ID: newID(), ExternalID: externalID, Facts: facts, Source: auth.PersonByAdmin}
	if name != "" {
		d.Name = &name
	}
	if phone != "" {
		d.Phone = &phone
	}
	return d
}

func (f *fixture) createPerson(t testing.TB, d person.Draft) auth.PersonRecord {
	t.Helper()
	return f.createPersonBy(t, d, event(auth.AuditPersonCreated, t0))
}

func (f *fixture) createPersonBy(t testing.TB, d person.Draft, by auth.AuditEvent) auth.PersonRecord {
	t.Helper()
	p, err := f.Store.CreatePerson(t.Context(), d, by)
	wantCode(t, err, "")
	return p
}

// record reads a person.
func (f *fixture) record(t testing.TB, id uuid.UUID) auth.PersonRecord {
	t.Helper()
	p, err := f.Store.Person(t.Context(), id)
	wantCode(t, err, "")
	return p
}

// factsOf counts the facts of a person with a MAC.
func (f *fixture) factsOf(t testing.TB, id uuid.UUID, m []byte) int {
	t.Helper()
	return f.number(t, `select count(*) from person_facts where person_id = ? and mac = ?`, id.String(), m)
}

// bindTo binds an identity to a person as an admin.
func (f *fixture) bindTo(t testing.TB, identity, person uuid.UUID, second auth.SecondIdentity) person.IdentityRecord {
	t.Helper()
	c := change(identity, auth.AuditBound, t0)
	c.Person, c.Second = person, second
	i, err := f.Store.BindIdentity(t.Context(), c)
	wantCode(t, err, "")
	return i
}

// lastRecord returns the audit event that was written last.
func (f *fixture) lastRecord(t testing.TB) audit.Record {
	t.Helper()
	return f.auditRecord(t, int64(f.number(t, `select max(id) from audit`)))
}

// detail returns a member of the newest audit event's detail.
func (f *fixture) detail(t testing.TB, name string) string {
	t.Helper()
	switch v := f.lastRecord(t).Detail[name].(type) {
	case string:
		return v
	case nil:
		return ""
	default:
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(j)
	}
}

func (f *fixture) lastAction(t testing.TB) string {
	t.Helper()
	return f.text(t, `select action from audit where id = (select max(id) from audit)`)
}

var personAdminTests = []test{
	{"a person keeps a source that a later binding method has", func(t *testing.T, f *fixture) {
		d := personDraft("1001", "李雷", "", nil)
		d.Source = "card"
		f.createPerson(t, d)
		if got := f.record(t, d.ID).Source; got != "card" {
			t.Errorf("Source = %q, want %q", got, "card")
		}
	}},
	{"a person is read back and found by each of their names", func(t *testing.T, f *fixture) {
		d := personDraft("1001", "李雷", "+8613800001001", map[string][]byte{"name": factMAC(2), "employee_no": factMAC(1)})
		d.Attributes = []byte(`{"b":1,"a":"x"}`)
		want := auth.PersonRecord{
			Person: auth.Person{ID: d.ID, ExternalID: "1001", Name: "李雷"}, Phone: "+8613800001001",
			Attributes: []byte(`{"b":1,"a":"x"}`), Facts: []string{"employee_no", "name"}, Source: auth.PersonByAdmin,
			CreatedAt: t0, UpdatedAt: t0,
		}
		wantEqual(t, "made", f.createPerson(t, d), want)
		wantEqual(t, "read", f.record(t, d.ID), want)
		f.createPerson(t, personDraft("1002", "李雷雷", "+8613800001002", nil))
		f.createPerson(t, personDraft("%", "李%", "", nil))
		for name, c := range map[string]struct {
			q    person.Query
			want []string
		}{
			"all":                      {person.Query{}, []string{"1001", "1002", "%"}},
			"external_id":              {person.Query{ExternalID: "1001"}, []string{"1001"}},
			"phone":                    {person.Query{Phone: "+8613800001002"}, []string{"1002"}},
			"the beginning of a name":  {person.Query{Name: "李雷"}, []string{"1001", "1002"}},
			"a name and no pattern":    {person.Query{Name: "李%"}, []string{"%"}},
			"the end of a name":        {person.Query{Name: "雷"}, nil},
			"two that agree":           {person.Query{Name: "李", Phone: "+8613800001001"}, []string{"1001"}},
			"two that do not":          {person.Query{ExternalID: "1001", Phone: "+8613800001002"}, nil},
			"those after one":          {person.Query{After: d.ID}, []string{"1002", "%"}},
			"those after one, by name": {person.Query{Name: "李", After: d.ID}, []string{"1002", "%"}},
		} {
			c.q.Limit = 10
			found, err := f.Store.Persons(t.Context(), c.q)
			wantCode(t, err, "")
			var ids []string
			for _, p := range found {
				ids = append(ids, p.ExternalID)
			}
			wantEqual(t, "found by "+name, ids, c.want)
		}
		page, err := f.Store.Persons(t.Context(), person.Query{Limit: 2})
		wantCode(t, err, "")
		wantEqual(t, "length of a page", len(page), 2)
		_, err = f.Store.Person(t.Context(), newID())
		wantCode(t, err, auth.NotFound)
	}},
	{"an update changes only the given fields; the audit names them without values", func(t *testing.T, f *fixture) {
		d := personDraft("1001", "李雷", "+8613800001001", map[string][]byte{"name": factMAC(1), "id_no": factMAC(2), "old": factMAC(3)})
		d.Attributes = []byte(`{"dept":"A"}`)
		want := f.createPerson(t, d)
		before, later := f.counts(t), t0.Add(time.Hour)
		u := person.Draft{
			ExternalID: "1001a", Name: text("李蕾"), Phone: text(""), Attributes: []byte(`{"dept":"B"}`),
			Facts: map[string][]byte{"name": factMAC(9), "id_no": factMAC(2), "old": nil, "never": nil},
		}
		want.ExternalID, want.Name, want.Phone, want.Attributes = "1001a", "李蕾", "", []byte(`{"dept":"B"}`)
		want.Facts, want.UpdatedAt = []string{"id_no", "name"}, later
		got, err := f.Store.UpdatePerson(t.Context(), d.ID, u, event(auth.AuditPersonUpdated, later))
		wantCode(t, err, "")
		wantEqual(t, "result", got, want)
		wantEqual(t, "person", f.record(t, d.ID), want)
		wantEqual(t, "the new fact", f.factsOf(t, d.ID, factMAC(9)), 1)
		f.wantCounts(t, before, counts{Audit: 1})
		wantEqual(t, "changed", slices.Sorted(slices.Values(jsonStrings(t, f.detail(t, "changed")))),
			[]string{"attributes", "external_id", "facts.name", "facts.old", "name", "phone"})
		wantEqual(t, "person in the audit trail", f.lastRecord(t).Person, d.ID)

		// Neither a repeated update nor an empty one changes anything.
		for _, same := range []person.Draft{u, {}} {
			got, err = f.Store.UpdatePerson(t.Context(), d.ID, same, event(auth.AuditPersonUpdated, later.Add(time.Hour)))
			wantCode(t, err, "")
			wantEqual(t, "unchanged", got, want)
		}
		f.wantCounts(t, before, counts{Audit: 1})
	}},
	{"an update to another person's value is a conflict and changes nothing", func(t *testing.T, f *fixture) {
		first := f.createPerson(t, personDraft("1001", "李雷", "+8613800001001", nil))
		second := f.createPerson(t, personDraft("1002", "韩梅梅", "+8613800001002", map[string][]byte{"name": factMAC(1)}))
		before := f.counts(t)
		for _, d := range []person.Draft{
			{ExternalID: "1001", Name: text("x")},
			{Phone: text("+8613800001001"), Facts: map[string][]byte{"name": factMAC(5)}},
		} {
			_, err := f.Store.UpdatePerson(t.Context(), second.ID, d, event(auth.AuditPersonUpdated, t0))
			wantCode(t, err, auth.PersonConflict)
		}
		for _, d := range []person.Draft{
			personDraft("1001", "", "", nil), personDraft("1003", "", "+8613800001001", map[string][]byte{"name": factMAC(1)}),
		} {
			_, err := f.Store.CreatePerson(t.Context(), d, event(auth.AuditPersonCreated, t0))
			wantCode(t, err, auth.PersonConflict)
		}
		wantEqual(t, "the second", f.record(t, second.ID), second)
		wantEqual(t, "the first", f.record(t, first.ID), first)
		_, err := f.Store.UpdatePerson(t.Context(), newID(), person.Draft{}, event(auth.AuditPersonUpdated, t0))
		wantCode(t, err, auth.NotFound)
		f.wantCounts(t, before, counts{})
	}},
	{"the number of facts of a person is limited", func(t *testing.T, f *fixture) {
		facts := map[string][]byte{}
		for i := range auth.MaxFacts {
			facts[fmt.Sprintf("f%d", i)] = factMAC(byte(i))
		}
		p := f.createPerson(t, personDraft("1001", "", "", facts))
		_, err := f.Store.UpdatePerson(t.Context(), p.ID, person.Draft{Facts: map[string][]byte{"more": factMAC(99)}}, event(auth.AuditPersonUpdated, t0))
		wantCode(t, err, auth.InvalidRequest)
		_, err = f.Store.UpdatePerson(t.Context(), p.ID, person.Draft{Facts: map[string][]byte{"more": factMAC(99), "f0": nil}}, event(auth.AuditPersonUpdated, t0))
		wantCode(t, err, "")
	}},
	{"a disabled person loses the sessions of all identities and cannot log in", func(t *testing.T, f *fixture) {
		p := f.createPerson(t, personDraft("1001", "李雷", "", nil))
		a, b, other := f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0), f.exchange(t, "o-3", t0)
		f.bindTo(t, a.Identity, p.ID, auth.SecondJoins)
		f.bindTo(t, b.Identity, p.ID, auth.SecondJoins)
		before, later := f.counts(t), t0.Add(time.Hour)
		for range 2 {
			got, err := f.Store.DisablePerson(t.Context(), p.ID, event(auth.AuditPersonDisabled, later))
			wantCode(t, err, "")
			if !got.Disabled || !got.UpdatedAt.Equal(later) {
				t.Errorf("DisablePerson() = %+v", got)
			}
		}
		f.wantCounts(t, before, counts{Audit: 1, Cutoffs: 2})
		wantEqual(t, "sessions in the audit trail", f.detail(t, "sessions"), "2")
		for _, s := range []auth.Session{a, b} {
			f.refuse(t, s.ID, 1, later, auth.SessionRevoked)
			if got := f.stored(t, s.ID); got.EndReason != auth.EndPersonDisabled || !got.EndedAt.Equal(later) {
				t.Errorf("session ended at %s with reason %q", got.EndedAt, got.EndReason)
			}
			f.wantSessionCutoff(t, s, later)
		}
		f.wantLive(t, other)
		_, err := f.Store.Exchange(t.Context(), params(appA, "o-1", later))
		wantCode(t, err, auth.PersonDisabled)
		c := change(other.Identity, auth.AuditBound, later)
		c.Person = p.ID
		_, err = f.Store.BindIdentity(t.Context(), c)
		wantCode(t, err, auth.PersonDisabled)

		for range 2 {
			got, err := f.Store.EnablePerson(t.Context(), p.ID, event(auth.AuditPersonEnabled, later))
			wantCode(t, err, "")
			wantEqual(t, "disabled", got.Disabled, false)
		}
		f.refuse(t, a.ID, 1, later, auth.SessionRevoked)
		if s := f.exchange(t, "o-1", later); s.Person == nil || s.Person.ID != p.ID {
			t.Errorf("person of the log-in = %v", s.Person)
		}
		for _, toggle := range []func() (auth.PersonRecord, error){
			func() (auth.PersonRecord, error) {
				return f.Store.DisablePerson(t.Context(), newID(), event(auth.AuditPersonDisabled, t0))
			},
			func() (auth.PersonRecord, error) {
				return f.Store.EnablePerson(t.Context(), newID(), event(auth.AuditPersonEnabled, t0))
			},
		} {
			_, err := toggle()
			wantCode(t, err, auth.NotFound)
		}
	}},
}

// outcomes returns the results of drafts, an error as its code.
func outcomes(done []person.Upserted) []string {
	var all []string
	for _, d := range done {
		if d.Err != nil {
			all = append(all, string(auth.CodeOf(d.Err)))
		} else {
			all = append(all, string(d.Outcome))
		}
	}
	return all
}

func (f *fixture) upsert(t testing.TB, now time.Time, drafts ...person.Draft) []string {
	t.Helper()
	done, err := f.Store.UpsertPersons(t.Context(), person.Upsert{Drafts: drafts, Event: event(auth.AuditPersonsImported, now)})
	wantCode(t, err, "")
	return outcomes(done)
}

// byExternalID reads a person by external_id.
func (f *fixture) byExternalID(t testing.TB, id string) auth.PersonRecord {
	t.Helper()
	found, err := f.Store.Persons(t.Context(), person.Query{ExternalID: id, Limit: 1})
	wantCode(t, err, "")
	if len(found) != 1 {
		t.Fatalf("person %s does not exist", id)
	}
	return found[0]
}

var upsertTests = []test{
	{"persons are created, updated and left unchanged", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		a := personDraft("A", "甲", "+8613800000001", map[string][]byte{"no": factMAC(1), "name": factMAC(2)})
		a.Attributes = []byte(`{"x":1}`)
		b := personDraft("B", "", "", nil)
		wantEqual(t, "first", f.upsert(t, t0, a, b), []string{"created", "created"})
		f.wantCounts(t, before, counts{Persons: 2, Audit: 1})
		want := auth.PersonRecord{
			Person: auth.Person{ID: a.ID, ExternalID: "A", Name: "甲"}, Phone: "+8613800000001", Attributes: []byte(`{"x":1}`),
			Facts: []string{"name", "no"}, Source: auth.PersonByAdmin, CreatedAt: t0, UpdatedAt: t0,
		}
		wantEqual(t, "A", f.record(t, a.ID), want)

		later := t0.Add(time.Hour)
		a.ID, b.ID = newID(), newID() // ignored: the persons are known
		b.Phone, b.Facts = text("+8613800000002"), map[string][]byte{"no": factMAC(7)}
		wantEqual(t, "again", f.upsert(t, later, a, b), []string{"unchanged", "updated"})
		wantEqual(t, "A", f.record(t, want.ID), want)
		if p := f.byExternalID(t, "B"); p.Phone != "+8613800000002" || !p.UpdatedAt.Equal(later) || !slices.Equal(p.Facts, []string{"no"}) {
			t.Errorf("person B = %+v", p)
		}
		f.wantCounts(t, before, counts{Persons: 2, Audit: 2})
		for name, n := range map[string]string{"created": "0", "updated": "1", "unchanged": "1", "refused": "0"} {
			wantEqual(t, name, f.detail(t, name), n)
		}
		wantEqual(t, "the third time", f.upsert(t, later, a, b), []string{"unchanged", "unchanged"})
		f.wantCounts(t, before, counts{Persons: 2, Audit: 2})
	}},
	{"fields that a draft omits stay, and a nil fact is removed", func(t *testing.T, f *fixture) {
		a := personDraft("A", "甲", "+8613800000001", map[string][]byte{"no": factMAC(1), "old": factMAC(2)})
		a.Attributes = []byte(`{"x":1}`)
		f.upsert(t, t0, a)
		wantEqual(t, "outcome", f.upsert(t, t0, person.Draft{ID: newID(), ExternalID: "A"}), []string{"unchanged"})
		wantEqual(t, "outcome", f.upsert(t, t0, person.Draft{
			ID: newID(), ExternalID: "A", Phone: text(""), Facts: map[string][]byte{"old": nil, "new": factMAC(3)},
		}), []string{"updated"})
		if p := f.record(t, a.ID); p.Name != "甲" || p.Phone != "" || string(p.Attributes) != `{"x":1}` || !slices.Equal(p.Facts, []string{"new", "no"}) {
			t.Errorf("person A = %+v", p)
		}
	}},
	{"a phone of another person fails only its own row", func(t *testing.T, f *fixture) {
		f.upsert(t, t0, personDraft("A", "甲", "+8613800000001", nil), personDraft("B", "乙", "+8613800000002", nil))
		before := f.counts(t)
		got := f.upsert(t, t0,
			personDraft("C", "丙", "+8613800000003", nil),
			personDraft("D", "丁", "+8613800000001", map[string][]byte{"no": factMAC(1)}), // A has it
			personDraft("B", "x", "+8613800000003", nil),                                 // C has just got it
			personDraft("E", "戊", "", nil),
		)
		wantEqual(t, "outcomes", got, []string{"created", "person_conflict", "person_conflict", "created"})
		f.wantCounts(t, before, counts{Persons: 2, Audit: 1})
		wantEqual(t, "refused", f.detail(t, "refused"), "2")
		if p := f.byExternalID(t, "B"); p.Name != "乙" || p.Phone != "+8613800000002" {
			t.Errorf("person B = %+v", p)
		}
	}},
	{"drafts apply one after another", func(t *testing.T, f *fixture) {
		f.upsert(t, t0, personDraft("A", "甲", "+8613800000001", nil), personDraft("B", "乙", "+8613800000002", nil), personDraft("C", "丙", "", nil))
		got := f.upsert(t, t0,
			personDraft("N", "first", "", map[string][]byte{"no": factMAC(1), "x": factMAC(1)}),
			person.Draft{ID: newID(), ExternalID: "N", Name: text("second"), Facts: map[string][]byte{"no": factMAC(2), "x": nil}},
			personDraft("A", "", "+8613800000002", nil), // B still has it
			personDraft("B", "", "+8613800000009", nil),
			personDraft("A", "", "+8613800000002", nil), // B has released it
			personDraft("C", "", "+8613800000001", nil), // A has released it
			person.Draft{ID: newID(), ExternalID: "N", Name: text("second")},
		)
		wantEqual(t, "outcomes", got, []string{"created", "updated", "person_conflict", "updated", "updated", "updated", "unchanged"})
		for id, phone := range map[string]string{"A": "+8613800000002", "B": "+8613800000009", "C": "+8613800000001"} {
			wantEqual(t, "phone of "+id, f.byExternalID(t, id).Phone, phone)
		}
		n := f.byExternalID(t, "N")
		if n.Name != "second" || !slices.Equal(n.Facts, []string{"no"}) || f.factsOf(t, n.ID, factMAC(2)) != 1 {
			t.Errorf("person N = %+v", n)
		}
	}},
	{"two persons may swap phones in one batch", func(t *testing.T, f *fixture) {
		f.upsert(t, t0, personDraft("A", "", "+8613800000001", nil), personDraft("B", "", "+8613800000002", nil))
		got := f.upsert(t, t0, person.Draft{ID: newID(), ExternalID: "B", Phone: text("")},
			personDraft("A", "", "+8613800000002", nil), personDraft("B", "", "+8613800000001", nil))
		wantEqual(t, "outcomes", got, []string{"updated", "updated", "updated"})
		wantEqual(t, "A", f.byExternalID(t, "A").Phone, "+8613800000002")
		wantEqual(t, "B", f.byExternalID(t, "B").Phone, "+8613800000001")
	}},
	{"a dry run reports and writes nothing", func(t *testing.T, f *fixture) {
		f.upsert(t, t0, personDraft("A", "甲", "+8613800000001", nil))
		before := f.counts(t)
		done, err := f.Store.UpsertPersons(t.Context(), person.Upsert{
			Drafts: []person.Draft{personDraft("A", "x", "", nil), personDraft("B", "", "", nil), personDraft("C", "", "+8613800000001", nil)},
			DryRun: true, Event: event(auth.AuditPersonsImported, t0),
		})
		wantCode(t, err, "")
		wantEqual(t, "outcomes", outcomes(done), []string{"updated", "created", "person_conflict"})
		f.wantCounts(t, before, counts{})
		wantEqual(t, "A", f.byExternalID(t, "A").Name, "甲")
	}},
	{"hostile text is stored as text", func(t *testing.T, f *fixture) {
		var drafts []person.Draft
		for _, s := range []string{`'; drop table persons; --`, `"`, `\`, `$1`, `?1`, "\u2028", `{"a":[1]}`, "🐟", "null", "NULL"} {
			d := personDraft(s, s, "", map[string][]byte{"no": factMAC(0)})
			d.Attributes = []byte(`{"a":"'\"\\"}`)
			drafts = append(drafts, d)
		}
		f.upsert(t, t0, drafts...)
		for _, d := range drafts {
			if p := f.byExternalID(t, d.ExternalID); p.Name != d.ExternalID || string(p.Attributes) != string(d.Attributes) {
				t.Errorf("person %q = %+v", d.ExternalID, p)
			}
		}
	}},
	{"concurrent batches lose no row and create no duplicate", func(t *testing.T, f *fixture) {
		const persons = 40
		before := f.counts(t)
		together(16, func(i int) {
			var drafts []person.Draft
			for n := range persons {
				if i%2 == 1 {
					n = persons - 1 - n
				}
				drafts = append(drafts, personDraft(fmt.Sprint("P", n), fmt.Sprint("by ", i), fmt.Sprintf("+86138000%05d", n), map[string][]byte{"no": factMAC(byte(i))}))
			}
			_, err := f.Store.UpsertPersons(t.Context(), person.Upsert{Drafts: drafts, Event: event(auth.AuditPersonsImported, t0)})
			if err != nil {
				t.Errorf("batch %d: error = %v", i, err)
			}
		})
		f.wantCounts(t, before, counts{Persons: persons, Audit: 16})
		wantEqual(t, "facts", f.number(t, `select count(*) from person_facts`), persons)
		wantEqual(t, "names of a last batch", f.number(t, `select count(distinct name) from persons`), 1)
	}},
	{"a batch and concurrent single changes end as if in some order", func(t *testing.T, f *fixture) {
		together(48, func(i int) {
			var err error
			phone := fmt.Sprintf("+861380000%04d", i%4)
			switch i % 3 {
			case 0:
				_, err = f.Store.CreatePerson(t.Context(), personDraft(fmt.Sprint("P", i%8), "", phone, nil), event(auth.AuditPersonCreated, t0))
			default:
				_, err = f.Store.UpsertPersons(t.Context(), person.Upsert{Drafts: []person.Draft{
					personDraft(fmt.Sprint("P", i%8), "x", phone, nil), personDraft(fmt.Sprint("P", (i+3)%8), "y", "", nil),
				}, Event: event(auth.AuditPersonsImported, t0)})
			}
			if code := auth.CodeOf(err); err != nil && code != auth.PersonConflict {
				t.Errorf("call %d: error = %v", i, err)
			}
		})
		wantEqual(t, "surplus persons", f.number(t, `select count(*) from persons`)-f.number(t, `select count(distinct external_id) from persons`), 0)
	}},
}
