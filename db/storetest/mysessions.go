package storetest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// liveSessions returns the live sessions of an identity.
func (f *fixture) liveSessions(t testing.TB, identity uuid.UUID, now time.Time, limit int) []auth.Session {
	t.Helper()
	all, err := f.Store.LiveSessions(t.Context(), identity, now, limit)
	if err != nil {
		t.Fatalf("LiveSessions() error = %v", err)
	}
	return all
}

var liveTests = []test{
	{"an identity lists only its own sessions, newest first", func(t *testing.T, f *fixture) {
		first := f.exchange(t, "o-1", t0)
		f.exchange(t, "o-2", t0)
		second := f.exchange(t, "o-1", t0.Add(time.Second))
		third := f.exchange(t, "o-1", t0.Add(time.Minute))
		wantEqual(t, "sessions", f.liveSessions(t, first.Identity, t0.Add(time.Hour), 10), []auth.Session{third, second, first})
		wantEqual(t, "the newest two", f.liveSessions(t, first.Identity, t0.Add(time.Hour), 2), []auth.Session{third, second})
		wantEqual(t, "sessions of an unknown identity", f.liveSessions(t, newID(), t0, 10), nil)
	}},
	{"a bound session has its person", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		p := f.bind(t, s.Identity)
		all := f.liveSessions(t, s.Identity, t0, 10)
		if len(all) != 1 || all[0].Person == nil || *all[0].Person != p {
			t.Errorf("LiveSessions() = %+v, want the person %+v", all, p)
		}
	}},
	{"sessions that cannot be refreshed are left out", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		wantEqual(t, "just before it is idle", len(f.liveSessions(t, s.Identity, t0.Add(idleTTL-time.Microsecond), 10)), 1)
		wantEqual(t, "idle", len(f.liveSessions(t, s.Identity, t0.Add(idleTTL), 10)), 0)
		for now := t0.Add(idleTTL / 2); now.Before(t0.Add(maxTTL)); now = now.Add(idleTTL / 2) {
			s = f.mustRefresh(t, s.ID, s.Generation, now, 0)
		}
		wantEqual(t, "just before its absolute end", len(f.liveSessions(t, s.Identity, t0.Add(maxTTL-time.Microsecond), 10)), 1)
		wantEqual(t, "after its absolute end", len(f.liveSessions(t, s.Identity, t0.Add(maxTTL), 10)), 0)
		other := f.exchange(t, "o-1", t0)
		f.mustEnd(t, s, t0)
		wantEqual(t, "one ended", f.liveSessions(t, s.Identity, t0, 10), []auth.Session{other})
	}},
	{"sessions below their app's epoch are left out", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		for _, change := range []func() (auth.App, error){
			func() (auth.App, error) {
				return f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
			},
			func() (auth.App, error) { return f.Store.EnableApp(t.Context(), appA, event(auth.AuditAppEnabled, t0)) },
		} {
			if _, err := change(); err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "sessions", len(f.liveSessions(t, s.Identity, t0, 10)), 0)
		}
		after := f.exchange(t, "o-1", t0)
		wantEqual(t, "sessions", f.liveSessions(t, s.Identity, t0, 10), []auth.Session{after})
	}},
}
