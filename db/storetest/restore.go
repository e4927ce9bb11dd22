package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// restoredAt is the time at which the suite restores.
var restoredAt = t0.Add(time.Hour)

// restoreParams returns the parameters of a replica of this database.
func (f *fixture) restoreParams(t testing.TB, remembered ...auth.Cutoff) session.RestoreParams {
	t.Helper()
	b, err := f.Store.Cutoffs(t.Context(), 0, 1)
	wantCode(t, err, "")
	return session.RestoreParams{
		Deployment: b.Deployment, Remembered: remembered, Event: event(auth.AuditStoreRolledBack, restoredAt), Now: restoredAt,
	}
}

func (f *fixture) restore(t testing.TB, remembered ...auth.Cutoff) session.Restored {
	t.Helper()
	got, err := f.Store.RestoreCutoffs(t.Context(), f.restoreParams(t, remembered...))
	if err != nil {
		t.Fatalf("RestoreCutoffs() error = %v", err)
	}
	return got
}

func verOf(id uuid.UUID, ver int64) auth.Cutoff { return auth.SessionChanged("", id, ver, t0) }

func epochOf(appID string, epoch int64) auth.Cutoff { return auth.AppRevoked(appID, epoch, t0) }

// restoredCutoff is a stored cutoff with the state of its target.
type restoredCutoff struct {
	Kind, Session, SessionApp, App string
	Ver, Epoch                     int
}

// cutoffsAfter returns the cutoffs after an id and checks their times.
func (f *fixture) cutoffsAfter(t testing.TB, id int) []restoredCutoff {
	t.Helper()
	rows, err := f.DB.QueryContext(t.Context(), f.rebind(`
select kind, coalesce(cast(session_id as text), ''), coalesce(session_appid, ''), coalesce(appid, ''), coalesce(ver, -1), coalesce(epoch, -1)
from cutoffs where id > ? and created_at = ? and expires_at = ? order by id`), id, f.Time(restoredAt), f.Time(restoredAt.Add(auth.CutoffRetention)))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []restoredCutoff
	for rows.Next() {
		var c restoredCutoff
		if err := rows.Scan(&c.Kind, &c.Session, &c.SessionApp, &c.App, &c.Ver, &c.Epoch); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func (f *fixture) lastCutoff(t testing.TB) int {
	t.Helper()
	return f.number(t, `select coalesce(max(id), 0) from cutoffs`)
}

// wantRestoredAudit checks that there is one event of a restoration about the session or,
// for uuid.Nil, about the app, and checks its detail.
func (f *fixture) wantRestoredAudit(t testing.TB, about auth.Subject, detail string) {
	t.Helper()
	where := ` from audit where action = 'store.rolled_back' and actor = 'cli' and reason = 'because' and request_id = 'req-1' and at = ?
and appid = ? and coalesce(cast(identity_uuid as text), '') = ? and coalesce(cast(session_id as text), '') = ?`
	text := func(id uuid.UUID) string {
		if id == uuid.Nil {
			return ""
		}
		return id.String()
	}
	args := []any{f.Time(restoredAt), about.AppID, text(about.Identity), text(about.Session)}
	if n := f.number(t, `select count(*)`+where, args...); n != 1 {
		t.Fatalf("%d audit events about %v, want 1", n, about)
	}
	wantEqual(t, "audit detail", parsed(t, f.text(t, `select detail`+where, args...)), parsed(t, detail))
}

func parsed(t testing.TB, text string) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

var restoreTests = []test{
	{"a session is raised to at least what is remembered", func(t *testing.T, f *fixture) {
		for _, c := range []struct {
			name                  string
			ver, remembered, want int64
		}{
			{"below", 1, 2, 3},
			{"far below", 2, 7, 8},
			{"equal", 4, 4, 4},
			{"above", 4, 3, 4},
			{"as far below as possible", 1, 1 + session.MaxRaise, 2 + session.MaxRaise},
		} {
			s := f.exchange(t, "o-1", t0)
			f.exec(t, `update sessions set ver = ? where id = ?`, c.ver, s.ID.String())
			before, last := f.counts(t), f.lastCutoff(t)
			got := f.restore(t, verOf(s.ID, c.remembered))
			s.Ver = c.want
			wantEqual(t, c.name, f.stored(t, s.ID), s)
			if c.want == c.ver {
				wantEqual(t, c.name, got, session.Restored{})
				f.wantCounts(t, before, counts{})
				continue
			}
			wantEqual(t, c.name, got, session.Restored{Sessions: 1})
			f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
			wantEqual(t, c.name, f.cutoffsAfter(t, last),
				[]restoredCutoff{{Kind: "session", Session: s.ID.String(), SessionApp: appA, Ver: int(c.want), Epoch: -1}})
			f.wantRestoredAudit(t, s.Subject(), fmt.Sprintf(`{"ver": [%d, %d]}`, c.ver, c.want))
			wantEqual(t, "ver of the next tokens", f.mustRefresh(t, s.ID, 1, restoredAt, session.Rotate).Ver, c.want)
		}
	}},
	{"a session remembered as ended is ended", func(t *testing.T, f *fixture) {
		s, other := f.exchange(t, "o-1", t0), f.exchange(t, "o-1", t0)
		before := f.counts(t)
		wantEqual(t, "restored", f.restore(t, auth.SessionEnded("", s.ID, t0)), session.Restored{Sessions: 1})
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
		f.wantRevoked(t, restoredAt, s)
		f.wantRestoredAudit(t, s.Subject(), `{"ended": true}`)
		f.wantLive(t, other)
	}},
	{"a session that has ended stays as it is", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustEnd(t, s, t0)
		s = f.stored(t, s.ID)
		before := f.counts(t)
		for _, c := range []auth.Cutoff{auth.SessionEnded("", s.ID, t0), verOf(s.ID, 9), verOf(s.ID, 1), verOf(s.ID, 2+session.MaxRaise)} {
			wantEqual(t, "restored", f.restore(t, c), session.Restored{})
		}
		f.wantCounts(t, before, counts{})
		f.wantLive(t, s)
	}},
	{"a session that expired or was revoked with its app is raised too", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.exec(t, `update sessions set idle_expires_at = ?, expires_at = ? where id = ?`, f.Time(t0), f.Time(t0), s.ID.String())
		f.mustRevoke(t, session.Target{AppID: appA}, t0, 0)
		wantEqual(t, "restored", f.restore(t, verOf(s.ID, 2)), session.Restored{Sessions: 1})
		wantEqual(t, "ver", f.stored(t, s.ID).Ver, 3)
	}},
	{"an app is raised to at least what is remembered", func(t *testing.T, f *fixture) {
		for _, c := range []struct {
			name                    string
			epoch, remembered, want int64
		}{
			{"below", 0, 1, 2},
			{"far below", 3, 7, 8},
			{"equal", 9, 9, 9},
			{"above", 9, 2, 9},
			{"as far below as possible", 9, 9 + session.MaxRaise, 10 + session.MaxRaise},
		} {
			f.exec(t, `update apps set epoch = ?, updated_at = ? where appid = ?`, c.epoch, f.Time(t0), appA)
			s := f.exchange(t, "o-1", t0)
			before, last := f.counts(t), f.lastCutoff(t)
			got := f.restore(t, epochOf(appA, c.remembered))
			a, err := f.Store.App(t.Context(), appA)
			wantCode(t, err, "")
			wantEqual(t, c.name, a.Epoch, c.want)
			if c.want == c.epoch {
				wantEqual(t, c.name, got, session.Restored{})
				f.wantCounts(t, before, counts{})
				wantEqual(t, c.name, a.UpdatedAt, t0)
				continue
			}
			wantEqual(t, c.name, got, session.Restored{Apps: 1})
			wantEqual(t, c.name, a.UpdatedAt, restoredAt)
			f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
			wantEqual(t, c.name, f.cutoffsAfter(t, last), []restoredCutoff{{Kind: "app", App: appA, Ver: -1, Epoch: int(c.want)}})
			f.wantRestoredAudit(t, auth.Subject{AppID: appA}, fmt.Sprintf(`{"epoch": [%d, %d]}`, c.epoch, c.want))
			f.refuse(t, s.ID, 1, restoredAt, auth.SessionRevoked)
			st, err := f.Store.Session(t.Context(), s.ID)
			wantCode(t, err, "")
			wantEqual(t, "end reason of its sessions", st.OutdatedBy, auth.EndAppRevoked)
			f.exec(t, `delete from audit`)
		}
		a, err := f.Store.App(t.Context(), appB)
		wantCode(t, err, "")
		wantEqual(t, "epoch of the other app", a.Epoch, 0)
	}},
	{"deleted rows and other kinds of cutoffs are skipped", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		got := f.restore(t, auth.SessionEnded("", newID(), t0), verOf(newID(), 3), epochOf("wxnone", 1), auth.KeyCompromised("k-1"))
		wantEqual(t, "restored", got, session.Restored{})
		wantEqual(t, "restored without remembered cutoffs", f.restore(t), session.Restored{})
		f.wantCounts(t, before, counts{})
		f.wantLive(t, s)
	}},
	{"cutoffs too far ahead are reported, and the others are restored", func(t *testing.T, f *fixture) {
		s, other, ended := f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0), f.exchange(t, "o-3", t0)
		before := f.counts(t)
		for _, far := range [][]auth.Cutoff{
			{verOf(s.ID, 2+session.MaxRaise), epochOf(appB, 1+session.MaxRaise)},
			{verOf(s.ID, math.MaxInt64), epochOf(appB, math.MaxInt64)},
		} {
			wantEqual(t, "restored", f.restore(t, far...), session.Restored{Implausible: far})
			f.wantCounts(t, before, counts{})
		}
		far := verOf(s.ID, 2+session.MaxRaise)
		got := f.restore(t, far, verOf(other.ID, 2), epochOf(appA, 1), auth.SessionEnded("", ended.ID, t0))
		wantEqual(t, "restored", got, session.Restored{Sessions: 2, Apps: 1, Implausible: []auth.Cutoff{far}})
		f.wantCounts(t, before, counts{Cutoffs: 3, Audit: 3})
		f.wantLive(t, s)
		a, err := f.Store.App(t.Context(), appB)
		wantCode(t, err, "")
		wantEqual(t, "epoch of the other app", a.Epoch, 0)
	}},
	{"two replicas that remember the same change each row once", func(t *testing.T, f *fixture) {
		s, ended := f.exchange(t, "o-1", t0), f.exchange(t, "o-2", t0)
		remembered := []auth.Cutoff{epochOf(appA, 4), verOf(s.ID, 5), auth.SessionEnded("", ended.ID, t0)}
		before := f.counts(t)
		together(8, func(int) {
			if _, err := f.Store.RestoreCutoffs(t.Context(), f.restoreParams(t, remembered...)); err != nil {
				t.Errorf("RestoreCutoffs() error = %v", err)
			}
		})
		f.wantCounts(t, before, counts{Cutoffs: 3, Audit: 3})
		wantEqual(t, "ver", f.stored(t, s.ID).Ver, 6)
	}},
	{"two replicas that remember different things both restore them", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		wantEqual(t, "the first", f.restore(t, verOf(s.ID, 3), epochOf(appA, 2)), session.Restored{Sessions: 1, Apps: 1})
		wantEqual(t, "restored by the replica that remembers more", f.restore(t, verOf(s.ID, 5), epochOf(appA, 7)), session.Restored{Sessions: 1, Apps: 1})
		wantEqual(t, "restored by the replica that remembers less", f.restore(t, verOf(s.ID, 2), epochOf(appA, 1)), session.Restored{})
		wantEqual(t, "ver", f.stored(t, s.ID).Ver, 6)
		wantEqual(t, "epoch", f.number(t, `select epoch from apps where appid = ?`, appA), 8)
		wantEqual(t, "restored by the replica that remembers an end", f.restore(t, auth.SessionEnded("", s.ID, t0)), session.Restored{Sessions: 1})
		wantEqual(t, "ended", f.stored(t, s.ID).EndReason, auth.EndRevoked)
	}},
	{"nothing is written into the database of another deployment", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		r := f.restoreParams(t, verOf(s.ID, 2), epochOf(appA, 1))
		r.Deployment = uuid.New()
		got, err := f.Store.RestoreCutoffs(t.Context(), r)
		wantCode(t, err, auth.StorageUnavailable)
		wantEqual(t, "restored", got, session.Restored{})
		f.wantCounts(t, before, counts{})
		f.wantLive(t, s)
	}},
	{"a whole batch takes no more round trips than one", func(t *testing.T, f *fixture) {
		var remembered []auth.Cutoff
		for i := range session.MaxRestored {
			s := f.exchange(t, fmt.Sprint("o-", i), t0)
			remembered = append(remembered, verOf(s.ID, 2))
		}
		remembered[0] = epochOf(appA, 1)
		r := f.restoreParams(t, remembered...)
		before := f.counts(t)
		var trips int64
		if f.RoundTrips != nil {
			trips = f.RoundTrips()
		}
		got, err := f.Store.RestoreCutoffs(t.Context(), r)
		wantCode(t, err, "")
		if f.RoundTrips != nil && f.RoundTrips()-trips > 10 {
			t.Errorf("%d round trips, want at most 10", f.RoundTrips()-trips)
		}
		wantEqual(t, "restored", got, session.Restored{Sessions: len(remembered) - 1, Apps: 1})
		f.wantCounts(t, before, counts{Cutoffs: len(remembered), Audit: len(remembered)})
	}},
	{"concurrent refreshes, log-outs, log-ins and binds do not deadlock and agree", func(t *testing.T, f *fixture) {
		p := f.person(t, "E-1")
		var all []auth.Session
		for i := range 6 {
			all = append(all, f.exchange(t, fmt.Sprint("o-", i%3), t0))
		}
		var remembered []auth.Cutoff
		for i, s := range all {
			remembered = append(remembered, verOf(s.ID, int64(3+i)))
		}
		remembered = append(remembered, auth.SessionEnded("", all[0].ID, t0), epochOf(appB, 3))
		remembered = remembered[1:]
		together(96, func(i int) {
			var err error
			s := all[i%len(all)]
			switch i / len(all) % 6 {
			case 0, 1:
				mine := slices.Clone(remembered)
				if i%2 == 0 {
					slices.Reverse(mine)
				}
				_, err = f.Store.RestoreCutoffs(t.Context(), f.restoreParams(t, mine...))
			case 2:
				_, err = f.refresh(t.Context(), s.ID, 1, t0)
			case 3:
				if i%2 == 0 {
					err = f.Store.End(t.Context(), endParams(s, t0))
				} else {
					_, err = f.Store.Exchange(t.Context(), params(appA, fmt.Sprint("o-", i%3), t0))
				}
			case 4:
				b := bindParams(s, p.ID, t0)
				b.Second = auth.SecondJoins
				_, err = f.Store.Bind(t.Context(), b)
			case 5:
				_, err = f.Store.Revoke(t.Context(), revokeParams(session.Target{AppID: appB}, t0))
			}
			if err != nil && !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("call %d: error = %v", i, err)
			}
		})
		for i, s := range all {
			got := f.stored(t, s.ID)
			if got.EndedAt.IsZero() && got.Ver <= int64(3+i) {
				t.Errorf("session %d has ver %d, want at least the remembered %d", i, got.Ver, 3+i)
			}
		}
		wantEqual(t, "sessions whose newest cutoff differs from the row", f.number(t, `
select count(*) from sessions s join (
  select session_id, ver from cutoffs where id in (select max(id) from cutoffs group by session_id)) newest on newest.session_id = s.id
where (s.ended_at is not null) <> (newest.ver = 0) or s.ended_at is null and s.ver <> newest.ver`), 0)
	}},
}

// wantRecorded checks whether the store reports its history as recorded.
func (f *fixture) wantRecorded(t testing.TB, want bool) {
	t.Helper()
	_, got, err := f.Store.RecordedHistory(t.Context())
	if err != nil || got != want {
		t.Errorf("RecordedHistory() = %t, %v; want %t", got, err, want)
	}
}

var historyTests = []test{
	{"the history of a new database counts as recorded, and stays so", func(t *testing.T, f *fixture) {
		f.wantRecorded(t, true)
		for range 2 {
			wantCode(t, f.Store.RecordHistory(t.Context(), nil), "")
			f.wantRecorded(t, true)
			f.mustRevoke(t, session.Target{All: true}, t0, 0)
			f.batch(t, 0, 10)
			f.wantRecorded(t, true)
		}
	}},
	{"another history is not recorded until a replica records it", func(t *testing.T, f *fixture) {
		wantCode(t, f.Store.RecordHistory(t.Context(), nil), "")
		f.makeAnother(t)
		f.wantRecorded(t, false)
		f.wantRecorded(t, false)
		wantCode(t, f.Store.RecordHistory(t.Context(), nil), "")
		f.wantRecorded(t, true)
	}},
	{"raised epochs end all sessions and record the history", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRevoke(t, session.Target{AppID: appB}, t0, 0)
		wantCode(t, f.Store.RecordHistory(t.Context(), nil), "")
		f.makeAnother(t)
		f.wantRecorded(t, false)
		for i := range 2 {
			before, last := f.counts(t), f.lastCutoff(t)
			n, err := f.Store.EndEverything(t.Context(), event(auth.AuditStoreRolledBack, restoredAt), restoredAt)
			wantCode(t, err, "")
			wantEqual(t, "apps", n, 2)
			f.wantCounts(t, before, counts{Cutoffs: 2, Audit: 1})
			raised := (i + 1) * session.MaxRaise
			got := f.cutoffsAfter(t, last)
			slices.SortFunc(got, func(a, b restoredCutoff) int { return a.Epoch - b.Epoch })
			wantEqual(t, "cutoffs", got, []restoredCutoff{
				{Kind: "app", App: appA, Ver: -1, Epoch: raised}, {Kind: "app", App: appB, Ver: -1, Epoch: raised + 1},
			})
			for app, want := range map[string]int{appA: raised, appB: raised + 1} {
				wantEqual(t, "epoch", f.number(t, `select epoch from apps where appid = ? and updated_at = ?`, app, f.Time(restoredAt)), want)
			}
			wantEqual(t, "audit", []string{
				f.text(t, `select action from audit where id = (select max(id) from audit)`),
				f.text(t, `select actor from audit where id = (select max(id) from audit)`),
			}, []string{string(auth.AuditStoreRolledBack), auth.ActorCLI})
			wantEqual(t, "audit detail", parsed(t, f.text(t, `select detail from audit where id = (select max(id) from audit)`)),
				map[string]any{"apps": 2.0, "keys": 0.0})
			f.wantRecorded(t, true)
		}
		wantCode(t, f.Store.RecordHistory(t.Context(), nil), "")
		f.wantRecorded(t, true)
		f.refuse(t, s.ID, 1, restoredAt, auth.SessionRevoked)
		f.mustRefresh(t, f.exchange(t, "o-1", restoredAt).ID, 1, restoredAt, session.Rotate)
	}},
	{"every key is retired, and signing keys have a cutoff", func(t *testing.T, f *fixture) {
		for _, k := range []struct {
			kid, use string
			retired  any
		}{{"signs", "access", nil}, {"refreshes", "refresh", nil}, {"had ended", "access", f.Time(t0)}} {
			f.exec(t, `insert into signing_keys (kid, use, alg, sealed, public_jwk, created_at, retired_at) values (?, ?, 'ES256', ?, ?, ?, ?)`,
				k.kid, k.use, []byte("sealed"), []byte("{}"), f.Time(t0), k.retired)
		}
		before := f.counts(t)
		_, err := f.Store.EndEverything(t.Context(), event(auth.AuditStoreRolledBack, restoredAt), restoredAt)
		wantCode(t, err, "")
		f.wantCounts(t, before, counts{Cutoffs: 3, Audit: 1})
		wantEqual(t, "cutoffs of keys", f.number(t, `select count(*) from cutoffs where kind = 'key' and kid = 'signs' and created_at = ? and expires_at is null`, f.Time(restoredAt)), 1)
		wantEqual(t, "retired keys", f.number(t, `select count(*) from signing_keys where retired_at = ? and length(sealed) = 0`, f.Time(restoredAt)), 2)
		wantEqual(t, "keys that had been retired", f.number(t, `select count(*) from signing_keys where retired_at = ?`, f.Time(t0)), 1)
		wantEqual(t, "audit detail", parsed(t, f.text(t, `select detail from audit where id = (select max(id) from audit)`)),
			map[string]any{"apps": 2.0, "keys": 2.0})
	}},
	{"a database without apps has nothing to raise", func(t *testing.T, f *fixture) {
		f.exec(t, `delete from apps`)
		before := f.counts(t)
		n, err := f.Store.EndEverything(t.Context(), event(auth.AuditStoreRolledBack, restoredAt), restoredAt)
		if err != nil || n != 0 {
			t.Errorf("EndEverything() = %d, %v; want 0, nil", n, err)
		}
		f.wantCounts(t, before, counts{Audit: 1})
		f.wantRecorded(t, true)
	}},
}

// makeAnother changes the recorded history, so that the present one differs from it.
func (f *fixture) makeAnother(t testing.TB) {
	t.Helper()
	if f.Dollar {
		f.exec(t, `update deployment set history = array['1', '00000001', '1', '1']`)
	} else {
		f.exec(t, `update deployment set history = 'another'`)
	}
}
