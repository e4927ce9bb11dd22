package session_test

import (
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestSessionLimit(t *testing.T) {
	t.Parallel()
	t.Run("the log-in above the limit ends the first session and audits its request", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, session.Lifetimes{})
		first, other := w.Login("alice"), w.Login("bob")
		for range session.DefaultMaxSessions - 1 {
			w.Login("alice")
		}
		if n := w.count(t, `select count(*) from sessions where ended_at is not null`); n != 0 {
			t.Fatalf("%d sessions ended within the limit", n)
		}
		g := must(w.Service.Exchange(t.Context(), session.ExchangeRequest{
			ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode("alice")), RequestID: "req-51",
		}))(t)
		if row := w.row(t, first.Session.ID); row.EndReason != auth.EndLimit || !row.EndedAt.Equal(w.Clock.Now()) {
			t.Errorf("the first session ended at %v for %q, want session_limit", row.EndedAt, row.EndReason)
		}
		if n := w.count(t, `select count(*) from sessions where ended_at is not null`); n != 1 {
			t.Errorf("%d sessions ended, want 1", n)
		}
		if n := w.count(t, `select count(*) from audit where action = ? and session_id = ? and request_id = 'req-51'`,
			string(auth.AuditSessionLimit), first.Session.ID.String()); n != 1 {
			t.Errorf("%d audit events, want 1", n)
		}
		for name, live := range map[string]session.Grant{"the new session": g, "another user's": other} {
			if _, err := w.Refresh(live.RefreshToken); err != nil {
				t.Errorf("%s: error = %v", name, err)
			}
		}
	})
	t.Run("the limit is 1 to 1000, or 0 for no limit", func(t *testing.T) {
		t.Parallel()
		for _, limit := range []int{0, 1, session.DefaultMaxSessions, 1000} {
			if _, err := session.NewService(session.Config{Lifetimes: session.DefaultLifetimes, MaxSessions: limit}); err != nil {
				t.Errorf("limit %d: error = %v", limit, err)
			}
		}
		for _, limit := range []int{-1, 1001} {
			_, err := session.NewService(session.Config{Lifetimes: session.DefaultLifetimes, MaxSessions: limit})
			if err == nil || !strings.Contains(err.Error(), "live sessions") {
				t.Errorf("limit %d: error = %v, want one about the limit", limit, err)
			}
		}
	})
}
