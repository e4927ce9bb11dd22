package session_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestExchange(t *testing.T) {
	t.Parallel()
	t.Run("a code becomes a session and its tokens", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := must(w.Service.Exchange(t.Context(), session.ExchangeRequest{
			ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode("alice")), Device: " Pixel 9 ",
		}))(t)

		now := w.Clock.Now()
		want := auth.Session{
			ID: g.Session.ID, Identity: g.Session.Identity, AppID: sessiontest.AppID, Device: "Pixel 9",
			Ver: 1, Generation: auth.FirstGeneration, RotatedAt: now, StartedAt: now,
			IdleExpiresAt: now.Add(30 * day), ExpiresAt: now.Add(180 * day),
		}
		if d := cmp.Diff(want, g.Session); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(want, w.row(t, g.Session.ID)); d != "" {
			t.Errorf("stored session (-want +got):\n%s", d)
		}
		if g.Session.ID.Version() != 7 || g.Session.Identity.Version() != 7 {
			t.Errorf("uuids = %v, %v, want version 7", g.Session.ID, g.Session.Identity)
		}
		if g.Verdict != session.Rotate || g.RefreshTokenTimeout != 30*86400 || g.AuthorizationExpiresIn != 180*86400 {
			t.Errorf("Exchange() = %+v, want a rotation with lifetimes of 30 and 180 days", g)
		}
		claims := must(w.Verifier.Verify(t.Context(), g.AccessToken.Reveal()))(t)
		if claims.Session != want.ID || claims.Subject != want.Identity || claims.ClientID != want.AppID || claims.Bound {
			t.Errorf("claims = %+v, want those of the session, not bound", claims)
		}
		if d := cmp.Diff([]string{sessiontest.Issuer, sessiontest.Audience}, []string(claims.Audience)); d != "" {
			t.Error(d)
		}
		if got := claims.ExpiresAt.Sub(claims.IssuedAt.Time); got != time.Duration(g.ExpiresIn)*time.Second {
			t.Errorf("expires_in = %d, but the token lives %v", g.ExpiresIn, got)
		}
		if _, err := w.Refresh(g.RefreshToken); err != nil {
			t.Errorf("Decode() of the refresh token: error = %v", err)
		}
		if calls := w.Simulator.Calls(); len(calls) != 1 || calls[0].AppID != sessiontest.AppID {
			t.Errorf("calls of the platform = %+v, want one for the app", calls)
		}
	})
	t.Run("the same user has the same uuid, and a session for each log-in", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		a, b, other := w.Login("alice"), w.Login("alice"), w.Login("bob")
		if a.Session.Identity != b.Session.Identity || a.Session.ID == b.Session.ID {
			t.Errorf("sessions = %+v and %+v, want one identity and two sessions", a.Session, b.Session)
		}
		if other.Session.Identity == a.Session.Identity {
			t.Error("two users share a uuid")
		}
	})
	t.Run("a bound user is bound from the first token on", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		person := w.bind(t, w.Login("alice").Session.Identity)
		g := w.Login("alice")
		if d := cmp.Diff(&person, g.Session.Person); d != "" {
			t.Error(d)
		}
		claims := must(w.Verifier.Verify(t.Context(), g.AccessToken.Reveal()))(t)
		if !claims.Bound || claims.Person == nil || *claims.Person != person.ID {
			t.Errorf("claims = %+v, want them bound to %s", claims, person.ID)
		}
	})
	t.Run("the session_key is sealed in the identity's row", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		w.Login("alice")
		var account auth.PlatformAccount
		var sealed []byte
		if err := w.db.QueryRowContext(t.Context(), `select subject_kind, subject, sealed_session_key from identities`).Scan(&account.SubjectKind, &account.Subject, &sealed); err != nil {
			t.Fatal(err)
		}
		if want := auth.OpenIDAccount(wechatsim.OpenID(sessiontest.AppID, "alice")); account != want {
			t.Errorf("account = %+v, want %+v", account, want)
		}
		key := must(w.Sealer.Open(sealed, session.SessionKeyAAD(sessiontest.AppID, account)))(t)
		if raw, err := base64.StdEncoding.DecodeString(string(key)); err != nil || len(raw) != 16 || bytes.Contains(sealed, key) {
			t.Errorf("Open() = %q, %v, want the session_key", key, err)
		}
		// The sealed key does not open in the row of another app or user, or in another
		// column.
		for name, elsewhere := range map[string][]byte{
			"another app":             session.SessionKeyAAD(sessiontest.OtherAppID, account),
			"another user":            session.SessionKeyAAD(sessiontest.AppID, auth.OpenIDAccount(account.Subject+"x")),
			"another kind of subject": session.SessionKeyAAD(sessiontest.AppID, auth.PlatformAccount{SubjectKind: "unionid", Subject: account.Subject}),
			"no user":                 session.SessionKeyAAD(sessiontest.AppID, auth.PlatformAccount{}),
			"an app's row":            app.CredentialAAD(sessiontest.AppID, auth.CredentialAppSecret), "no row": nil,
		} {
			if _, err := w.Sealer.Open(sealed, elsewhere); err == nil {
				t.Errorf("the session_key opens for %s", name)
			}
		}
	})
}

func TestExchangeKeepsTheCode(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, w *world, r *session.ExchangeRequest)
		want  auth.Code
	}{
		"when the app is unknown": {func(_ *testing.T, _ *world, r *session.ExchangeRequest) { r.ClientID = "wxnobody" }, auth.AppUnknown},
		"when the client_id cannot be an appid": {func(_ *testing.T, _ *world, r *session.ExchangeRequest) {
			r.ClientID = "wx'; drop table apps; --"
		}, auth.AppUnknown},
		"when there is no client_id": {func(_ *testing.T, _ *world, r *session.ExchangeRequest) { r.ClientID = "" }, auth.AppUnknown},
		"when the app is disabled": {func(t *testing.T, w *world, r *session.ExchangeRequest) {
			must(w.Store.DisableApp(t.Context(), r.ClientID, w.Event(auth.AuditAppDisabled)))(t)
		}, auth.AppDisabled},
		"when the database is down": {func(_ *testing.T, w *world, _ *session.ExchangeRequest) { w.store.down.Store(true) }, auth.StorageUnavailable},
		"when the device label is too long": {func(_ *testing.T, _ *world, r *session.ExchangeRequest) {
			r.Device = string(bytes.Repeat([]byte("x"), 65))
		}, auth.InvalidRequest},
		"when the AppSecret was sealed for another app": {func(t *testing.T, w *world, r *session.ExchangeRequest) {
			w.exec(t, `update apps set sealed_credentials = (select sealed_credentials from apps where appid = ?) where appid = ?`, sessiontest.OtherAppID, r.ClientID)
		}, auth.PlatformMisconfigured},
		"when the app's platform is not served here": {func(t *testing.T, w *world, r *session.ExchangeRequest) {
			w.exec(t, `update apps set platform = 'douyin' where appid = ?`, r.ClientID)
		}, auth.PlatformMisconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			code := w.Simulator.NewCode("alice")
			r := session.ExchangeRequest{ClientID: sessiontest.AppID, Code: auth.Secret(code)}
			tc.spoil(t, w, &r)
			g, err := w.Service.Exchange(t.Context(), r)
			if auth.CodeOf(err) != tc.want || g.AccessToken != "" || g.RefreshToken != "" {
				t.Errorf("Exchange() error = %v, want %s", err, tc.want)
			}
			if calls := w.Simulator.Calls(); len(calls) != 0 {
				t.Errorf("calls of the platform = %+v, want none", calls)
			}
			if n := w.count(t, `select count(*) from sessions`); n != 0 {
				t.Errorf("%d sessions, want 0", n)
			}
			// The client can try again with the same code.
			other := session.ExchangeRequest{ClientID: sessiontest.OtherAppID, Code: auth.Secret(code)}
			w.store.down.Store(false)
			if _, err := w.Service.Exchange(t.Context(), other); err != nil && tc.want != auth.PlatformMisconfigured {
				t.Errorf("Exchange() of the same code: error = %v", err)
			}
		})
	}
}

func TestExchangeFails(t *testing.T) {
	t.Parallel()
	exchange := func(t *testing.T, w *world, code string) error {
		t.Helper()
		g, err := w.Service.Exchange(t.Context(), session.ExchangeRequest{ClientID: sessiontest.AppID, Code: auth.Secret(code)})
		if err != nil && (g.AccessToken != "" || g.RefreshToken != "" || g.Session.ID != uuid.Nil) {
			t.Errorf("Exchange() returns a grant with the error: %+v", g)
		}
		return err
	}
	t.Run("a code that was used is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		code := w.Simulator.NewCode("alice")
		if err := exchange(t, w, code); err != nil {
			t.Fatal(err)
		}
		if err := exchange(t, w, code); !errors.Is(err, auth.CodeUsed) {
			t.Errorf("Exchange() error = %v, want %v", err, auth.CodeUsed)
		}
		if n := w.count(t, `select count(*) from sessions`); n != 1 {
			t.Errorf("%d sessions, want 1", n)
		}
	})
	t.Run("an invented code is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		if err := exchange(t, w, "0000000000000000000000000000000a"); !errors.Is(err, auth.CodeInvalid) {
			t.Errorf("Exchange() error = %v, want %v", err, auth.CodeInvalid)
		}
	})
	for name, tc := range map[string]struct {
		fault wechatsim.Fault
		want  auth.Code
	}{
		"when the platform is busy":                     {wechatsim.Fault{Errcode: -1}, auth.PlatformUnavailable},
		"when the platform's answer is lost":            {wechatsim.Fault{Drop: true}, auth.PlatformUnavailable},
		"when the platform answers nothing":             {wechatsim.Fault{Empty: true}, auth.PlatformUnavailable},
		"when the platform blocks the user":             {wechatsim.Fault{Errcode: 40226}, auth.UserBlocked},
		"when the platform's quota is used up":          {wechatsim.Fault{Errcode: 45011}, auth.PlatformQuota},
		"when the platform does not know our AppSecret": {wechatsim.Fault{Errcode: 40125}, auth.PlatformMisconfigured},
	} {
		t.Run(name+", and no session is made", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			if err := w.Simulator.AddFault(tc.fault); err != nil {
				t.Fatal(err)
			}
			if err := exchange(t, w, w.Simulator.NewCode("alice")); auth.CodeOf(err) != tc.want {
				t.Errorf("Exchange() error = %v, want %s", err, tc.want)
			}
			if calls := w.Simulator.Calls(); len(calls) != 1 {
				t.Errorf("%d calls to the platform, want one: %+v", len(calls), calls)
			}
			if n := w.count(t, `select count(*) from sessions`); n != 0 {
				t.Errorf("%d sessions, want 0", n)
			}
		})
	}
	t.Run("the database goes down while the platform answers", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		w.store.downAfter.Store(1)
		if err := exchange(t, w, w.Simulator.NewCode("alice")); !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("Exchange() error = %v, want %v", err, auth.StorageUnavailable)
		}
	})
	for name, tc := range map[string]struct {
		column string
		want   auth.Code
	}{
		"when the identity is disabled": {"disabled_at", auth.IdentityDisabled},
		"when the person is disabled":   {"person_disabled_at", auth.PersonDisabled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g := w.Login("alice")
			w.bind(t, g.Session.Identity)
			w.exec(t, `update identities set `+tc.column+` = 1`)
			if err := exchange(t, w, w.Simulator.NewCode("alice")); !errors.Is(err, tc.want) {
				t.Errorf("Exchange() error = %v, want %v", err, tc.want)
			}
			if n := w.count(t, `select count(*) from sessions`); n != 1 {
				t.Errorf("%d sessions, want 1", n)
			}
		})
	}
}
