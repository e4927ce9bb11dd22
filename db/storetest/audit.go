package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// someEvents writes n events about persons, one a second, with the same three actions,
// actors, apps and so on in turn.
func (f *fixture) someEvents(t testing.TB, n int) (written []auth.AuditEvent) {
	t.Helper()
	ids := []uuid.UUID{newID(), newID(), newID()}
	for i := range n {
		e := auth.AuditEvent{
			At: t0.Add(time.Duration(i) * time.Second), Action: auth.AuditAction(fmt.Sprint("test.", i%3)), Actor: fmt.Sprint("actor", i%3),
			AppID: fmt.Sprint("wx", i%3), Identity: ids[i%3], Session: ids[(i+1)%3], RequestID: fmt.Sprint("call-", i%3),
			Detail: map[string]any{"number": i, "name": fmt.Sprint("name ", i)},
		}
		d := personDraft(fmt.Sprint("no-", i), "", "", nil)
		if i >= 3 {
			d.ID = newID()
		} else {
			d.ID = ids[i]
		}
		f.createPersonBy(t, d, e)
		e.Person = d.ID
		written = append(written, e)
	}
	return written
}

func (f *fixture) records(t testing.TB, q audit.Query) []audit.Record {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 1000
	}
	all, err := f.Store.AuditRecords(t.Context(), q)
	wantCode(t, err, "")
	return all
}

// auditRecord returns the record with an id.
func (f *fixture) auditRecord(t testing.TB, id int64) audit.Record {
	t.Helper()
	for _, r := range f.records(t, audit.Query{}) {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("no audit record has the id %d", id)
	return audit.Record{}
}

// names returns the personal names of records, which tell them apart.
func names(records []audit.Record) (all []any) {
	for i := range records {
		all = append(all, records[i].Detail["name"])
	}
	return all
}

var auditTests = []test{
	{"each filter and each bound restricts the result, the newest first", func(t *testing.T, f *fixture) {
		w := f.someEvents(t, 7)
		at := func(i int) time.Time { return w[i].At }
		everyThird := []any{"name 4", "name 1"}
		for name, c := range map[string]struct {
			q    audit.Query
			want []any
		}{
			"action":          {audit.Query{Action: "test.1"}, everyThird},
			"actor":           {audit.Query{Actor: "actor1"}, everyThird},
			"app":             {audit.Query{AppID: "wx1"}, everyThird},
			"identity":        {audit.Query{Identity: w[1].Identity}, everyThird},
			"session":         {audit.Query{Session: w[1].Session}, everyThird},
			"person":          {audit.Query{Person: w[1].Person}, []any{"name 1"}},
			"request":         {audit.Query{RequestID: "call-1"}, everyThird},
			"two that agree":  {audit.Query{RequestID: "call-1", Action: "test.1"}, everyThird},
			"two that do not": {audit.Query{RequestID: "call-1", Action: "test.2"}, nil},
			"from":            {audit.Query{From: at(5), Actor: "actor2"}, []any{"name 5"}},
			"until":           {audit.Query{Until: at(5), Actor: "actor2"}, []any{"name 2"}},
			"between":         {audit.Query{From: at(2), Until: at(4), Action: "test.0"}, []any{"name 3"}},
		} {
			wantEqual(t, name, names(f.records(t, c.q)), c.want)
		}
	}},
	{"pages follow each other, also at the same time", func(t *testing.T, f *fixture) {
		for i := range 5 {
			f.createPersonBy(t, personDraft(fmt.Sprint("no-", i), "", "", nil),
				auth.AuditEvent{At: t0, Action: "test", Actor: auth.ActorCLI, Detail: map[string]any{"name": fmt.Sprint(i)}})
		}
		var got []any
		q := audit.Query{Action: "test", Limit: 2}
		for page := f.records(t, q); len(page) > 0; page = f.records(t, q) {
			got = append(got, names(page)...)
			last := page[len(page)-1]
			q.Before = audit.Position{At: last.At, ID: last.ID}
		}
		wantEqual(t, "names", got, []any{"4", "3", "2", "1", "0"})
	}},
	{"a record has all fields of the event", func(t *testing.T, f *fixture) {
		w := f.someEvents(t, 1)[0]
		got := f.records(t, audit.Query{Action: string(w.Action), Limit: 1})[0]
		wantEqual(t, "time", got.At, w.At)
		wantEqual(t, "fields",
			[]any{got.Actor, got.AppID, got.Identity, got.Session, got.Person, got.Reason, got.RequestID, fmt.Sprint(got.Detail)},
			[]any{w.Actor, w.AppID, w.Identity, w.Session, w.Person, w.Reason, w.RequestID, fmt.Sprint(w.Detail)})
	}},
}
