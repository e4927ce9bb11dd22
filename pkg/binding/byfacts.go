package binding

import (
	"context"
	"crypto/subtle"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// byFacts binds a user who knows facts about the person. The policy's lookup fact finds
// the person, and the other facts must match.
type byFacts struct{}

func (byFacts) check(r *Request) error {
	if err := r.checkMembers(members{fields: true}); err != nil {
		return err
	}
	return r.checkFields()
}

func (byFacts) fields(p *auth.Policy) []string {
	return append([]string{p.Facts.Lookup}, p.Facts.Check...)
}

func (m byFacts) prepare(a *attempt) (proof, error) {
	macs, err := a.factMACs(m.fields(&a.app.Policy))
	if err != nil {
		return nil, err
	}
	lookup := a.app.Policy.Facts.Lookup
	f := &factsProof{a: a, lookup: macs[lookup], macs: macs}
	delete(macs, lookup)
	return f, nil
}

func (byFacts) excuses(auth.Code) bool { return false }

type factsProof struct {
	a *attempt
	// lookup is the MAC of the looked-up fact.
	lookup []byte
	macs   factMACs
}

func (f *factsProof) limits() limits {
	return limits{
		keys:   []auth.AttemptKey{auth.ValueAttempts(f.lookup), auth.AddressAttempts(f.a.r.Network, f.a.app.ID)},
		budget: true,
	}
}

func (f *factsProof) find(ctx context.Context, b *BindParams) error {
	c, err := f.a.s.c.Store.Candidate(ctx, f.a.app.Policy.Facts.Lookup, f.lookup)
	if err != nil {
		return err
	}
	// Compare all facts, so that the time does not depend on the first comparison.
	found, match := sameMAC(c.Lookup, f.lookup), f.macs.match(&c)
	unique := 1
	if c.Shared {
		unique = 0
	}
	if found&match&unique != 1 {
		return auth.BindingNoMatch
	}
	b.Target.Person = c.Person
	return nil
}

// factMACs are the MACs of facts by name.
type factMACs map[string][]byte

// factMACs returns the MACs of the fields of a request, which must be exactly the
// named ones.
func (a *attempt) factMACs(names []string) (factMACs, error) {
	if len(a.r.Fields) != len(names) {
		return nil, errFields(names)
	}
	macs := make(factMACs, len(names))
	for _, name := range names {
		value, ok := a.r.Fields[name]
		if !ok {
			return nil, errFields(names)
		}
		normalized, err := person.NormalizeFact(value)
		if err != nil {
			return nil, err
		}
		macs[name] = a.s.c.Facts.MAC(name, normalized)
	}
	return macs, nil
}

// errFields names the fields of the policy, which are not secret.
func errFields(names []string) error {
	if len(names) == 0 {
		return auth.Invalid("fields must be empty: this app asks for none with this method")
	}
	return auth.Invalid("the fields must be exactly those that this app asks for: " + strings.Join(names, ", "))
}

// match returns 1 if the candidate has all of these facts, and 0 otherwise, in a time
// that does not depend on which facts match.
func (m factMACs) match(c *Candidate) int {
	match := 1
	for name, mac := range m {
		match &= sameMAC(c.Facts[name], mac)
	}
	return match
}

// noMAC replaces a missing MAC, so that the comparison takes the same time.
var noMAC [32]byte

func sameMAC(have, want []byte) int {
	there := 1
	if len(have) != len(noMAC) {
		have, there = noMAC[:], 0
	}
	return subtle.ConstantTimeCompare(have, want) & there
}
