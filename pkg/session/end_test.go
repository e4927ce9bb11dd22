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
			t.Errorf("refresh says %v, authenticate %v", err, authErr)
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
		t.Run(name+" ends the session, and that alone", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g, bystander := w.Login("alice"), w.Login("alice")
			presented, current := pick(t, w, g)
			if err := revoke(t, w, sessiontest.AppID, presented); err != nil {
				t.Fatal(err)
			}
			if !dead(t, w, current) {
				t.Error("it lives on")
			}
			if dead(t, w, bystander) {
				t.Error("another session ended too")
			}
			row := w.row(t, g.Session.ID)
			if !row.EndedAt.Equal(w.Clock.Now()) || row.EndReason != auth.EndLogout {
				t.Errorf("ended %v for %q", row.EndedAt, row.EndReason)
			}
			if n := w.count(t, `select count(*) from audit where action = 'session.logout' and actor = 'bearer' and session_id = ? and request_id = 'REQ1'`, g.Session.ID.String()); n != 1 {
				t.Errorf("%d audit rows", n)
			}
			if n := w.count(t, `select count(*) from cutoffs where session_id = ?`, g.Session.ID.String()); n != 1 {
				t.Errorf("%d cutoffs", n)
			}
			// Once more is harmless and changes nothing.
			if err := revoke(t, w, sessiontest.AppID, presented); err != nil {
				t.Errorf("a second time: error = %v", err)
			}
			if n := w.count(t, `select count(*) from audit where action = 'session.logout'`); n != 1 {
				t.Errorf("%d audit rows after a second time", n)
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
					t.Errorf("client %q: %v, want %s", id, err, want)
				}
			}
		}
		if dead(t, w, g) {
			t.Error("the session ended")
		}
	})
	t.Run("what is no token of ours is as good as revoked, and costs no call to the store", func(t *testing.T) {
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
			t.Errorf("%d calls to the store", n)
		}
		if dead(t, w, g) {
			t.Error("the session ended")
		}
	})
	t.Run("an access token that has expired is as good as revoked", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		w.Clock.Advance(sessiontest.AccessTTL)
		if err := revoke(t, w, sessiontest.AppID, g.AccessToken); err != nil {
			t.Error(err)
		}
		if _, err := w.Refresh(g.RefreshToken); err != nil {
			t.Errorf("the session ended: error = %v", err)
		}
	})
	t.Run("while the database is down it is not claimed to have worked", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g, ended := w.Login("alice"), w.Login("alice")
		if err := revoke(t, w, sessiontest.AppID, ended.RefreshToken); err != nil {
			t.Fatal(err)
		}
		w.store.down.Store(true)
		// That a session has ended is in memory, and its end need not be durable.
		for _, s := range []auth.Secret{g.RefreshToken, g.AccessToken, ended.RefreshToken, ended.AccessToken} {
			if err := revoke(t, w, sessiontest.AppID, s); !errors.Is(err, auth.StorageUnavailable) {
				t.Errorf("error = %v, want %v", err, auth.StorageUnavailable)
			}
		}
	})
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	t.Run("an access token opens its live session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		s, err := w.Service.Authenticate(t.Context(), g.AccessToken)
		if err != nil || s.ID != g.Session.ID || s.Identity != g.Session.Identity {
			t.Errorf("%+v, %v", s, err)
		}
	})
	t.Run("it stays good across refreshes until it expires", func(t *testing.T) {
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
		"the uuid, which is no credential": {func(_ *testing.T, _ *world, g session.Grant) auth.Secret {
			return auth.Secret(g.Session.Identity.String())
		}, auth.TokenInvalid, 0},
		"the refresh token": {func(_ *testing.T, _ *world, g session.Grant) auth.Secret { return g.RefreshToken }, auth.TokenInvalid, 0},
		"a token that has expired": {func(_ *testing.T, w *world, g session.Grant) auth.Secret {
			w.Clock.Advance(sessiontest.AccessTTL)
			return g.AccessToken
		}, auth.TokenExpired, 0},
		"a token whose session is gone": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
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
		"a token of a session that has ended, of which no cutoff has come yet": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.exec(t, `update sessions set ended_at = ?, end_reason = 'revoked'`, w.Clock.Now().UnixMicro())
			return g.AccessToken
		}, auth.SessionRevoked, 1},
		"a token that a cutoff hits, though the database has forgotten why": {func(t *testing.T, w *world, g session.Grant) auth.Secret {
			t.Helper()
			w.Cutoffs.Set().Add(cutoffs.Wire(auth.SessionEnded(g.Session.ID, w.Clock.Now())), w.Clock.Now())
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
		t.Run("it refuses "+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g := w.Login("alice")
			w.store.calls.Store(0)
			presented := tc.spoil(t, w, g)
			s, err := w.Service.Authenticate(t.Context(), presented)
			if auth.CodeOf(err) != tc.want || s.ID != uuid.Nil {
				t.Errorf("%v, want %s", err, tc.want)
			}
			if n := w.store.calls.Load(); n != tc.calls {
				t.Errorf("%d calls to the store, want %d", n, tc.calls)
			}
		})
	}
	t.Run("a token that was minted a second before the session's end dies with it", func(t *testing.T) {
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
			t.Error("it lives on")
		}
	})
}
