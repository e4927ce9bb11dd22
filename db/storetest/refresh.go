package storetest

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

var refreshTests = []test{
	{"the current token updates one row and inserts none", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		for step := uint32(1); step <= 3; step++ {
			now := t0.Add(time.Duration(step) * time.Hour)
			want := s
			want.Generation, want.RotatedAt, want.IdleExpiresAt = step+1, now, now.Add(idleTTL)
			g, err := f.refresh(t.Context(), s.ID, step, now.Add(999*time.Nanosecond))
			wantCode(t, err, "")
			wantEqual(t, "granted", g, session.Granted{
				Session: want, Audiences: []string{"https://" + appA + ".example"}, SigningAlg: "ES256", Verdict: session.Rotate,
			})
			wantEqual(t, "stored", f.stored(t, s.ID), want)
		}
		f.wantCounts(t, before, counts{})
	}},
	{"a bound session returns its own person and ver", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		p := f.bind(t, s.Identity)
		// The identity's person must not replace the session's.
		f.exec(t, `update identities set person_id = null where uuid = ?`, s.Identity.String())
		got := f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		wantEqual(t, "person", got.Person, &p)
		wantEqual(t, "ver", got.Ver, 2)
		got = f.mustRefresh(t, s.ID, 1, t0, session.Replay)
		wantEqual(t, "person of the replay", got.Person, &p)
	}},
	{"the result says what the app omits from tokens", func(t *testing.T, f *fixture) {
		for _, omit := range []bool{false, true, false} {
			_, err := f.Store.UpdateApp(t.Context(), appA, app.Change{Policy: &auth.Policy{OmitExternalID: omit}}, event(auth.AuditAppUpdated, t0))
			wantCode(t, err, "")
			g, err := f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
			wantCode(t, err, "")
			wantEqual(t, "at a log-in", g.OmitExternalID, omit)
			p := f.bind(t, g.Session.Identity)
			for name, presented := range map[string]uint32{"at a refresh": 1, "at a roll-back": 9} {
				got, err := f.refresh(t.Context(), g.Session.ID, presented, t0)
				wantCode(t, err, "")
				wantEqual(t, name, got.OmitExternalID, omit)
				wantEqual(t, "person "+name, got.Session.Person, &p)
				got, err = f.refresh(t.Context(), g.Session.ID, presented, t0)
				wantCode(t, err, "")
				wantEqual(t, "replayed "+name, got.OmitExternalID, omit)
				f.exec(t, `update sessions set generation = 1 where id = ?`, g.Session.ID.String())
			}
			f.exec(t, `update identities set person_id = null where uuid = ?`, g.Session.Identity.String())
		}
	}},
	{"a replay within the window returns the same successor and writes nothing", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		first := f.mustRefresh(t, s.ID, 1, t0.Add(time.Hour), session.Rotate)
		before := f.counts(t)
		for i := range 3 {
			now := t0.Add(time.Hour + time.Duration(i)*time.Second)
			wantEqual(t, "replayed", f.mustRefresh(t, s.ID, 1, now, session.Replay), first)
		}
		wantEqual(t, "stored", f.stored(t, s.ID), first)
		f.wantCounts(t, before, counts{})
	}},
	{"a replay does not extend the window", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		f.mustRefresh(t, s.ID, 1, t0.Add(grace-time.Second), session.Replay)
		f.refuse(t, s.ID, 1, t0.Add(grace+time.Second), auth.RefreshReused)
	}},
	{"the window includes its last instant", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		f.mustRefresh(t, s.ID, 1, t0.Add(grace), session.Replay)
		f.refuse(t, s.ID, 1, t0.Add(grace+time.Microsecond), auth.RefreshReused)
	}},
	{"a clock that was set back still allows the replay", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		f.mustRefresh(t, s.ID, 1, t0.Add(-time.Hour), session.Replay)
	}},
	{"a replay after the window ends the session", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		other := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		now := t0.Add(2 * grace)
		f.wantTheft(t, s, 1, now, session.ErrReplayLate, auth.EndReplayLate, auth.AuditRefreshReplay,
			map[string]any{"presented": 1.0, "generation": 2.0, "age_ms": 120000.0})
		f.mustRefresh(t, other.ID, 1, now, session.Rotate)
	}},
	{"a token two generations behind ends the session even within the window", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		other := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		f.mustRefresh(t, s.ID, 2, t0, session.Rotate)
		now := t0.Add(1500 * time.Millisecond)
		f.wantTheft(t, s, 1, now, session.ErrReuse, auth.EndReuse, auth.AuditRefreshReuse,
			map[string]any{"presented": 1.0, "generation": 3.0, "age_ms": 1500.0})
		f.mustRefresh(t, other.ID, 1, now, session.Rotate)
	}},
	{"a token ahead of the row is accepted, advances the row and is audited", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.bind(t, s.Identity)
		for gen := uint32(1); gen <= 5; gen++ {
			f.mustRefresh(t, s.ID, gen, t0, session.Rotate)
		}
		f.exec(t, `update sessions set generation = 3 where id = ?`, s.ID.String())
		before := f.counts(t)
		now := t0.Add(time.Hour)
		got := f.mustRefresh(t, s.ID, 6, now, session.RolledBack)
		wantEqual(t, "generation", got.Generation, 7)
		wantEqual(t, "rotated at", got.RotatedAt, now)
		wantEqual(t, "idle end", got.IdleExpiresAt, now.Add(idleTTL))
		wantEqual(t, "stored", f.stored(t, s.ID), got)
		f.wantCounts(t, before, counts{Audit: 1})
		f.wantAudit(t, s, auth.AuditRefreshRollback, auth.ActorBearer, now, map[string]any{"presented": 6.0, "generation": 3.0})
		// From now on it is an ordinary session.
		f.mustRefresh(t, s.ID, 6, now, session.Replay)
		f.mustRefresh(t, s.ID, 7, now, session.Rotate)
	}},
	{"the idle expiry moves, but never beyond the absolute expiry", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		for i, now := range []time.Time{t0.Add(29 * 24 * time.Hour), t0.Add(58 * 24 * time.Hour), t0.Add(87 * 24 * time.Hour),
			t0.Add(116 * 24 * time.Hour), t0.Add(145 * 24 * time.Hour)} {
			s = f.mustRefresh(t, s.ID, uint32(i+1), now, session.Rotate)
			wantEqual(t, "idle end", s.IdleExpiresAt, now.Add(idleTTL))
		}
		now := t0.Add(174 * 24 * time.Hour)
		s = f.mustRefresh(t, s.ID, 6, now, session.Rotate)
		wantEqual(t, "idle end", s.IdleExpiresAt, t0.Add(maxTTL))
		f.refuse(t, s.ID, 7, t0.Add(maxTTL), auth.RefreshExpired)
	}},
	{"a rolled back row keeps the absolute expiry too", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.exec(t, `update sessions set idle_expires_at = expires_at where id = ?`, s.ID.String())
		got := f.mustRefresh(t, s.ID, 9, t0.Add(maxTTL-time.Second), session.RolledBack)
		wantEqual(t, "idle end", got.IdleExpiresAt, t0.Add(maxTTL))
	}},
}

// wantTheft presents a stolen token and checks all consequences.
func (f *fixture) wantTheft(t *testing.T, s auth.Session, presented uint32, now time.Time, cause error, why auth.EndReason, action auth.AuditAction, detail map[string]any) {
	t.Helper()
	current := f.stored(t, s.ID)
	before := f.counts(t)
	g, err := f.refresh(t.Context(), s.ID, presented, now)
	if !errors.Is(err, auth.RefreshReused) || !errors.Is(err, cause) {
		t.Errorf("Refresh() error = %v, want %v caused by %v", err, auth.RefreshReused, cause)
	}
	wantEqual(t, "granted", g, session.Granted{})
	f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
	current.EndedAt, current.EndReason = now, why
	wantEqual(t, "stored", f.stored(t, s.ID), current)
	f.wantAudit(t, s, action, auth.ActorBearer, now, detail)
	f.wantSessionCutoff(t, s, now)
	// Whatever is presented now, the session has ended and writes nothing more.
	for _, gen := range []uint32{presented, current.Generation - 1, current.Generation, current.Generation + 1} {
		f.refuse(t, s.ID, gen, now, auth.SessionRevoked)
	}
	f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
}

// wantAudit checks that there is exactly one such event about the session.
func (f *fixture) wantAudit(t *testing.T, s auth.Session, action auth.AuditAction, actor string, at time.Time, detail map[string]any) {
	t.Helper()
	where := ` from audit where session_id = ? and action = ? and identity_uuid = ? and appid = ? and actor = ? and request_id = 'req-2' and at = ?`
	args := []any{s.ID.String(), string(action), s.Identity.String(), s.AppID, actor, f.Time(at)}
	if n := f.number(t, `select count(*)`+where, args...); n != 1 {
		t.Fatalf("%d audit events %s, want 1", n, action)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(f.text(t, `select detail`+where, args...)), &got); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "audit detail", got, detail)
}

// wantSessionCutoff checks that there is exactly one cutoff of the whole session.
func (f *fixture) wantSessionCutoff(t *testing.T, s auth.Session, now time.Time) {
	t.Helper()
	wantEqual(t, "cutoffs of the session",
		f.number(t, `select count(*) from cutoffs where kind = 'session' and session_id = ? and ver = 0 and created_at = ? and expires_at = ?`,
			s.ID.String(), f.Time(now), f.Time(now.Add(auth.CutoffRetention))), 1)
}

var refusedTests = []test{
	{"another app's session is invalid and stays live", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		before := f.counts(t)
		for _, gen := range []uint32{1, 2, 3} {
			r := refreshParams(s.ID, gen, t0.Add(time.Hour))
			r.AppID = appB
			_, err := f.Store.Refresh(t.Context(), r)
			wantCode(t, err, auth.RefreshInvalid)
		}
		f.wantCounts(t, before, counts{})
		f.mustRefresh(t, s.ID, 2, t0.Add(time.Hour), session.Rotate)
	}},
	{"an unknown app is app_unknown", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		r := refreshParams(s.ID, 1, t0)
		r.AppID = "wxnone"
		_, err := f.Store.Refresh(t.Context(), r)
		wantCode(t, err, auth.AppUnknown)
	}},
	{"a deleted session has expired", func(t *testing.T, f *fixture) {
		f.refuse(t, newID(), 1, t0, auth.RefreshExpired)
	}},
	{"a disabled app refreshes no session, existing or not", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		_, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
		wantCode(t, err, "")
		before := f.counts(t)
		f.refuse(t, s.ID, 1, t0, auth.AppDisabled)
		f.refuse(t, newID(), 1, t0, auth.AppDisabled)
		f.wantCounts(t, before, counts{})
	}},
	{"a disabled app refreshes no session even at its epoch", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.exec(t, `update apps set disabled_at = ? where appid = ?`, f.Time(t0), appA)
		f.refuse(t, s.ID, 1, t0, auth.AppDisabled)
	}},
	{"a session below its app's epoch is revoked, a later one is not", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		_, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
		wantCode(t, err, "")
		_, err = f.Store.EnableApp(t.Context(), appA, event(auth.AuditAppEnabled, t0))
		wantCode(t, err, "")
		before := f.counts(t)
		f.refuse(t, s.ID, 1, t0, auth.SessionRevoked)
		f.refuse(t, s.ID, 2, t0, auth.SessionRevoked) // ahead of the row, but revoked too
		f.wantCounts(t, before, counts{})
		f.mustRefresh(t, f.exchange(t, "o-1", t0).ID, 1, t0, session.Rotate)
	}},
	{"an idle session has expired at the very instant", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.refuse(t, s.ID, 1, t0.Add(idleTTL), auth.RefreshExpired)
		f.mustRefresh(t, s.ID, 1, t0.Add(idleTTL-time.Microsecond), session.Rotate)
	}},
	{"an expired session is not ended by a replay", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		before := f.counts(t)
		f.refuse(t, s.ID, 1, t0.Add(idleTTL), auth.RefreshExpired)
		f.wantCounts(t, before, counts{})
	}},
	{"an ended session is revoked", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustEnd(t, s, t0)
		f.refuse(t, s.ID, 1, t0, auth.SessionRevoked)
		f.refuse(t, s.ID, 1, t0.Add(maxTTL), auth.SessionRevoked)
	}},
	{"the greatest generation is invalid", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.refuse(t, s.ID, math.MaxUint32, t0, auth.RefreshInvalid)
		got := f.mustRefresh(t, s.ID, math.MaxUint32-1, t0, session.RolledBack)
		wantEqual(t, "generation", got.Generation, uint32(math.MaxUint32))
	}},
}
