package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestUnfitReplica(t *testing.T) {
	t.Parallel()
	unfit := &auth.Error{Code: auth.StorageUnavailable, Err: errors.New("its clock is off")}
	open := func(t *testing.T) (*world, *error) {
		w := newWorld(t, session.Lifetimes{})
		var reason error
		c := w.Config
		c.CheckMayIssue = func() error { return reason }
		w.Service = must(session.NewService(c))(t)
		return w, &reason
	}
	t.Run("an unfit replica grants nothing, uses up no code and ends no session", func(t *testing.T) {
		t.Parallel()
		w, reason := open(t)
		g := w.Login("alice")
		*reason = unfit
		calls, asked := w.store.calls.Load(), len(w.Simulator.Calls())
		code := session.ExchangeRequest{ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode("bob"))}
		if got, err := w.Service.Exchange(t.Context(), code); !errors.Is(err, unfit) || got.AccessToken != "" {
			t.Errorf("Exchange() error = %v, want %v", err, unfit)
		}
		for range 100 { // more than the rate limit allows
			if got, err := w.Refresh(g.RefreshToken); !errors.Is(err, unfit) || got.AccessToken != "" || auth.SubjectOf(err).Session != g.Session.ID {
				t.Fatalf("Refresh() error = %v, want %v about the session", err, unfit)
			}
		}
		if n := w.store.calls.Load() - calls; n != 0 {
			t.Errorf("%d calls of the store, want 0", n)
		}
		if n := len(w.Simulator.Calls()) - asked; n != 0 {
			t.Errorf("%d calls of the platform, want 0", n)
		}
		*reason = nil
		if _, err := w.Service.Exchange(t.Context(), code); err != nil {
			t.Errorf("Exchange() when the replica is fit again: error = %v", err)
		}
		if g, err := w.Refresh(g.RefreshToken); err != nil || g.Verdict != session.Rotate {
			t.Errorf("Refresh() when the replica is fit again = %v, %v", g.Verdict, err)
		}
	})
	t.Run("an unfit replica still refuses a token that is not ours", func(t *testing.T) {
		t.Parallel()
		w, reason := open(t)
		*reason = unfit
		if _, err := w.Refresh("yfr_forged"); !errors.Is(err, auth.RefreshInvalid) {
			t.Errorf("Refresh() error = %v, want refresh_invalid", err)
		}
	})
	t.Run("an unfit replica still authenticates, and ends sessions", func(t *testing.T) {
		t.Parallel()
		w, reason := open(t)
		first, second := w.Login("alice"), w.Login("alice")
		*reason = unfit
		if _, _, err := w.Service.Sessions(t.Context(), first.AccessToken); err != nil {
			t.Errorf("Sessions() error = %v", err)
		}
		if _, err := w.Service.End(t.Context(), session.EndRequest{AccessToken: first.AccessToken, Session: second.Session.ID}); err != nil {
			t.Errorf("End() error = %v", err)
		}
		if _, err := w.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: first.RefreshToken}); err != nil {
			t.Errorf("Revoke() error = %v", err)
		}
		for _, g := range []session.Grant{first, second} {
			if row := w.row(t, g.Session.ID); row.EndReason != auth.EndLogout {
				t.Errorf("the session ended for %q, want %q", row.EndReason, auth.EndLogout)
			}
		}
	})
}

func TestRefreshAfterTimelineChange(t *testing.T) {
	t.Parallel()
	lifetimes := session.Lifetimes{Grace: time.Minute, Idle: 10 * day, Max: 100 * day}
	open := func(t *testing.T, moved bool) *world {
		w := newWorld(t, lifetimes)
		c := w.Config
		c.TimelineChanged = func(within time.Duration) bool {
			if within != lifetimes.Grace {
				t.Errorf("asked for %v, want the grace period %v", within, lifetimes.Grace)
			}
			return moved
		}
		w.Service = must(session.NewService(c))(t)
		return w
	}
	t.Run("a token one generation behind is a replay at any age", func(t *testing.T) {
		t.Parallel()
		w := open(t, true)
		first := w.Login("alice")
		second := must(w.Refresh(first.RefreshToken))(t)
		w.Clock.Advance(9 * day)
		again := must(w.Refresh(first.RefreshToken))(t)
		if again.Verdict != session.Replay || again.RefreshToken != second.RefreshToken {
			t.Errorf("verdict = %v, same successor = %t; want a replay with the same successor", again.Verdict, again.RefreshToken == second.RefreshToken)
		}
	})
	t.Run("a token two generations behind is theft", func(t *testing.T) {
		t.Parallel()
		w := open(t, true)
		first := w.Login("alice")
		second := must(w.Refresh(first.RefreshToken))(t)
		must(w.Refresh(second.RefreshToken))(t)
		if _, err := w.Refresh(first.RefreshToken); !errors.Is(err, session.ErrReuse) {
			t.Errorf("Refresh() error = %v, want %v", err, session.ErrReuse)
		}
	})
	t.Run("a token one generation behind is late after a long time", func(t *testing.T) {
		t.Parallel()
		w := open(t, false)
		first := w.Login("alice")
		must(w.Refresh(first.RefreshToken))(t)
		w.Clock.Advance(2 * time.Minute)
		if _, err := w.Refresh(first.RefreshToken); !errors.Is(err, session.ErrReplayLate) {
			t.Errorf("Refresh() error = %v, want %v", err, session.ErrReplayLate)
		}
	})
}
