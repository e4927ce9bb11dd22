package storetest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

// subjectTests check that a refusal names its subject.
var subjectTests = []test{
	{"a refused log-in names the identity", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		want := auth.Subject{AppID: appA, Identity: s.Identity}
		for column, code := range map[string]auth.Code{"person_disabled_at": auth.PersonDisabled, "disabled_at": auth.IdentityDisabled} {
			f.bind(t, s.Identity)
			f.exec(t, `update identities set disabled_at = null, person_disabled_at = null where uuid = ?`, s.Identity.String())
			f.exec(t, `update identities set `+column+` = ? where uuid = ?`, f.Time(t0), s.Identity.String())
			_, err := f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
			wantCode(t, err, code)
			wantEqual(t, "subject", auth.SubjectOf(err), want)
		}
	}},
	{"a refused refresh names the session", func(t *testing.T, f *fixture) {
		for name, tc := range map[string]struct {
			prepare func(s auth.Session) (presented uint32, appID string, now time.Time)
			code    auth.Code
		}{
			"reuse": {func(s auth.Session) (uint32, string, time.Time) {
				f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
				f.mustRefresh(t, s.ID, 2, t0, session.Rotate)
				return 1, appA, t0
			}, auth.RefreshReused},
			"late": {func(s auth.Session) (uint32, string, time.Time) {
				f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
				return 1, appA, t0.Add(grace + time.Second)
			}, auth.RefreshReused},
			"ended": {func(s auth.Session) (uint32, string, time.Time) {
				f.mustEnd(t, s, t0)
				return 1, appA, t0
			}, auth.SessionRevoked},
			"expired":   {func(auth.Session) (uint32, string, time.Time) { return 1, appA, t0.Add(maxTTL) }, auth.RefreshExpired},
			"other app": {func(auth.Session) (uint32, string, time.Time) { return 1, appB, t0 }, auth.RefreshInvalid},
			"below app's": {func(auth.Session) (uint32, string, time.Time) {
				f.exec(t, `update apps set epoch = epoch + 1 where appid = ?`, appA)
				return 1, appA, t0
			}, auth.SessionRevoked},
		} {
			s := f.exchange(t, "o-"+name, t0)
			presented, appID, now := tc.prepare(s)
			r := refreshParams(s.ID, presented, now)
			r.AppID = appID
			_, err := f.Store.Refresh(t.Context(), r)
			wantCode(t, err, tc.code)
			wantEqual(t, name, auth.SubjectOf(err), s.Subject())
		}
	}},
	{"a session has the time and reason of its app's revocation", func(t *testing.T, f *fixture) {
		ending := func(s auth.Session, at time.Time, why auth.EndReason) {
			t.Helper()
			st, err := f.Store.Session(t.Context(), s.ID)
			wantCode(t, err, "")
			gotAt, gotWhy := st.Ending()
			wantEqual(t, "ended at", gotAt, at)
			wantEqual(t, "reason", gotWhy, why)
			all, err := f.Store.IdentitySessions(t.Context(), s.Identity, nil, uuid.Nil, 10)
			wantCode(t, err, "")
			for _, st := range all {
				if st.Session.ID == s.ID {
					gotAt, gotWhy = st.Ending()
				}
			}
			wantEqual(t, "listed: ended at", gotAt, at)
			wantEqual(t, "listed: reason", gotWhy, why)
		}
		first := f.exchange(t, "o-1", t0)
		loggedOut := f.exchange(t, "o-1", t0)
		f.mustEnd(t, loggedOut, t0)
		ending(first, time.Time{}, "")
		f.mustRevoke(t, session.Target{AppID: appA}, t0.Add(time.Hour), 1)
		second := f.exchange(t, "o-1", t0)
		_, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0.Add(2*time.Hour)))
		wantCode(t, err, "")
		_, err = f.Store.EnableApp(t.Context(), appA, event(auth.AuditAppEnabled, t0.Add(3*time.Hour)))
		wantCode(t, err, "")
		third := f.exchange(t, "o-1", t0)
		f.changeKeys(t, t0.Add(4*time.Hour), keyring.Change{EndSessions: true})
		fourth := f.exchange(t, "o-1", t0)
		f.mustRevoke(t, session.Target{All: true}, t0.Add(5*time.Hour), 1)
		fifth := f.exchange(t, "o-1", t0)
		f.exec(t, `update apps set epoch = epoch + 1 where appid = ?`, appA)
		ending(first, t0.Add(time.Hour), auth.EndAppRevoked)
		ending(loggedOut, t0, auth.EndLogout)
		ending(second, t0.Add(2*time.Hour), auth.EndAppDisabled)
		ending(third, t0.Add(4*time.Hour), auth.EndKeyRetired)
		ending(fourth, t0.Add(5*time.Hour), auth.EndAppRevoked)
		ending(fifth, time.Time{}, auth.EndAppRevoked)
	}},
}
