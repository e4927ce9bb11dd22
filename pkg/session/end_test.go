package session_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	revoke := func(t *testing.T, w *world, clientID string, s auth.Secret) error {
		t.Helper()
		_, err := w.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: clientID, Token: s, RequestID: "REQ1"})
		return err
	}
	dead := func(t *testing.T, w *world, g session.Grant) bool {
		t.Helper()
		_, err := w.Refresh(g.RefreshToken)
		_, authErr := w.Service.Authenticate(t.Context(), g.AccessToken)
		if errors.Is(err, auth.SessionRevoked) != errors.Is(authErr, auth.SessionRevoked) {
			t.Errorf("Refresh() error = %v, but Authenticate() error = %v", err, authErr)
		}
		return errors.Is(err, auth.SessionRevoked)
	}
	for name, pick := range map[string]func(t *testing.T, w *world, g session.Grant) (presented auth.Secret, current session.Grant){
		"the refresh token": func(_ *testing.T, _ *world, g session.Grant) (auth.Secret, session.Grant) { return g.RefreshToken, g },
		"the access token":  func(_ *testing.T, _ *world, g session.Grant) (auth.Secret, session.Grant) { return g.AccessToken, g },
		"an access token from before a refresh": func(t *testing.T, w *world, g session.Grant) (auth.Secret, session.Grant) {
			t.Helper()
			return g.AccessToken, must(w.Refresh(g.RefreshToken))(t)
		},
		"a refresh token that was rotated": func(t *testing.T, w *world, g session.Grant) (auth.Secret, session.Grant) {
			t.Helper()
			return g.RefreshToken, must(w.Refresh(g.RefreshToken))(t)
		},
	} {
		t.Run(name+" ends only its session", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g, bystander := w.Login("alice"), w.Login("alice")
			presented, current := pick(t, w, g)
			if err := revoke(t, w, sessiontest.AppID, presented); err != nil {
				t.Fatal(err)
			}
			if !dead(t, w, current) {
				t.Error("the session is live")
			}
			if dead(t, w, bystander) {
				t.Error("another session ended too")
			}
			row := w.row(t, g.Session.ID)
			if !row.EndedAt.Equal(w.Clock.Now()) || row.EndReason != auth.EndLogout {
				t.Errorf("the session ended at %v for %q, want logout", row.EndedAt, row.EndReason)
			}
			if n := w.count(t, `select count(*) from audit where action = 'session.logout' and actor = 'bearer' and session_id = ? and request_id = 'REQ1'`, g.Session.ID.String()); n != 1 {
				t.Errorf("%d audit events, want 1", n)
			}
			if n := w.count(t, `select count(*) from cutoffs where session_id = ?`, g.Session.ID.String()); n != 1 {
				t.Errorf("%d cutoffs, want 1", n)
			}
			// A second call is harmless and changes nothing.
			if err := revoke(t, w, sessiontest.AppID, presented); err != nil {
				t.Errorf("second Revoke() error = %v", err)
			}
			if n := w.count(t, `select count(*) from audit where action = 'session.logout'`); n != 1 {
				t.Errorf("%d audit events after the second call, want 1", n)
			}
		})
	}
	t.Run("another client's token ends nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		for id, want := range map[string]auth.Code{
			sessiontest.OtherAppID: auth.TokenClientMismatch, "wxnobody": auth.TokenClientMismatch,
			"": auth.AppUnknown, "wx 1": auth.AppUnknown,
		} {
			for _, s := range []auth.Secret{g.RefreshToken, g.AccessToken} {
				if err := revoke(t, w, id, s); !errors.Is(err, want) {
					t.Errorf("client %q: Revoke() error = %v, want %s", id, err, want)
				}
			}
		}
		if dead(t, w, g) {
			t.Error("the session ended")
		}
	})
	t.Run("a text that is not our token is no error and costs no call of the store", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		stranger := newWorld(t, session.Lifetimes{}).Login("alice")
		w.store.calls.Store(0)
		for _, s := range []auth.Secret{
			"", "x", "yfr_", "yfr_x", "a.b.c", auth.Secret(strings.Repeat("A", 1<<16)), auth.Secret(g.Session.ID.String()), auth.Secret(g.Session.Identity.String()),
			stranger.AccessToken, stranger.RefreshToken, g.RefreshToken[:63], g.AccessToken + "A", auth.Secret(strings.ToUpper(g.RefreshToken.Reveal())),
		} {
			if err := revoke(t, w, sessiontest.AppID, s); err != nil {
				t.Errorf("%q: error = %v", s.Reveal(), err)
			}
		}
		if n := w.store.calls.Load(); n != 0 {
			t.Errorf("%d calls of the store, want 0", n)
		}
		if dead(t, w, g) {
			t.Error("the session ended")
		}
	})
	t.Run("an expired access token is no error", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		w.Clock.Advance(sessiontest.AccessTTL)
		if err := revoke(t, w, sessiontest.AppID, g.AccessToken); err != nil {
			t.Error(err)
		}
		if _, err := w.Refresh(g.RefreshToken); err != nil {
			t.Errorf("Refresh() afterwards: error = %v", err)
		}
	})
	t.Run("while the database is down Revoke does not report success", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g, ended := w.Login("alice"), w.Login("alice")
		if err := revoke(t, w, sessiontest.AppID, ended.RefreshToken); err != nil {
			t.Fatal(err)
		}
		w.store.down.Store(true)
		// The end of a session is in memory, but need not be durable.
		for _, s := range []auth.Secret{g.RefreshToken, g.AccessToken, ended.RefreshToken, ended.AccessToken} {
			if err := revoke(t, w, sessiontest.AppID, s); !errors.Is(err, auth.StorageUnavailable) {
				t.Errorf("Revoke() error = %v, want %v", err, auth.StorageUnavailable)
			}
		}
	})
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	t.Run("an access token yields its live session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		s, err := w.Service.Authenticate(t.Context(), g.AccessToken)
		if err != nil || s.ID != g.Session.ID || s.Identity != g.Session.Identity {
			t.Errorf("Authenticate() = %+v, %v; want the session and its identity", s, err)
		}
	})
	t.Run("an access token stays valid across refreshes until it expires", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		must(w.Refresh(g.RefreshToken))(t)
		if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil {
			t.Error(err)
		}
	})
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, w *world, g session.Grant) auth.Secret
		want  auth.Code
		calls int64
	}{
		"garbage": {func(*testing.T, *world, session.Grant) auth.Secret { return "garbage" }, auth.TokenInvalid, 0},
		"the uuid, which is not a credential": {func(_ *testing.T, _ *world, g session.Grant) auth.Secret {
			return auth.Secret(g.Session.Identity.String())
		}, auth.TokenInvalid, 0},
		"the refresh token": {func(_ *testing.T, _ *world, g session.Grant) auth.Secret { return g.RefreshToken }, auth.TokenInvalid, 0},
		"a token that has expired": {func(_ *testing.T, w *world, g session.Grant) auth.Secret {
			w.Clock.Advance(sessiontest.AccessTTL)
			return g.AccessToken
		}, auth.TokenExpired, 0},
		"a token of a deleted session": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.exec(t, `delete from sessions`)
			return g.AccessToken
		}, auth.SessionRevoked, 1},
		"a token below the session's ver": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.exec(t, `update sessions set ver = ver + 1`)
			return g.AccessToken
		}, auth.SessionRevoked, 1},
		"a token below its app's epoch": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.exec(t, `update apps set epoch = epoch + 1`)
			return g.AccessToken
		}, auth.SessionRevoked, 1},
		"a token of a session that has ended": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			if _, err := w.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: g.RefreshToken}); err != nil {
				t.Fatal(err)
			}
			w.store.calls.Store(0)
			return g.AccessToken
		}, auth.SessionRevoked, 0}, // its cutoff is in memory
		"a token of an ended session whose cutoff is not known yet": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.exec(t, `update sessions set ended_at = ?, end_reason = 'revoked'`, w.Clock.Now().UnixMicro())
			return g.AccessToken
		}, auth.SessionRevoked, 1},
		"a token that a cutoff hits, although the database has lost the end": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.Cutoffs.Set().Add(cutoffs.Wire(auth.SessionEnded("", g.Session.ID, w.Clock.Now())), w.Clock.Now())
			return g.AccessToken
		}, auth.SessionRevoked, 0},
		"a token of a session past its end": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.exec(t, `update sessions set idle_expires_at = ?1, expires_at = ?1`, w.Clock.Now().UnixMicro())
			return g.AccessToken
		}, auth.SessionRevoked, 1},
		"a token for another identity than its session's": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			g.Session.Identity = uuid.Must(uuid.NewV7())
			s, _, err := w.Minter.Mint(&g.Session, nil, "", w.Clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}, auth.TokenInvalid, 1},
		"a token for another app than its session's": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			g.Session.AppID = sessiontest.OtherAppID
			s, _, err := w.Minter.Mint(&g.Session, nil, "", w.Clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}, auth.TokenInvalid, 1},
		"any token while the database is down": {func(_ *testing.T, w *world, g session.Grant) auth.Secret {
			w.store.down.Store(true)
			return g.AccessToken
		}, auth.StorageUnavailable, 1},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g := w.Login("alice")
			w.store.calls.Store(0)
			presented := tc.spoil(t, w, g)
			s, err := w.Service.Authenticate(t.Context(), presented)
			if auth.CodeOf(err) != tc.want || s.ID != uuid.Nil {
				t.Errorf("Authenticate() error = %v, want %s", err, tc.want)
			}
			if n := w.store.calls.Load(); n != tc.calls {
				t.Errorf("%d calls of the store, want %d", n, tc.calls)
			}
		})
	}
	t.Run("a token from the session's last second ends with the session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{Idle: time.Hour, Max: time.Hour})
		g := w.Login("alice")
		w.Clock.Advance(time.Hour - time.Second)
		g = must(w.Refresh(g.RefreshToken))(t)
		if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil {
			t.Error(err)
		}
		w.Clock.Advance(time.Second)
		if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err == nil {
			t.Error("the token is still accepted")
		}
	})
}
