package sessiontest

import (
	"time"

	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// clientModel is one session from the view of its client and the contract.
type clientModel struct {
	m       *faultModel
	app     string
	id      [16]byte
	tokens  []auth.Secret // by generation, the first at 1
	holds   int           // the generation of the token that the client has
	rotated time.Time
	idleEnd time.Time
	lastEnd time.Time
	ended   bool
	full    time.Time // when it may rotate 20 times at once again
}

// The rate limit of a session's rotations.
const (
	modelBurst = 20
	modelPace  = time.Second
)

// paced reports whether the session may have to wait because of earlier rotations.
func (c *clientModel) paced(now time.Time) bool {
	left := c.full.Sub(now)
	return left > (modelBurst-1)*modelPace && left <= modelBurst*modelPace
}

// countRotation counts a rotation.
func (c *clientModel) countRotation(now time.Time) {
	if c.full.Before(now) {
		c.full = now
	}
	c.full = c.full.Add(modelPace)
	if limit := now.Add(modelBurst * modelPace); c.full.After(limit) {
		c.full = limit
	}
}

func newClientModel(m *faultModel, app string, g session.Grant) *clientModel {
	now := m.Clock.Now().Truncate(time.Microsecond)
	return &clientModel{
		m: m, app: app, id: g.Session.ID,
		tokens:  []auth.Secret{"", g.RefreshToken},
		holds:   1,
		rotated: now,
		idleEnd: now.Add(m.Lifetimes.Idle),
		lastEnd: now.Add(m.Lifetimes.Max),
	}
}

// newest returns the generation of the row.
func (c *clientModel) newest() int { return len(c.tokens) - 1 }

// withClient returns a step that does something with one of the clients. Without a client
// the step does nothing.
func (m *faultModel) withClient(do func(*rapid.T, *clientModel)) func(*rapid.T) {
	return func(rt *rapid.T) {
		if len(m.clients) > 0 {
			do(rt, rapid.SampledFrom(m.clients).Draw(rt, "client"))
		}
	}
}

// refresh presents the token that the client has.
func (m *faultModel) refresh(rt *rapid.T, c *clientModel) {
	if c.present(rt, c.holds) {
		c.holds = c.newest()
	}
}

// replay presents any earlier token of the session, like a thief.
func (m *faultModel) replay(rt *rapid.T, c *clientModel) {
	c.present(rt, rapid.IntRange(1, c.newest()).Draw(rt, "generation"))
}

// loseAnswer refreshes, but the client does not get the answer.
func (m *faultModel) loseAnswer(rt *rapid.T, c *clientModel) {
	c.present(rt, c.holds)
}

// present refreshes with the token of a generation and compares the answer with the
// contract. It reports whether there is a successor.
func (c *clientModel) present(rt *rapid.T, generation int) bool {
	m := c.m
	now := m.Clock.Now().Truncate(time.Microsecond)
	g, err := m.Service.Refresh(m.t.Context(), session.RefreshRequest{ClientID: c.app, RefreshToken: c.tokens[generation]})
	if auth.CodeOf(err) == auth.RateLimited {
		if !c.paced(now) {
			rt.Fatalf("a session within its rate limit has to wait: %v", err)
		}
		return false
	}
	var want auth.Code
	behind := c.newest() - generation
	switch {
	case c.ended:
		want = auth.SessionRevoked
	case !now.Before(c.idleEnd), !now.Before(c.lastEnd):
		want = auth.RefreshExpired
	case behind == 0:
		c.tokens = append(c.tokens, g.RefreshToken)
		c.countRotation(now)
		c.rotated, c.idleEnd = now, session.IdleExpiry(now, m.Lifetimes.Idle, c.lastEnd)
	case behind > 1 || now.After(c.rotated.Add(m.Lifetimes.Grace)):
		want = auth.RefreshReused
		c.ended = true
	}
	if got := auth.CodeOf(err); got != want {
		rt.Fatalf("a token %d generations behind: error = %v, want %q", behind, err, want)
	}
	if err == nil && (g.RefreshToken != c.tokens[c.newest()] || g.Session.ID != c.id) {
		rt.Fatalf("a token %d generations behind has another successor", behind)
	}
	return err == nil
}

// logOut ends the session with the token that the client has.
func (m *faultModel) logOut(rt *rapid.T, c *clientModel) {
	_, err := m.Service.Revoke(m.t.Context(), session.RevokeRequest{ClientID: c.app, Token: c.tokens[c.holds]})
	if err != nil {
		rt.Fatalf("log-out: error = %v", err)
	}
	c.ended = true
}

// sameRow compares the row of the session with the model.
func (c *clientModel) sameRow(rt *rapid.T) {
	st, err := c.m.Store.Session(c.m.t.Context(), c.id)
	if err != nil {
		rt.Fatal(err)
	}
	row := &st.Session
	if int(row.Generation) != c.newest() || row.EndedAt.IsZero() == c.ended || !row.IdleExpiresAt.Equal(c.idleEnd) || row.AppID != c.app {
		rt.Fatalf("the row is %+v, the model has generation %d, ended %v, idle until %s", *row, c.newest(), c.ended, c.idleEnd)
	}
}
