package session_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/token"
)

func TestRefresh(t *testing.T) {
	t.Parallel()
	t.Run("a refresh moves the session one generation forward", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		first := w.Login("alice")
		w.Clock.Advance(time.Hour)
		g := must(w.Refresh(first.RefreshToken))(t)
		if g.Verdict != session.Rotate || g.Session.ID != first.Session.ID || g.Session.Identity != first.Session.Identity || g.Session.Generation != 2 {
			t.Errorf("Refresh() = %v, %+v", g.Verdict, g.Session)
		}
		if g.RefreshToken == first.RefreshToken || g.AccessToken == first.AccessToken {
			t.Error("Refresh() returns an old token")
		}
		if g.RefreshTokenTimeout != 30*86400 || g.AuthorizationExpiresIn != 180*86400-3600 {
			t.Errorf("timeouts = %d, %d; want 30 days, and 180 days less an hour", g.RefreshTokenTimeout, g.AuthorizationExpiresIn)
		}
		claims := must(w.Verifier.Verify(t.Context(), g.AccessToken.Reveal()))(t)
		if claims.Session != g.Session.ID || !claims.IssuedAt.Equal(w.Clock.Now().Truncate(time.Second)) {
			t.Errorf("claims = %+v, want those of the session, issued now", claims)
		}
		if n := w.count(t, `select count(*) from sessions`); n != 1 {
			t.Errorf("%d session rows, want 1", n)
		}
	})
	t.Run("a replay inside the window yields the same successor", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		first := w.Login("alice")
		second := must(w.Refresh(first.RefreshToken))(t)
		for range 3 {
			w.Clock.Advance(20 * time.Second)
			again := must(w.Refresh(first.RefreshToken))(t)
			if again.Verdict != session.Replay || again.RefreshToken != second.RefreshToken || again.Session.ID != second.Session.ID || again.Session.Generation != second.Session.Generation {
				t.Errorf("Refresh() again = %v, %+v, want a replay", again.Verdict, again.Session)
			}
			if s, err := w.Service.Authenticate(t.Context(), again.AccessToken); err != nil || s.ID != first.Session.ID {
				t.Errorf("its access token is not good: %v", err)
			}
		}
		third := must(w.Refresh(second.RefreshToken))(t)
		if third.Session.Generation != 3 {
			t.Errorf("generation = %d after the third refresh, want 3", third.Session.Generation)
		}
	})
	t.Run("a replay does not show when the token was rotated", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{Grace: time.Minute, Idle: time.Hour, Max: day})
		first := w.Login("alice")
		second := must(w.Refresh(first.RefreshToken))(t)
		w.Clock.Advance(45 * time.Second)
		again := must(w.Refresh(first.RefreshToken))(t)
		if again.RefreshTokenTimeout != second.RefreshTokenTimeout {
			t.Errorf("refresh_token_timeout = %d, and %d for the replay", second.RefreshTokenTimeout, again.RefreshTokenTimeout)
		}
	})
	t.Run("replay after the window revokes the session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		first, bystander := w.Login("alice"), w.Login("alice")
		second := must(w.Refresh(first.RefreshToken))(t)
		w.Clock.Advance(time.Minute + time.Microsecond)
		if _, err := w.Refresh(first.RefreshToken); !errors.Is(err, auth.RefreshReused) {
			t.Errorf("Refresh() error = %v, want %v", err, auth.RefreshReused)
		}
		if _, err := w.Refresh(second.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("its successor: error = %v, want %v", err, auth.SessionRevoked)
		}
		if _, err := w.Service.Authenticate(t.Context(), second.AccessToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("its access token: error = %v, want %v", err, auth.SessionRevoked)
		}
		if _, err := w.Refresh(bystander.RefreshToken); err != nil {
			t.Errorf("another session of the user: error = %v", err)
		}
		if n := w.count(t, `select count(*) from audit where action = 'refresh.replay_late' and session_id = ?`, first.Session.ID.String()); n != 1 {
			t.Errorf("%d audit events, want 1", n)
		}
	})
	t.Run("a token two generations old revokes the session inside the window too", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		first := w.Login("alice")
		second := must(w.Refresh(first.RefreshToken))(t)
		third := must(w.Refresh(second.RefreshToken))(t)
		_, err := w.Service.Refresh(t.Context(), session.RefreshRequest{ClientID: sessiontest.AppID, RefreshToken: first.RefreshToken, RequestID: "REQ1"})
		if !errors.Is(err, auth.RefreshReused) {
			t.Errorf("error = %v, want %v", err, auth.RefreshReused)
		}
		if _, err := w.Refresh(third.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("the current token: error = %v, want %v", err, auth.SessionRevoked)
		}
		if n := w.count(t, `select count(*) from audit where action = 'refresh.reuse' and request_id = 'REQ1'`); n != 1 {
			t.Errorf("%d audit events, want 1", n)
		}
		if n := w.count(t, `select count(*) from cutoffs where session_id = ? and ver = 0`, first.Session.ID.String()); n != 1 {
			t.Errorf("%d cutoffs, want 1", n)
		}
	})
	t.Run("a token ahead of a store that was rolled back is accepted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		for range 5 {
			g = must(w.Refresh(g.RefreshToken))(t)
		}
		w.exec(t, `update sessions set generation = 2`)
		next := must(w.Refresh(g.RefreshToken))(t)
		if next.Verdict != session.RolledBack || next.Session.Generation != g.Session.Generation+1 {
			t.Errorf("Refresh() = %v, %+v, want a rollback", next.Verdict, next.Session)
		}
		if _, err := w.Refresh(next.RefreshToken); err != nil {
			t.Errorf("next Refresh() error = %v", err)
		}
	})
	t.Run("tokens have the claims of the session row at once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		person := w.bind(t, g.Session.Identity)
		if g = must(w.Refresh(g.RefreshToken))(t); g.Session.Bound() {
			t.Error("the claims come from the identity, not from the session's row")
		}
		w.exec(t, `update sessions set person_id = ?, ver = ver + 1`, person.ID.String())
		g = must(w.Refresh(g.RefreshToken))(t)
		claims := must(w.Verifier.Verify(t.Context(), g.AccessToken.Reveal()))(t)
		if !claims.Bound || *claims.Person != person.ID || claims.Ver != 2 {
			t.Errorf("claims = %+v, want ver 2, bound to %s", claims, person.ID)
		}
	})
}

func TestRefreshRefuses(t *testing.T) {
	t.Parallel()
	t.Run("a token that is not ours, without a call of the store", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		good := w.Login("alice").RefreshToken.Reveal()
		another := newWorld(t, session.Lifetimes{}).Login("alice").RefreshToken.Reveal()
		body := must(base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good, token.RefreshPrefix)))(t)
		forged := []string{"", "x", "yfr_", another, good + "A", good[:63], strings.ToUpper(good), good[:30] + "\n" + good[31:], strings.Repeat("A", 1<<16)}
		for i := range len(body) * 8 {
			body[i/8] ^= 1 << (i % 8)
			forged = append(forged, token.RefreshPrefix+base64.RawURLEncoding.EncodeToString(body))
			body[i/8] ^= 1 << (i % 8)
		}
		// Without a key, naming an existing session does not help.
		w.store.calls.Store(0)
		for _, s := range forged {
			if g, err := w.Refresh(auth.Secret(s)); !errors.Is(err, auth.RefreshInvalid) || g.AccessToken != "" {
				t.Fatalf("Refresh(%q) error = %v, want refresh_invalid", s, err)
			}
		}
		if n := w.store.calls.Load(); n != 0 {
			t.Errorf("%d calls of the store, want 0", n)
		}
		if _, err := w.Refresh(auth.Secret(good)); err != nil || w.store.calls.Load() != 1 {
			t.Errorf("the valid token: error = %v, %d calls of the store; want no error and 1 call", err, w.store.calls.Load())
		}
	})
	t.Run("an invalid client_id, without a call of the store", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		good := w.Login("alice").RefreshToken
		w.store.calls.Store(0)
		for _, id := range []string{"", "wx 1", "wx\x00", strings.Repeat("a", 65)} {
			if _, err := w.Service.Refresh(t.Context(), session.RefreshRequest{ClientID: id, RefreshToken: good}); !errors.Is(err, auth.AppUnknown) {
				t.Errorf("%q: error = %v, want %v", id, err, auth.AppUnknown)
			}
		}
		if n := w.store.calls.Load(); n != 0 {
			t.Errorf("%d calls of the store, want 0", n)
		}
	})
	t.Run("a token of another app, which stays valid for that app", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		good := w.Login("alice").RefreshToken
		if _, err := w.Service.Refresh(t.Context(), session.RefreshRequest{ClientID: sessiontest.OtherAppID, RefreshToken: good}); !errors.Is(err, auth.RefreshInvalid) {
			t.Errorf("Refresh() error = %v, want %v", err, auth.RefreshInvalid)
		}
		if g, err := w.Refresh(good); err != nil || g.Verdict != session.Rotate {
			t.Errorf("Refresh() by its own app = %v, %v", g.Verdict, err)
		}
	})
	t.Run("a deleted session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		s := must(w.Codec.Encode(token.Refresh{Session: uuid.Must(uuid.NewV7()), Generation: 1}, w.Clock.Now()))(t)
		if _, err := w.Refresh(s); !errors.Is(err, auth.RefreshExpired) {
			t.Errorf("Refresh() error = %v, want %v", err, auth.RefreshExpired)
		}
	})
	t.Run("every session of an app that was disabled, for ever", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		must(w.Store.DisableApp(t.Context(), sessiontest.AppID, w.Event(auth.AuditAppDisabled)))(t)
		if _, err := w.Refresh(g.RefreshToken); !errors.Is(err, auth.AppDisabled) {
			t.Errorf("disabled: error = %v, want %v", err, auth.AppDisabled)
		}
		if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("its access token: error = %v, want %v", err, auth.SessionRevoked)
		}
		must(w.Store.EnableApp(t.Context(), sessiontest.AppID, w.Event(auth.AuditAppEnabled)))(t)
		if _, err := w.Refresh(g.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("enabled again: error = %v, want %v", err, auth.SessionRevoked)
		}
		if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("its access token after that: error = %v, want %v", err, auth.SessionRevoked)
		}
		fresh := w.Login("alice")
		if _, err := w.Refresh(fresh.RefreshToken); err != nil {
			t.Errorf("a new log-in: error = %v", err)
		}
	})
	t.Run("everything while the database is down", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		w.store.down.Store(true)
		if _, err := w.Refresh(g.RefreshToken); !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("Refresh() error = %v, want %v", err, auth.StorageUnavailable)
		}
		w.store.down.Store(false)
		if g, err := w.Refresh(g.RefreshToken); err != nil || g.Verdict != session.Rotate {
			t.Errorf("Refresh() when the database is back = %v, %v", g.Verdict, err)
		}
	})
}

func TestSessionLifetime(t *testing.T) {
	t.Parallel()
	lifetimes := session.Lifetimes{Grace: time.Minute, Idle: time.Hour, Max: 150 * time.Minute}
	t.Run("the idle expiry is exact to the microsecond", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lifetimes)
		kept, lost := w.Login("alice"), w.Login("alice")
		w.Clock.Advance(time.Hour - time.Microsecond)
		if _, err := w.Refresh(kept.RefreshToken); err != nil {
			t.Errorf("a moment before: error = %v", err)
		}
		w.Clock.Advance(time.Microsecond)
		if _, err := w.Refresh(lost.RefreshToken); !errors.Is(err, auth.RefreshExpired) {
			t.Errorf("at the moment: error = %v, want %v", err, auth.RefreshExpired)
		}
	})
	t.Run("the absolute expiry does not move with refreshes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lifetimes)
		g := w.Login("alice")
		end := g.Session.ExpiresAt
		for w.Clock.Now().Before(end) {
			next, err := w.Refresh(g.RefreshToken)
			if err != nil {
				t.Fatalf("%v before the end: %v", end.Sub(w.Clock.Now()), err)
			}
			g = next
			left := end.Sub(w.Clock.Now())
			if !g.Session.ExpiresAt.Equal(end) {
				t.Fatalf("the end moved to %v", g.Session.ExpiresAt)
			}
			if g.RefreshTokenTimeout > g.AuthorizationExpiresIn || g.AuthorizationExpiresIn != int(left/time.Second) || g.RefreshTokenTimeout != int(min(left, time.Hour)/time.Second) {
				t.Fatalf("%v before the end: refresh_token_timeout %d, authorization_expires_in %d", left, g.RefreshTokenTimeout, g.AuthorizationExpiresIn)
			}
			claims := must(w.Verifier.Verify(t.Context(), g.AccessToken.Reveal()))(t)
			if claims.ExpiresAt.After(end.Add(time.Second)) {
				t.Fatalf("an access token lives until %v, the session until %v", claims.ExpiresAt, end)
			}
			w.Clock.Advance(7*time.Minute + 321*time.Millisecond)
		}
		if _, err := w.Refresh(g.RefreshToken); !errors.Is(err, auth.RefreshExpired) {
			t.Errorf("at the end: error = %v, want %v", err, auth.RefreshExpired)
		}
	})
}
