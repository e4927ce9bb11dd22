package person

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Upsert is a batch of persons to create or to update.
type Upsert struct {
	// Drafts each have an ExternalID, and the ID to use if no person has that.
	Drafts []Draft
	// DryRun returns the outcomes without writing.
	DryRun bool
	Event  auth.AuditEvent
}

// Outcome is the outcome of one draft.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged"
)

// Upserted is the result for one draft.
type Upserted struct {
	// Outcome is empty if Err is set.
	Outcome Outcome
	Err     error
}

// Known is a person with the MACs of their facts, as a store reads it.
type Known struct {
	Person auth.PersonRecord
	Facts  map[string][]byte
}

// Change is the change of a person by a draft.
type Change struct {
	// After is the person afterwards. Its UpdatedAt is the time of the change.
	After Known
	// Set and Removed are the facts that change.
	Set     map[string][]byte
	Removed []string
	// Fields names the changed fields, for the audit trail; it is empty without a
	// change.
	Fields []string
}

// Apply returns the change that the draft makes to a person at now.
//
// Errors: [auth.InvalidRequest] when the person would have more than [auth.MaxFacts]
// facts.
func (d *Draft) Apply(k Known, now time.Time) (Change, error) {
	c := Change{After: Known{Person: k.Person, Facts: maps.Clone(k.Facts)}, Set: map[string][]byte{}}
	if c.After.Facts == nil {
		c.After.Facts = map[string][]byte{}
	}
	p := &c.After.Person
	set := func(field string, to *string, value string) {
		if *to != value {
			*to, c.Fields = value, append(c.Fields, field)
		}
	}
	if d.ExternalID != "" {
		set("external_id", &p.ExternalID, d.ExternalID)
	}
	if d.Name != nil {
		set("name", &p.Name, *d.Name)
	}
	if d.Phone != nil {
		set("phone", &p.Phone, *d.Phone)
	}
	if d.Attributes != nil && !bytes.Equal(p.Attributes, d.Attributes) {
		p.Attributes, c.Fields = d.Attributes, append(c.Fields, "attributes")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Facts)) {
		mac, before := d.Facts[name], c.After.Facts[name]
		switch {
		case mac == nil && before != nil:
			delete(c.After.Facts, name)
			c.Removed = append(c.Removed, name)
		case mac != nil && !bytes.Equal(mac, before):
			c.After.Facts[name], c.Set[name] = mac, mac
		default:
			continue
		}
		c.Fields = append(c.Fields, "facts."+name)
	}
	if len(c.After.Facts) > auth.MaxFacts {
		return Change{}, auth.Invalid("a person must have at most 16 facts")
	}
	if len(c.Fields) > 0 {
		p.UpdatedAt = auth.StoredTime(now)
		p.Facts = slices.Sorted(maps.Keys(c.After.Facts))
	}
	return c, nil
}

// blank returns the new person of a draft before the draft is applied.
func (d *Draft) blank(now time.Time) Known {
	p := (&Draft{ID: d.ID, ExternalID: d.ExternalID, Source: d.Source}).Row()
	p.CreatedAt = auth.StoredTime(now)
	return Known{Person: p}
}

// FactRow is a row of person_facts.
type FactRow struct {
	Person uuid.UUID
	Name   string
	MAC    []byte
}

// UpsertPlan holds the writes of a store for an [Upsert], in this order.
type UpsertPlan struct {
	// Outcomes are those of the drafts.
	Outcomes []Upserted
	// FreePhones are persons whose phones are removed first, because other persons may
	// get them.
	FreePhones []uuid.UUID
	// Update and Insert are the changed and the new persons.
	Update, Insert []auth.PersonRecord
	// RemoveFacts are the removed facts, and SetFacts the new and changed ones.
	RemoveFacts, SetFacts []FactRow
}

// planned is a person while drafts are applied.
type planned struct {
	before, now Known
	isNew       bool
}

// PlanUpsert applies the drafts one after another and returns the writes. Known are the
// existing persons with the ExternalIDs of the drafts. Owners are the owners of the phones
// of the drafts.
func PlanUpsert(u *Upsert, known []Known, owners map[string]uuid.UUID) UpsertPlan {
	plan := UpsertPlan{Outcomes: make([]Upserted, len(u.Drafts))}
	persons := make(map[string]*planned, len(u.Drafts))
	var order []*planned
	for _, k := range known {
		p := &planned{before: k, now: k}
		persons[k.Person.ExternalID], order = p, append(order, p)
	}
	owners = maps.Clone(owners)
	for i := range u.Drafts {
		d := &u.Drafts[i]
		p, isNew := persons[d.ExternalID], false
		if p == nil {
			p, isNew = &planned{now: d.blank(u.Event.At), isNew: true}, true
		}
		if d.Phone != nil && *d.Phone != "" {
			if owner, taken := owners[*d.Phone]; taken && owner != p.now.Person.ID {
				plan.Outcomes[i].Err = auth.PersonConflict
				continue
			}
		}
		c, err := d.Apply(p.now, u.Event.At)
		if err != nil {
			plan.Outcomes[i].Err = err
			continue
		}
		if was := p.now.Person.Phone; was != c.After.Person.Phone {
			delete(owners, was)
			if is := c.After.Person.Phone; is != "" {
				if owners == nil {
					owners = map[string]uuid.UUID{}
				}
				owners[is] = p.now.Person.ID
			}
		}
		p.now = c.After
		switch {
		case isNew:
			persons[d.ExternalID], order = p, append(order, p)
			plan.Outcomes[i].Outcome = Created
		case len(c.Fields) > 0:
			plan.Outcomes[i].Outcome = Updated
		default:
			plan.Outcomes[i].Outcome = Unchanged
		}
	}
	for _, p := range order {
		plan.add(p)
	}
	return plan
}

// add adds the writes for a person.
func (plan *UpsertPlan) add(p *planned) {
	before, now := &p.before.Person, &p.now.Person
	switch {
	case p.isNew:
		plan.Insert = append(plan.Insert, *now)
	case !now.UpdatedAt.Equal(before.UpdatedAt) || now.Name != before.Name || now.Phone != before.Phone ||
		!bytes.Equal(now.Attributes, before.Attributes) || !maps.EqualFunc(p.now.Facts, p.before.Facts, bytes.Equal):
		plan.Update = append(plan.Update, *now)
		if before.Phone != "" && now.Phone != before.Phone {
			plan.FreePhones = append(plan.FreePhones, now.ID)
		}
	default:
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.before.Facts)) {
		if p.now.Facts[name] == nil {
			plan.RemoveFacts = append(plan.RemoveFacts, FactRow{Person: now.ID, Name: name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.now.Facts)) {
		if mac := p.now.Facts[name]; !bytes.Equal(mac, p.before.Facts[name]) {
			plan.SetFacts = append(plan.SetFacts, FactRow{Person: now.ID, Name: name, MAC: mac})
		}
	}
}

// Changes reports whether there is anything to write.
func (plan *UpsertPlan) Changes() bool { return len(plan.Insert)+len(plan.Update) > 0 }

// Audit returns the event of the batch.
func (plan *UpsertPlan) Audit(event auth.AuditEvent) auth.AuditEvent {
	n := map[Outcome]int{}
	for _, o := range plan.Outcomes {
		n[o.Outcome]++
	}
	return event.With(map[string]any{
		string(Created): n[Created], string(Updated): n[Updated], string(Unchanged): n[Unchanged], "refused": n[""],
	})
}
