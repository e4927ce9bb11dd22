package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// property lets rapid do everything to a store that clients, admins, clocks and failing
// databases do. It compares every result and every row with a model that consists of
// integers.
func property(t *testing.T, f *fixture) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t, f)
		rt.Repeat(map[string]func(*rapid.T){
			"exchange": m.exchange,
			"refresh":  m.with(m.refresh),
			"replay":   m.with(m.replay),
			"rollBack": m.with(m.rollBack),
			"clock":    m.clock,
			"logout":   m.with(m.logout),
			"disable":  m.disable,
			"enable":   m.enable,

			"revokeSession":  m.with(m.revokeSession),
			"revokeIdentity": m.with(m.revokeIdentity),
			"revokeApp":      m.revokeApp,

			"": m.check,
		})
	})
}

// model is the expected state of one app.
type model struct {
	t        *testing.T
	f        *fixture
	app      string
	disabled bool
	epoch    int64
	now      time.Time
	base     counts
	grown    counts
	known    map[string]uuid.UUID // identities by openid
	sessions []*modelSession
}

type modelSession struct {
	id, identity     uuid.UUID
	openID           string
	started          time.Time
	generation       uint32 // of the row
	highest          uint32 // ever issued
	rotated          time.Time
	idleEnd, lastEnd time.Time
	epoch            int64
	ended            bool
}

func newModel(t *testing.T, f *fixture) *model {
	m := &model{t: t, f: f, now: t0, known: map[string]uuid.UUID{}}
	// Every run has its own app, so that all runs can use one database.
	id := newID()
	m.app = "wx" + id.String()[:8] + id.String()[24:]
	f.addApp(t, auth.App{ID: m.app, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}})
	m.base = f.counts(t)
	return m
}

func (m *model) exchange(rt *rapid.T) {
	openID := rapid.SampledFrom([]string{"o-1", "o-2", "o-3"}).Draw(rt, "openid")
	x := params(m.app, openID, m.now)
	x.MaxSessions = rapid.IntRange(0, 3).Draw(rt, "limit")
	g, err := m.f.Store.Exchange(m.t.Context(), x)
	if m.disabled {
		m.wantCode(rt, err, auth.AppDisabled)
		return
	}
	m.wantCode(rt, err, "")
	m.grown.Sessions++
	if _, ok := m.known[openID]; !ok {
		m.known[openID] = x.NewIdentity
		m.grown.Identities++
	}
	m.makeRoom(openID, x.MaxSessions)
	s := &modelSession{
		id: x.NewSession, identity: m.known[openID], openID: openID, started: m.now, generation: 1, highest: 1, rotated: m.now,
		idleEnd: m.now.Add(idleTTL), lastEnd: m.now.Add(maxTTL), epoch: m.epoch,
	}
	m.sessions = append(m.sessions, s)
	if g.Session.Identity != m.known[openID] {
		rt.Fatalf("the uuid of %s changed", openID)
	}
	m.same(rt, g, s)
}

// makeRoom ends the oldest sessions of an account, so that one more fits into the limit.
func (m *model) makeRoom(openID string, limit int) {
	if limit == 0 {
		return
	}
	var live []*modelSession
	for _, s := range m.sessions {
		if s.openID == openID && !s.ended && s.epoch == m.epoch && m.now.Before(s.idleEnd) && m.now.Before(s.lastEnd) {
			live = append(live, s)
		}
	}
	slices.SortFunc(live, func(a, b *modelSession) int {
		return cmp.Or(a.started.Compare(b.started), bytes.Compare(a.id[:], b.id[:]))
	})
	for _, s := range live[:max(0, len(live)-(limit-1))] {
		s.ended = true
		m.grown.Cutoffs++
		m.grown.Audit++
	}
}

// refresh presents any generation that was issued.
func (m *model) refresh(rt *rapid.T, s *modelSession) {
	m.present(rt, s, rapid.Uint32Range(1, s.highest).Draw(rt, "generation"))
}

// replay presents the newest token that the client can have, or the one before it, as a
// phone does that lost a response.
func (m *model) replay(rt *rapid.T, s *modelSession) {
	m.present(rt, s, max(1, s.highest-rapid.Uint32Range(0, 1).Draw(rt, "lost")))
}

func (m *model) present(rt *rapid.T, s *modelSession, presented uint32) {
	r := refreshParams(s.id, presented, m.now)
	r.AppID = m.app
	g, err := m.f.Store.Refresh(m.t.Context(), r)
	behind := int64(s.generation) - int64(presented)
	switch {
	case m.disabled:
		m.wantCode(rt, err, auth.AppDisabled)
	case s.ended || s.epoch < m.epoch:
		m.wantCode(rt, err, auth.SessionRevoked)
	case !m.now.Before(s.idleEnd) || !m.now.Before(s.lastEnd):
		m.wantCode(rt, err, auth.RefreshExpired)
	case behind <= 0:
		m.wantCode(rt, err, "")
		if behind < 0 {
			m.grown.Audit++
		}
		s.generation, s.rotated, s.idleEnd = presented+1, m.now, m.now.Add(idleTTL)
		if s.idleEnd.After(s.lastEnd) {
			s.idleEnd = s.lastEnd
		}
		s.highest = max(s.highest, s.generation)
		m.same(rt, g, s)
	case behind == 1 && !m.now.After(s.rotated.Add(grace)):
		m.wantCode(rt, err, "")
		m.same(rt, g, s)
	default:
		m.wantCode(rt, err, auth.RefreshReused)
		s.ended = true
		m.grown.Cutoffs++
		m.grown.Audit++
	}
}

// rollBack makes the database lose some refreshes, as a failover may.
func (m *model) rollBack(rt *rapid.T, s *modelSession) {
	s.generation = rapid.Uint32Range(1, s.generation).Draw(rt, "back to")
	m.f.exec(m.t, `update sessions set generation = ? where id = ?`, s.generation, s.id.String())
}

// clock moves the time: seconds around the window, days around the idle expiry, and
// backwards as a corrected clock does.
func (m *model) clock(rt *rapid.T) {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{
		time.Microsecond, time.Second, grace, grace + time.Microsecond, time.Hour, -time.Second, -2 * grace,
		idleTTL / 2, idleTTL, maxTTL,
	}).Draw(rt, "step"))
}

func (m *model) logout(rt *rapid.T, s *modelSession) {
	err := m.f.Store.End(m.t.Context(), endParams(auth.Session{ID: s.id, AppID: m.app}, m.now))
	m.wantCode(rt, err, "")
	if !s.ended {
		s.ended = true
		m.grown.Cutoffs++
		m.grown.Audit++
	}
}

func (m *model) disable(rt *rapid.T) { m.turn(rt, true, m.f.Store.DisableApp) }

func (m *model) enable(rt *rapid.T) { m.turn(rt, false, m.f.Store.EnableApp) }

func (m *model) turn(rt *rapid.T, disable bool, call func(context.Context, string, auth.AuditEvent) (auth.App, error)) {
	a, err := call(m.t.Context(), m.app, event(auth.AuditAppDisabled, m.now))
	m.wantCode(rt, err, "")
	if m.disabled != disable {
		m.disabled = disable
		m.epoch++
		m.grown.Cutoffs++
		m.grown.Audit++
	}
	if a.Disabled != m.disabled || a.Epoch != m.epoch {
		rt.Fatalf("App() = disabled %v, epoch %d; want %v, %d", a.Disabled, a.Epoch, m.disabled, m.epoch)
	}
}

// check compares every row with the model, after every step.
func (m *model) check(rt *rapid.T) {
	m.f.wantCounts(m.t, m.base, m.grown)
	for _, s := range m.sessions {
		st, err := m.f.Store.Session(m.t.Context(), s.id)
		m.wantCode(rt, err, "")
		got := &st.Session
		if got.Generation != s.generation || got.EndedAt.IsZero() == s.ended || got.Epoch != s.epoch || !got.IdleExpiresAt.Equal(s.idleEnd) {
			rt.Fatalf("Session() = %+v, want %+v", *got, *s)
		}
		if st.AppEpoch != m.epoch || st.AppDisabled != m.disabled {
			rt.Fatalf("Session() = app epoch %d, disabled %v; want %d, %v", st.AppEpoch, st.AppDisabled, m.epoch, m.disabled)
		}
	}
	if m.t.Failed() {
		rt.FailNow()
	}
}

// with turns a function on a session into a step. The step does nothing until there is a
// session.
func (m *model) with(do func(*rapid.T, *modelSession)) func(*rapid.T) {
	return func(rt *rapid.T) {
		if len(m.sessions) > 0 {
			do(rt, rapid.SampledFrom(m.sessions).Draw(rt, "session"))
		}
	}
}

func (m *model) same(rt *rapid.T, g session.Granted, s *modelSession) {
	got := &g.Session
	if got.ID != s.id || got.Generation != s.generation || !got.RotatedAt.Equal(s.rotated) ||
		!got.IdleExpiresAt.Equal(s.idleEnd) || !got.ExpiresAt.Equal(s.lastEnd) || got.Epoch != s.epoch {
		rt.Fatalf("granted session = %+v, want %+v", *got, *s)
	}
}

func (m *model) wantCode(rt *rapid.T, err error, want auth.Code) {
	if got := auth.CodeOf(err); got != want {
		rt.Fatalf("error = %v, want code %q", err, want)
	}
}
