package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, session.Lifetimes{})
	first := w.Login("alice")
	w.Clock.Advance(time.Minute)
	second := w.Login("alice")
	w.Login("bob")
	current, all, err := w.Service.Sessions(t.Context(), first.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	if current.ID != first.Session.ID || len(all) != 2 || all[0].ID != second.Session.ID || all[1].ID != first.Session.ID {
		t.Errorf("Sessions() = %s, %+v", current.ID, all)
	}
	if _, _, err := w.Service.Sessions(t.Context(), "garbage"); !errors.Is(err, auth.TokenInvalid) {
		t.Errorf("error = %v, want %v", err, auth.TokenInvalid)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	end := func(t *testing.T, w *world, by session.Grant, id uuid.UUID, want auth.Code) {
		t.Helper()
		_, err := w.Service.End(t.Context(), session.EndRequest{AccessToken: by.AccessToken, Session: id, RequestID: "req-1"})
		if auth.CodeOf(err) != want {
			t.Errorf("End() error = %v, want %q", err, want)
		}
	}
	t.Run("another session of the user ends, and the audit names the session that asked", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		mine, lost := w.Login("alice"), w.Login("alice")
		end(t, w, mine, lost.Session.ID, "")
		if _, err := w.Refresh(lost.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("refresh: error = %v, want %v", err, auth.SessionRevoked)
		}
		if _, err := w.Service.Authenticate(t.Context(), mine.AccessToken); err != nil {
			t.Error(err)
		}
		if n := w.count(t, `select count(*) from audit where action = 'session.logout' and actor = 'bearer' and session_id = ? and request_id = 'req-1' and detail ->> 'by_session' = ?`,
			lost.Session.ID.String(), mine.Session.ID.String()); n != 1 {
			t.Errorf("%d audit events, want 1", n)
		}
		if w.CaughtUp.Load() != 1 {
			t.Errorf("%d calls of CatchUp, want 1", w.CaughtUp.Load())
		}
		// A second call changes nothing.
		end(t, w, mine, lost.Session.ID, "")
		if n := w.count(t, `select count(*) from cutoffs`); n != 1 {
			t.Errorf("%d cutoffs, want 1", n)
		}
	})
	t.Run("the session of the access token can end itself", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		mine := w.Login("alice")
		end(t, w, mine, mine.Session.ID, "")
		end(t, w, mine, mine.Session.ID, auth.SessionRevoked)
	})
	t.Run("a session of another user is not found, like an unknown one", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		mine, bobs := w.Login("alice"), w.Login("bob")
		end(t, w, mine, bobs.Session.ID, auth.NotFound)
		end(t, w, mine, uuid.Must(uuid.NewV7()), auth.NotFound)
		if _, err := w.Refresh(bobs.RefreshToken); err != nil {
			t.Errorf("bob's session: error = %v", err)
		}
		if w.CaughtUp.Load() != 0 {
			t.Error("CatchUp was called without a change")
		}
	})
	t.Run("the same person's identity in another app is another user", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		mine := w.Login("alice")
		other, err := w.Service.Exchange(t.Context(), session.ExchangeRequest{
			ClientID: sessiontest.OtherAppID, Code: auth.Secret(w.Simulator.NewCode("alice")),
		})
		if err != nil {
			t.Fatal(err)
		}
		end(t, w, mine, other.Session.ID, auth.NotFound)
	})
}

func TestApplied(t *testing.T) {
	t.Parallel()
	for ending, e := range endings {
		t.Run(ending+" is applied here before it is answered", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g := w.Login("alice")
			if got := auth.CodeOf(e.end(t, w, g)); got != e.ended {
				t.Fatalf("code of the ending = %q, want %q", got, e.ended)
			}
			if _, err := w.Verifier.Verify(t.Context(), g.AccessToken.Reveal()); auth.CodeOf(err) != auth.SessionRevoked {
				t.Errorf("Verify() error = %v, want %s by the cutoff in memory", err, auth.SessionRevoked)
			}
		})
	}
	t.Run("a refresh that ends nothing does not call CatchUp", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		if _, err := w.Refresh(w.Login("alice").RefreshToken); err != nil || w.CaughtUp.Load() != 0 {
			t.Errorf("Refresh() error = %v, %d calls of CatchUp, want 0", err, w.CaughtUp.Load())
		}
	})
}
