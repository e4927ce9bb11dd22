package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestRevoker(t *testing.T) {
	t.Parallel()
	t.Run("a revocation returns the number of sessions, the cutoff and the times", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		w.Login("alice")
		now := w.Clock.Now()
		got, err := w.Revoker.Revoke(t.Context(), session.RevocationRequest{
			Target: session.Target{Identity: g.Session.Identity}, Reason: "工单 4711", Actor: auth.ActorServiceKey("k1"), RequestID: "req-1",
		})
		if err != nil {
			t.Fatal(err)
		}
		want := session.Revocation{
			Revoked:     session.Revoked{Sessions: 2, CutoffID: int64(w.count(t, `select max(id) from cutoffs`))},
			Target:      session.Target{Identity: g.Session.Identity},
			EffectiveBy: now.Add(sessiontest.MaxStaleness), ExpiresBy: now.Add(sessiontest.AccessTTL),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if n := w.count(t, `select count(*) from audit where action = 'revoked' and actor = 'service_key:k1' and reason = '工单 4711' and request_id = 'req-1' and identity_uuid = ?`, g.Session.Identity.String()); n != 1 {
			t.Errorf("%d audit events, want 1", n)
		}
	})
	t.Run("a second revocation is harmless and has no cutoff", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		for range 2 {
			if _, err := w.Revoker.Revoke(t.Context(), session.RevocationRequest{Token: g.RefreshToken}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := w.Revoker.Revoke(t.Context(), session.RevocationRequest{Token: g.AccessToken})
		if err != nil || got.Sessions != 0 || got.CutoffID != 0 || got.EffectiveBy.IsZero() {
			t.Errorf("Revoke() = %+v, %v; want 0 sessions, no cutoff and a time", got, err)
		}
	})
	t.Run("an access token that has expired still names its session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		g := w.Login("alice")
		w.Clock.Advance(10 * sessiontest.AccessTTL)
		got, err := w.Revoker.Revoke(t.Context(), session.RevocationRequest{Token: g.AccessToken})
		if err != nil || got.Sessions != 1 {
			t.Errorf("Revoke() = %+v, %v; want 1 session", got, err)
		}
	})
	t.Run("the sessions of a person end in every app", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		a, b := w.Login("alice"), w.Login("bob")
		id := w.bind(t, a.Session.Identity).ID
		got, err := w.Revoker.Revoke(t.Context(), session.RevocationRequest{Target: session.Target{Person: id}})
		if err != nil || got.Sessions != 1 {
			t.Errorf("Revoke() = %+v, %v; want 1 session", got, err)
		}
		if _, err := w.Refresh(a.RefreshToken); auth.CodeOf(err) != auth.SessionRevoked {
			t.Errorf("alice: error = %v, want %v", err, auth.SessionRevoked)
		}
		if _, err := w.Refresh(b.RefreshToken); err != nil {
			t.Errorf("bob: error = %v", err)
		}
	})
}

func TestRevokerRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, session.Lifetimes{})
	g := w.Login("alice")
	s, id := g.Session.ID, g.Session.Identity
	unknown := uuid.Must(uuid.NewV7())
	other := []string{sessiontest.OtherAppID}
	mine := []string{sessiontest.AppID}
	for name, tc := range map[string]struct {
		request session.RevocationRequest
		want    auth.Code
	}{
		"nothing":                       {session.RevocationRequest{Reason: "why"}, auth.InvalidRequest},
		"two things":                    {session.RevocationRequest{Target: session.Target{Session: s, Identity: id}}, auth.InvalidRequest},
		"a token and all":               {session.RevocationRequest{Token: g.AccessToken, Target: session.Target{All: true}}, auth.InvalidRequest},
		"a long reason":                 {session.RevocationRequest{Target: session.Target{Session: s}, Reason: strings.Repeat("长", 201)}, auth.InvalidRequest},
		"a reason with a line break":    {session.RevocationRequest{Target: session.Target{Session: s}, Reason: "a\nb"}, auth.InvalidRequest},
		"a token that is not ours":      {session.RevocationRequest{Token: "a.b.c"}, auth.NotFound},
		"a mangled refresh token":       {session.RevocationRequest{Token: g.RefreshToken + "x"}, auth.NotFound},
		"an unknown session":            {session.RevocationRequest{Target: session.Target{Session: unknown}}, auth.NotFound},
		"an unknown user":               {session.RevocationRequest{Target: session.Target{Identity: unknown}}, auth.NotFound},
		"an unknown person":             {session.RevocationRequest{Target: session.Target{Person: unknown}}, auth.NotFound},
		"an app that is not registered": {session.RevocationRequest{Target: session.Target{AppID: "wx404"}}, auth.NotFound},
		"an invalid appid":              {session.RevocationRequest{Target: session.Target{AppID: "wx 1"}}, auth.NotFound},

		"another app's session":         {session.RevocationRequest{Target: session.Target{Session: s}, Apps: other}, auth.NotFound},
		"another app's access token":    {session.RevocationRequest{Token: g.AccessToken, Apps: other}, auth.NotFound},
		"another app's refresh token":   {session.RevocationRequest{Token: g.RefreshToken, Apps: other}, auth.NotFound},
		"another app's user":            {session.RevocationRequest{Target: session.Target{Identity: id}, Apps: other}, auth.NotFound},
		"another app":                   {session.RevocationRequest{Target: session.Target{AppID: sessiontest.AppID}, Apps: other}, auth.NotFound},
		"a person, by a restricted key": {session.RevocationRequest{Target: session.Target{Person: unknown}, Apps: mine}, auth.InsufficientScope},
		"all, by a restricted key":      {session.RevocationRequest{Target: session.Target{All: true}, Apps: mine}, auth.InsufficientScope},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			got, err := w.Revoker.Revoke(t.Context(), tc.request)
			if auth.CodeOf(err) != tc.want || got != (session.Revocation{}) {
				t.Errorf("Revoke() = %+v, %v, want %s", got, err, tc.want)
			}
		})
	}
	if n := w.count(t, `select count(*) from cutoffs`) + w.count(t, `select count(*) from audit where action = 'revoked'`); n != 0 || w.CaughtUp.Load() != 0 {
		t.Errorf("refused revocations left %d rows and %d calls of CatchUp, want 0 and 0", n, w.CaughtUp.Load())
	}
}

func TestRevokerWithinApps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, session.Lifetimes{})
	g := w.Login("alice")
	got, err := w.Revoker.Revoke(t.Context(), session.RevocationRequest{
		Target: session.Target{AppID: sessiontest.AppID}, Apps: []string{sessiontest.AppID, sessiontest.OtherAppID},
	})
	if err != nil || got.Sessions != 1 {
		t.Fatalf("Revoke() = %+v, %v; want 1 session", got, err)
	}
	w.Clock.Advance(time.Second)
	if _, err := w.Refresh(g.RefreshToken); auth.CodeOf(err) != auth.SessionRevoked {
		t.Errorf("error = %v, want %v", err, auth.SessionRevoked)
	}
}
