package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

func revokeParams(target session.Target, now time.Time, apps ...string) session.RevokeParams {
	e := event(auth.AuditRevoked, now)
	e.Detail = map[string]any{"ticket": "k1"}
	return session.RevokeParams{Target: target, Apps: apps, Event: e, Now: now}
}

// mustRevoke revokes and checks the number of live sessions that end.
func (f *fixture) mustRevoke(t testing.TB, target session.Target, now time.Time, want int, apps ...string) session.Revoked {
	t.Helper()
	got, err := f.Store.Revoke(t.Context(), revokeParams(target, now, apps...))
	if err != nil {
		t.Fatalf("Revoke() error = %v", err)
	}
	wantEqual(t, "revoked sessions", got.Sessions, want)
	return got
}

// wantRevoked checks that the sessions were revoked at now, each with one cutoff.
func (f *fixture) wantRevoked(t *testing.T, now time.Time, sessions ...auth.Session) {
	t.Helper()
	for _, s := range sessions {
		s.EndedAt, s.EndReason = now, auth.EndRevoked
		wantEqual(t, "stored", f.stored(t, s.ID), s)
		f.wantSessionCutoff(t, s, now)
		r := refreshParams(s.ID, s.Generation, now)
		r.AppID = s.AppID
		_, err := f.Store.Refresh(t.Context(), r)
		wantCode(t, err, auth.SessionRevoked)
	}
}

// wantLive checks that the sessions are unchanged.
func (f *fixture) wantLive(t *testing.T, sessions ...auth.Session) {
	t.Helper()
	for _, s := range sessions {
		wantEqual(t, "another session", f.stored(t, s.ID), s)
	}
}

// wantRevokedAudit checks that the newest audit event is of a revocation with this
// target.
func (f *fixture) wantRevokedAudit(t *testing.T, appID string, identity, id uuid.UUID, detail map[string]any) {
	t.Helper()
	last := ` from audit where id = (select max(id) from audit)`
	text := func(id uuid.UUID) string {
		if id == uuid.Nil {
			return ""
		}
		return id.String()
	}
	got := []string{
		f.text(t, `select action`+last), f.text(t, `select actor`+last), f.text(t, `select reason`+last), f.text(t, `select request_id`+last),
		f.text(t, `select appid`+last), f.text(t, `select identity_uuid`+last), f.text(t, `select session_id`+last),
	}
	wantEqual(t, "audit event", got,
		[]string{string(auth.AuditRevoked), auth.ActorCLI, "because", "req-1", appID, text(identity), text(id)})
	var gotDetail map[string]any
	if err := json.Unmarshal([]byte(f.text(t, `select detail`+last)), &gotDetail); err != nil {
		t.Fatal(err)
	}
	detail["ticket"] = "k1"
	wantEqual(t, "audit detail", gotDetail, detail)
}

var revokeTests = []test{
	{"only the given session ends", func(t *testing.T, f *fixture) {
		s, other := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0)
		before, now := f.counts(t), t0.Add(time.Hour)
		r := f.mustRevoke(t, session.Target{Session: s.ID}, now, 1)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
		wantEqual(t, "cutoff id", int(r.CutoffID), f.number(t, `select max(id) from cutoffs`))
		f.wantRevokedAudit(t, appA, s.Identity, s.ID, map[string]any{"sessions": 1.0})
		f.wantRevoked(t, now, s)
		f.wantLive(t, other)
	}},
	{"an identity loses all sessions and may log in again", func(t *testing.T, f *fixture) {
		mine := []auth.Session{f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0)}
		other := f.exchange(t, "o-2", t0)
		before, now := f.counts(t), t0.Add(time.Hour)
		r := f.mustRevoke(t, session.Target{Identity: mine[0].Identity}, now, 3)
		f.wantCounts(t, before, counts{Cutoffs: 3, Audit: 1})
		wantEqual(t, "cutoff id", int(r.CutoffID), f.number(t, `select max(id) from cutoffs`))
		f.wantRevokedAudit(t, appA, mine[0].Identity, uuid.Nil, map[string]any{"sessions": 3.0})
		f.wantRevoked(t, now, mine...)
		f.wantLive(t, other)
		f.mustRefresh(t, f.exchange(t, "o-1", now).ID, 1, now, session.Rotate)
	}},
	{"a person loses the sessions of all identities", func(t *testing.T, f *fixture) {
		first, second, other := f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0), f.exchange(t, "o-3", t0)
		p := f.bind(t, first.Identity)
		f.exec(t, `update identities set person_id = ? where uuid = ?`, p.ID.String(), second.Identity.String())
		first, second = f.stored(t, first.ID), f.stored(t, second.ID)
		before, now := f.counts(t), t0.Add(time.Hour)
		r := f.mustRevoke(t, session.Target{Person: p.ID}, now, 2)
		f.wantCounts(t, before, counts{Cutoffs: 2, Audit: 1})
		wantEqual(t, "cutoff id", int(r.CutoffID), f.number(t, `select max(id) from cutoffs`))
		f.wantRevokedAudit(t, "", uuid.Nil, uuid.Nil, map[string]any{"sessions": 2.0})
		wantEqual(t, "person in the audit trail", f.lastRecord(t).Person, p.ID)
		f.wantRevoked(t, now, first, second)
		f.wantLive(t, other)
	}},
	{"an app is revoked by its epoch and no session row changes", func(t *testing.T, f *fixture) {
		first, second := f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0)
		g, err := f.Store.Exchange(t.Context(), params(appB, "o-1", t0))
		wantCode(t, err, "")
		before, now := f.counts(t), t0.Add(time.Hour)
		r := f.mustRevoke(t, session.Target{AppID: appA}, now, 2)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
		wantEqual(t, "cutoffs of the app", f.number(t, `select count(*) from cutoffs where id = ? and kind = 'app' and appid = ? and epoch = 1 and expires_at = ?`,
			r.CutoffID, appA, f.Time(now.Add(auth.CutoffRetention))), 1)
		f.wantRevokedAudit(t, appA, uuid.Nil, uuid.Nil, map[string]any{"sessions": 2.0})
		f.wantLive(t, first, second, g.Session) // only the rows
		f.refuse(t, first.ID, 1, now, auth.SessionRevoked)
		f.refuse(t, second.ID, 1, now, auth.SessionRevoked)
		rb := refreshParams(g.Session.ID, 1, now)
		rb.AppID = appB
		_, err = f.Store.Refresh(t.Context(), rb)
		wantCode(t, err, "")
		a, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		if a.Disabled || a.Epoch != 1 || !a.UpdatedAt.Equal(now) {
			t.Errorf("App() = %+v", a)
		}
		f.mustRefresh(t, f.exchange(t, "o-1", now).ID, 1, now, session.Rotate)
	}},
	{"revoking all raises every app's epoch", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		_, err := f.Store.Exchange(t.Context(), params(appB, "o-1", t0))
		wantCode(t, err, "")
		before, now := f.counts(t), t0.Add(time.Hour)
		r := f.mustRevoke(t, session.Target{All: true}, now, 2)
		f.wantCounts(t, before, counts{Cutoffs: 2, Audit: 1})
		wantEqual(t, "cutoff id", int(r.CutoffID), f.number(t, `select max(id) from cutoffs`))
		wantEqual(t, "apps at the next epoch", f.number(t, `select count(*) from cutoffs c join apps a on a.appid = c.appid and a.epoch = c.epoch where c.epoch = 1`), 2)
		f.wantRevokedAudit(t, "", uuid.Nil, uuid.Nil, map[string]any{"sessions": 2.0, "all": true})
		f.refuse(t, s.ID, 1, now, auth.SessionRevoked)
	}},
	{"repeating is harmless and audited", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		p := f.bind(t, s.Identity)
		for _, target := range []session.Target{{Session: s.ID}, {Identity: s.Identity}, {Person: p.ID}} {
			f.exchange(t, "o-1", t0)
			f.mustRevoke(t, session.Target{Identity: s.Identity}, t0, f.number(t, `select count(*) from sessions where ended_at is null`))
			before := f.counts(t)
			wantEqual(t, "cutoff id", f.mustRevoke(t, target, t0.Add(time.Second), 0).CutoffID, 0)
			f.wantCounts(t, before, counts{Audit: 1})
		}
		s = f.exchange(t, "o-1", t0)
		f.mustRevoke(t, session.Target{AppID: appA}, t0, 1)
		before := f.counts(t)
		f.mustRevoke(t, session.Target{AppID: appA}, t0, 0)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
		// Below its app's epoch it is already revoked.
		f.mustRevoke(t, session.Target{Session: s.ID}, t0, 0)
		f.mustRevoke(t, session.Target{Identity: s.Identity}, t0, 0)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 3})
	}},
	{"a missing target is not found and writes nothing", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		for _, target := range []session.Target{
			{Session: newID()}, {Identity: newID()}, {Person: newID()}, {AppID: "wxnone"}, {AppID: "'; drop table apps; --"},
		} {
			_, err := f.Store.Revoke(t.Context(), revokeParams(target, t0))
			wantCode(t, err, auth.NotFound)
		}
		_, err := f.Store.Revoke(t.Context(), revokeParams(session.Target{}, t0))
		wantCode(t, err, auth.Internal)
		f.wantCounts(t, before, counts{})
	}},
	{"an expired session is not counted, but its last tokens are cut off", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		// The last token may have been issued just before the session idled out.
		f.mustRevoke(t, session.Target{Session: s.ID}, t0.Add(idleTTL+auth.MaxAccessTokenTTL), 0)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
		s = f.exchange(t, "o-1", t0)
		before = f.counts(t)
		f.mustRevoke(t, session.Target{Session: s.ID}, t0.Add(idleTTL+auth.CutoffRetention), 0)
		f.mustRevoke(t, session.Target{Identity: s.Identity}, t0.Add(idleTTL+auth.CutoffRetention), 0)
		f.wantCounts(t, before, counts{Audit: 2})
		f.wantLive(t, s)
		f.mustRevoke(t, session.Target{AppID: appA}, t0.Add(idleTTL), 0)
	}},
	{"a person without an identity loses no session", func(t *testing.T, f *fixture) {
		id := newID()
		f.exec(t, `insert into persons (id, external_id, created_at) values (?, 'E-1', ?)`, id.String(), f.Time(t0))
		before := f.counts(t)
		f.mustRevoke(t, session.Target{Person: id}, t0, 0)
		f.wantCounts(t, before, counts{Audit: 1})
	}},
	{"a disabled app can be revoked and stays disabled", func(t *testing.T, f *fixture) {
		_, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
		wantCode(t, err, "")
		f.mustRevoke(t, session.Target{AppID: appA}, t0, 0)
		a, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		if !a.Disabled || a.Epoch != 2 {
			t.Errorf("App() = %+v", a)
		}
	}},
	{"hundreds of sessions end at once with one audit event", func(t *testing.T, f *fixture) {
		const n = 300
		var s auth.Session
		for range n {
			s = f.exchange(t, "o-1", t0)
		}
		before := f.counts(t)
		var trips int64
		if f.RoundTrips != nil {
			trips = f.RoundTrips()
		}
		f.mustRevoke(t, session.Target{Identity: s.Identity}, t0, n)
		if f.RoundTrips != nil && f.RoundTrips()-trips > 6 {
			t.Errorf("Revoke() took %d round trips", f.RoundTrips()-trips)
		}
		f.wantCounts(t, before, counts{Cutoffs: n, Audit: 1})
		wantEqual(t, "sessions with a cutoff",
			f.number(t, `select count(distinct session_id) from cutoffs where session_id in (select id from sessions where end_reason = 'revoked')`), n)
	}},
	{"the caller's audit detail does not change", func(t *testing.T, f *fixture) {
		r := revokeParams(session.Target{All: true}, t0)
		_, err := f.Store.Revoke(t.Context(), r)
		wantCode(t, err, "")
		wantEqual(t, "detail", r.Event.Detail, map[string]any{"ticket": "k1"})
	}},
	{"concurrent revocations, log-ins and refreshes do not deadlock and agree", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		other := f.exchange(t, "o-2", t0)
		p := f.bind(t, s.Identity)
		f.exec(t, `update identities set person_id = ? where uuid = ?`, p.ID.String(), other.Identity.String())
		together(96, func(i int) {
			var err error
			switch i % 8 {
			case 0, 1:
				_, err = f.Store.Exchange(t.Context(), params(appA, fmt.Sprintf("o-%d", 1+i%2), t0))
			case 2:
				_, err = f.refresh(t.Context(), s.ID, uint32(1+i%7), t0)
				if errors.Is(err, auth.RefreshReused) || errors.Is(err, auth.SessionRevoked) {
					err = nil
				}
			case 3:
				_, err = f.Store.Revoke(t.Context(), revokeParams(session.Target{Session: s.ID}, t0))
			case 4:
				_, err = f.Store.Revoke(t.Context(), revokeParams(session.Target{Identity: other.Identity}, t0))
			case 5:
				_, err = f.Store.Revoke(t.Context(), revokeParams(session.Target{Person: p.ID}, t0))
			case 6:
				_, err = f.Store.Revoke(t.Context(), revokeParams(session.Target{AppID: appB}, t0))
			case 7:
				_, err = f.Store.Revoke(t.Context(), revokeParams(session.Target{All: true}, t0))
			}
			if err != nil {
				t.Errorf("call %d: error = %v", i, err)
			}
		})
		wantEqual(t, "sessions that ended without exactly one cutoff", f.number(t, `
select count(*) from sessions s left join (select session_id, count(*) as n from cutoffs group by session_id) c on c.session_id = s.id
where (s.ended_at is not null) <> (coalesce(c.n, 0) = 1)`), 0)
		wantEqual(t, "epochs without a cutoff", f.number(t, `
select count(*) from apps a where a.epoch <> (select count(*) from cutoffs c where c.appid = a.appid)`), 0)
	}},
}

var restrictedTests = []test{
	{"a target in another app does not exist", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		p := f.bind(t, s.Identity)
		before := f.counts(t)
		for _, apps := range [][]string{{appB}, {}} {
			for _, target := range []session.Target{{Session: s.ID}, {Identity: s.Identity}, {Person: p.ID}, {AppID: appA}} {
				r := revokeParams(target, t0)
				r.Apps = apps
				_, err := f.Store.Revoke(t.Context(), r)
				wantCode(t, err, auth.NotFound)
			}
		}
		f.wantCounts(t, before, counts{})
	}},
	{"a target in one of the apps is revoked", func(t *testing.T, f *fixture) {
		for _, target := range []func(auth.Session) session.Target{
			func(s auth.Session) session.Target { return session.Target{Session: s.ID} },
			func(s auth.Session) session.Target { return session.Target{Identity: s.Identity} },
			func(auth.Session) session.Target { return session.Target{AppID: appA} },
		} {
			s := f.exchange(t, "o-1", t0)
			f.mustRevoke(t, target(s), t0, 1, appB, appA)
			f.refuse(t, s.ID, 1, t0, auth.SessionRevoked)
		}
	}},
	{"a person loses the sessions in the given apps and keeps the others", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		g, err := f.Store.Exchange(t.Context(), params(appB, "o-1", t0))
		wantCode(t, err, "")
		p := f.bind(t, s.Identity)
		f.exec(t, `update identities set person_id = ? where uuid = ?`, p.ID.String(), g.Session.Identity.String())
		f.mustRevoke(t, session.Target{Person: p.ID}, t0, 1, appB)
		f.wantRevoked(t, t0, g.Session)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
	}},
	{"revoking all means all of the given apps", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		f.mustRevoke(t, session.Target{All: true}, t0, 0, appB)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		r := revokeParams(session.Target{All: true}, t0)
		r.Apps = []string{}
		got, err := f.Store.Revoke(t.Context(), r)
		wantCode(t, err, "")
		wantEqual(t, "revoked", got, session.Revoked{})
		f.mustRefresh(t, s.ID, 2, t0, session.Rotate)
	}},
}

// Steps of the property test that revoke.

func (m *model) revokeSession(rt *rapid.T, s *modelSession) {
	m.revoke(rt, session.Target{Session: s.id}, func(o *modelSession) bool { return o == s })
}

func (m *model) revokeIdentity(rt *rapid.T, s *modelSession) {
	m.revoke(rt, session.Target{Identity: s.identity}, func(o *modelSession) bool { return o.identity == s.identity })
}

func (m *model) revoke(rt *rapid.T, target session.Target, hit func(*modelSession) bool) {
	live := 0
	for _, s := range m.sessions {
		if !hit(s) || s.ended || s.epoch < m.epoch || !s.idleEnd.After(m.now.Add(-auth.CutoffRetention)) {
			continue
		}
		s.ended = true
		m.grown.Cutoffs++
		if s.idleEnd.After(m.now) {
			live++
		}
	}
	m.grown.Audit++
	m.wantDead(rt, target, live)
}

func (m *model) revokeApp(rt *rapid.T) {
	live := 0
	for _, s := range m.sessions {
		if !s.ended && s.epoch >= m.epoch && s.idleEnd.After(m.now) {
			live++
		}
	}
	m.epoch++
	m.grown.Cutoffs++
	m.grown.Audit++
	m.wantDead(rt, session.Target{AppID: m.app}, live)
}

func (m *model) wantDead(rt *rapid.T, target session.Target, want int) {
	got, err := m.f.Store.Revoke(m.t.Context(), revokeParams(target, m.now))
	m.wantCode(rt, err, "")
	if got.Sessions != want {
		rt.Fatalf("Revoke() = %d sessions, want %d", got.Sessions, want)
	}
}
