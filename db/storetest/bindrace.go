package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

// bindRaceTests bind concurrently, many times. In any order the policy must allow the
// result, and every row must agree with it.
var bindRaceTests = []test{
	{"one identity and two persons: exactly one is bound", func(t *testing.T, f *fixture) {
		for i := range raceRounds {
			p, q := f.person(t, fmt.Sprint("p", i)), f.person(t, fmt.Sprint("q", i))
			s := f.exchange(t, fmt.Sprint("o", i), t0)
			codes := f.race(t, bindParams(s, p.ID, t0), bindParams(s, q.ID, t0))
			// The second one's ver is outdated by the first.
			f.wantCodes(t, codes, map[auth.Code]int{"": 1, auth.SessionRevoked: 1})
			f.wantAgreement(t, s.Identity, s.ID, 2)
		}
	}},
	{"two devices of one identity and two persons: exactly one is bound", func(t *testing.T, f *fixture) {
		for i := range raceRounds {
			p, q := f.person(t, fmt.Sprint("p", i)), f.person(t, fmt.Sprint("q", i))
			s, tablet := f.exchange(t, fmt.Sprint("o", i), t0), f.exchange(t, fmt.Sprint("o", i), t0)
			codes := f.race(t, bindParams(s, p.ID, t0), bindParams(tablet, q.ID, t0))
			f.wantCodes(t, codes, map[auth.Code]int{"": 1, auth.SessionRevoked: 1})
			f.wantAgreement(t, s.Identity, s.ID, 2)
			f.wantAgreement(t, s.Identity, tablet.ID, 2)
		}
	}},
	{"two identities and one person with refuse: one binds", func(t *testing.T, f *fixture) {
		f.twoToOne(t, auth.SecondRefused, map[auth.Code]int{"": 1, auth.PersonTaken: 1}, 1)
	}},
	{"two identities and one person with replace: both bind and one stays", func(t *testing.T, f *fixture) {
		f.twoToOne(t, auth.SecondReplaces, map[auth.Code]int{"": 2}, 1)
		wantEqual(t, "sessions that ended", f.number(t, `select count(*) from sessions where end_reason = 'replaced'`), raceRounds)
		wantEqual(t, "live sessions without a person", f.number(t, `select count(*) from sessions where ended_at is null and person_id is null`), 0)
	}},
	{"two identities and one person with join: both stay", func(t *testing.T, f *fixture) {
		f.twoToOne(t, auth.SecondJoins, map[auth.Code]int{"": 2}, 2)
	}},
	{"two identities with one new number create one person", func(t *testing.T, f *fixture) {
		for i := range raceRounds {
			phone := fmt.Sprintf("+86138%08d", i)
			by := func(openID string) binding.BindParams {
				b := bindParams(f.exchange(t, fmt.Sprint(openID, i), t0), uuid.Nil, t0)
				b.Target, b.Second = binding.Target{Phone: phone, New: newID()}, auth.SecondJoins
				return b
			}
			f.wantCodes(t, f.race(t, by("a"), by("b")), map[auth.Code]int{"": 2})
		}
		wantEqual(t, "persons", f.number(t, `select count(*) from persons`), raceRounds)
		wantEqual(t, "bound identities", f.number(t, `select count(*) from identities where person_id is not null`), 2*raceRounds)
	}},
	{"two identities with one ticket: one binds", func(t *testing.T, f *fixture) {
		for i := range raceRounds {
			tk := f.ticket(t, f.person(t, fmt.Sprint("p", i)), "")
			by := func(openID string) binding.BindParams {
				b := ticketParams(f.exchange(t, fmt.Sprint(openID, i), t0), tk, t0)
				b.Second = auth.SecondJoins
				return b
			}
			f.wantCodes(t, f.race(t, by("a"), by("b")), map[auth.Code]int{"": 1, auth.TicketInvalid: 1})
		}
		wantEqual(t, "bound identities", f.number(t, `select count(*) from identities where person_id is not null`), raceRounds)
	}},
	{"identities that swap persons do not deadlock", func(t *testing.T, f *fixture) {
		for i := range raceRounds {
			p, q := f.person(t, fmt.Sprint("p", i)), f.person(t, fmt.Sprint("q", i))
			a := f.mustBind(t, bindParams(f.exchange(t, fmt.Sprint("a", i), t0), p.ID, t0))
			b := f.mustBind(t, bindParams(f.exchange(t, fmt.Sprint("b", i), t0), q.ID, t0))
			swap := func(s auth.Session, to uuid.UUID) binding.BindParams {
				x := bindParams(s, to, t0)
				x.Rebind, x.Second = true, auth.SecondReplaces
				return x
			}
			for code := range f.race(t, swap(a, q.ID), swap(b, p.ID)) {
				if code != "" && code != auth.SessionRevoked {
					t.Fatalf("Bind() code = %s", code)
				}
			}
		}
		// Each person has at most one identity, and the sessions agree with it.
		wantEqual(t, "persons with two identities", f.number(t, `select count(*) from (select person_id from identities where person_id is not null group by person_id having count(*) > 1) x`), 0)
		wantEqual(t, "live sessions that disagree with their identity", f.number(t, `
select count(*) from sessions s join identities i on i.uuid = s.identity_uuid and i.shard = s.shard
where s.ended_at is null and coalesce(cast(s.person_id as text), '') <> coalesce(cast(i.person_id as text), '')`), 0)
	}},
}

// race runs all bindings concurrently and counts their codes.
func (f *fixture) race(t testing.TB, all ...binding.BindParams) map[auth.Code]int {
	var mu sync.Mutex
	codes := map[auth.Code]int{}
	together(len(all), func(i int) {
		_, err := f.Store.Bind(t.Context(), all[i])
		mu.Lock()
		defer mu.Unlock()
		codes[auth.CodeOf(err)]++
	})
	return codes
}

func (f *fixture) wantCodes(t testing.TB, got, want map[auth.Code]int) {
	t.Helper()
	wantEqual(t, "codes", got, want)
}

func (f *fixture) twoToOne(t *testing.T, rule auth.SecondIdentity, want map[auth.Code]int, stay int) {
	t.Helper()
	for i := range raceRounds {
		p := f.person(t, fmt.Sprint("p", i))
		by := func(openID string) binding.BindParams {
			b := bindParams(f.exchange(t, fmt.Sprint(openID, i), t0), p.ID, t0)
			b.Second = rule
			return b
		}
		f.wantCodes(t, f.race(t, by("a"), by("b")), want)
		wantEqual(t, "identities of the person", f.number(t, `select count(*) from identities where person_id = ?`, p.ID.String()), stay)
		wantEqual(t, "live sessions of the person", f.number(t, `select count(*) from sessions where person_id = ? and ended_at is null`, p.ID.String()), stay)
	}
}

// wantAgreement fails the test unless the session has the identity's person, the ver,
// and one cutoff for each raise.
func (f *fixture) wantAgreement(t testing.TB, identity, id uuid.UUID, ver int) {
	t.Helper()
	wantEqual(t, "sessions that agree with their identity", f.number(t, `
select count(*) from sessions s join identities i on i.uuid = s.identity_uuid and i.shard = s.shard and i.person_id = s.person_id
where s.id = ? and i.uuid = ? and s.ver = ?`, id.String(), identity.String(), ver), 1)
	wantEqual(t, "cutoffs", f.number(t, `select count(*) from cutoffs where session_id = ?`, id.String()), ver-1)
}
