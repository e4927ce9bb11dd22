package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

var limitTests = []test{
	{"a log-in over the limit ends the session that started first", func(t *testing.T, f *fixture) {
		second := f.limited(t, "o-1", t0.Add(time.Hour), 3)
		first := f.limited(t, "o-1", t0, 3) // the newer id
		third := f.limited(t, "o-1", t0.Add(2*time.Hour), 3)
		before := f.counts(t)
		now := t0.Add(3 * time.Hour)
		fourth := f.limited(t, "o-1", now, 3)
		f.wantCounts(t, before, counts{Sessions: 1, Cutoffs: 1, Audit: 1})
		f.wantReplaced(t, first, fourth, now, 3)
		f.wantUntouched(t, second, third, fourth)
		f.refuse(t, first.ID, 1, now, auth.SessionRevoked)
		for _, s := range []auth.Session{second, third, fourth} {
			f.mustRefresh(t, s.ID, 1, now, session.Rotate)
		}
	}},
	{"no session ends up to the limit", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		for range 4 {
			f.limited(t, "o-1", t0, 4)
		}
		f.wantCounts(t, before, counts{Identities: 1, Sessions: 4})
	}},
	{"zero means no limit", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		for range 60 {
			f.limited(t, "o-1", t0, 0)
		}
		f.wantCounts(t, before, counts{Identities: 1, Sessions: 60})
	}},
	{"a limit of one leaves only the new session", func(t *testing.T, f *fixture) {
		last := f.limited(t, "o-1", t0, 1)
		for i := range 3 {
			now := t0.Add(time.Duration(i) * time.Second)
			s := f.limited(t, "o-1", now, 1)
			f.wantReplaced(t, last, s, now, 1)
			f.wantUntouched(t, s)
			last = s
		}
	}},
	{"of sessions that started together, the smaller id ends", func(t *testing.T, f *fixture) {
		var ids []uuid.UUID
		for range 3 {
			ids = append(ids, params(appA, "o-1", t0).NewSession)
		}
		for _, i := range []int{1, 0, 2} {
			x := params(appA, "o-1", t0)
			x.NewSession = ids[i]
			_, err := f.Store.Exchange(t.Context(), x)
			wantCode(t, err, "")
		}
		for i, gone := range ids[:2] {
			s := f.limited(t, "o-1", t0, 3)
			wantEqual(t, fmt.Sprintf("reason at log-in %d", i), f.stored(t, gone).EndReason, auth.EndLimit)
			f.wantUntouched(t, s)
		}
		wantEqual(t, "reason of the third", f.stored(t, ids[2]).EndReason, "")
	}},
	{"the new session never ends, even if its clock is behind", func(t *testing.T, f *fixture) {
		first := f.limited(t, "o-1", t0.Add(time.Hour), 2)
		second := f.limited(t, "o-1", t0.Add(2*time.Hour), 2)
		third := f.limited(t, "o-1", t0, 2)
		f.wantReplaced(t, first, third, t0, 2)
		f.wantUntouched(t, second, third)
		// By its own start it is the oldest of all.
		fourth := f.limited(t, "o-1", t0.Add(3*time.Hour), 2)
		f.wantReplaced(t, third, fourth, t0.Add(3*time.Hour), 2)
		f.wantUntouched(t, second, fourth)
	}},
	{"refreshes do not change the age of a session", func(t *testing.T, f *fixture) {
		first := f.limited(t, "o-1", t0, 2)
		second := f.limited(t, "o-1", t0.Add(time.Hour), 2)
		first = f.mustRefresh(t, first.ID, 1, t0.Add(2*time.Hour), session.Rotate)
		now := t0.Add(3 * time.Hour)
		third := f.limited(t, "o-1", now, 2)
		f.wantReplaced(t, first, third, now, 2)
		f.wantUntouched(t, second, third)
	}},
	{"ended or expired sessions do not count and do not change", func(t *testing.T, f *fixture) {
		life := func(change func(*session.ExchangeParams)) auth.Session {
			x := params(appA, "o-1", t0)
			change(&x)
			g, err := f.Store.Exchange(t.Context(), x)
			wantCode(t, err, "")
			return g.Session
		}
		revoked := f.limited(t, "o-1", t0, 0)
		for _, turn := range []func(context.Context, string, auth.AuditEvent) (auth.App, error){f.Store.DisableApp, f.Store.EnableApp} {
			_, err := turn(t.Context(), appA, event(auth.AuditAppDisabled, t0))
			wantCode(t, err, "")
		}
		idle := life(func(x *session.ExchangeParams) { x.IdleTTL = time.Hour })
		expired := life(func(x *session.ExchangeParams) { x.MaxTTL = time.Hour })
		ended := f.limited(t, "o-1", t0, 0)
		f.mustEnd(t, ended, t0)
		ended = f.stored(t, ended.ID)

		before := f.counts(t)
		now := t0.Add(time.Hour) // the very instant
		first, second := f.limited(t, "o-1", now, 2), f.limited(t, "o-1", now, 2)
		f.wantCounts(t, before, counts{Sessions: 2})
		third := f.limited(t, "o-1", now, 2)
		f.wantCounts(t, before, counts{Sessions: 3, Cutoffs: 1, Audit: 1})
		f.wantReplaced(t, first, third, now, 2)
		f.wantUntouched(t, revoked, idle, expired, ended, second, third)
	}},
	{"a session counts until the last moment before its expiry", func(t *testing.T, f *fixture) {
		idle := f.limited(t, "o-1", t0, 1)
		now := idle.IdleExpiresAt.Add(-time.Microsecond)
		f.wantReplaced(t, idle, f.limited(t, "o-1", now, 1), now, 1)
	}},
	{"other accounts and other apps keep their sessions", func(t *testing.T, f *fixture) {
		mine := f.limited(t, "o-1", t0, 1)
		neighbour := f.limited(t, "o-2", t0, 1)
		x := params(appB, "o-1", t0)
		x.MaxSessions = 1
		elsewhere, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		f.wantUntouched(t, mine, neighbour, elsewhere.Session)
		f.wantReplaced(t, mine, f.limited(t, "o-1", t0, 1), t0, 1)
		f.wantUntouched(t, neighbour, elsewhere.Session)
	}},
	{"a lowered limit ends the whole surplus at once", func(t *testing.T, f *fixture) {
		var all []auth.Session
		for i := range 9 {
			all = append(all, f.limited(t, "o-1", t0.Add(time.Duration(i)*time.Second), 0))
		}
		before := f.counts(t)
		now := t0.Add(time.Hour)
		s := f.limited(t, "o-1", now, 3)
		f.wantCounts(t, before, counts{Sessions: 1, Cutoffs: 7, Audit: 7})
		for _, old := range all[:7] {
			f.wantReplaced(t, old, s, now, 3)
		}
		f.wantUntouched(t, all[7], all[8], s)
	}},
	{"a session that replaces another is an ordinary session", func(t *testing.T, f *fixture) {
		first := f.limited(t, "o-1", t0, 1)
		p := f.bind(t, first.Identity)
		f.exec(t, `update apps set epoch = 7 where appid = ?`, appA)
		f.exec(t, `update sessions set epoch = 7`)
		x := params(appA, "o-1", t0.Add(time.Hour))
		x.MaxSessions, x.Account.UnionID, x.SealedSessionKey = 1, "u-1", []byte("newer key")
		g, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		now := t0.Add(time.Hour)
		want := auth.Session{
			ID: x.NewSession, Identity: first.Identity, AppID: appA, Person: &p, Device: "a phone",
			Ver: 1, Epoch: 7, Generation: auth.FirstGeneration, RotatedAt: now, StartedAt: now,
			IdleExpiresAt: now.Add(idleTTL), ExpiresAt: now.Add(maxTTL),
		}
		wantEqual(t, "granted", g, session.Granted{
			Session: want, Audiences: []string{"https://" + appA + ".example"}, SigningAlg: "ES256", Verdict: session.Rotate, Ended: 1,
		})
		f.wantUntouched(t, want)
		wantEqual(t, "accounts with the platform's values",
			f.number(t, `select count(*) from identities where unionid = 'u-1' and sealed_session_key = ? and last_login_at = ?`,
				[]byte("newer key"), f.Time(now)), 1)
	}},
	{"a refused log-in ends no session", func(t *testing.T, f *fixture) {
		s := f.limited(t, "o-1", t0, 1)
		f.bind(t, s.Identity)
		before := f.counts(t)
		x := params(appA, "o-1", t0)
		x.MaxSessions = 1
		for _, c := range []struct {
			column string
			want   auth.Code
		}{{"person_disabled_at", auth.PersonDisabled}, {"disabled_at", auth.IdentityDisabled}} {
			f.exec(t, `update identities set `+c.column+` = ?`, f.Time(t0))
			_, err := f.Store.Exchange(t.Context(), x)
			wantCode(t, err, c.want)
		}
		f.exec(t, `update apps set disabled_at = ? where appid = ?`, f.Time(t0), appA)
		_, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, auth.AppDisabled)
		f.wantCounts(t, before, counts{})
	}},
	{"concurrent log-ins of one account leave exactly the limit", func(t *testing.T, f *fixture) {
		for _, already := range []int{0, 1, 5, 8} {
			openID := fmt.Sprintf("o-%d", already)
			for range already {
				f.limited(t, openID, t0, 0)
			}
			before := f.counts(t)
			const n, limit = 40, 5
			together(n, func(i int) {
				x := params(appA, openID, t0.Add(time.Duration(i%3)*time.Millisecond))
				x.MaxSessions = limit
				g, err := f.Store.Exchange(t.Context(), x)
				if err != nil || g.Session.ID != x.NewSession {
					t.Errorf("Exchange() = session %s, error %v; want %s", g.Session.ID, err, x.NewSession)
				}
			})
			grown := counts{Sessions: n, Cutoffs: already + n - limit, Audit: already + n - limit}
			if already == 0 {
				grown.Identities = 1
			}
			f.wantCounts(t, before, grown)
			wantEqual(t, "live sessions", f.live(t, openID), limit)
			wantEqual(t, "sessions with a cutoff of their own", f.number(t, `select count(distinct session_id) from cutoffs`), f.counts(t).Cutoffs)
		}
	}},
	{"concurrent log-ins, log-outs and refreshes at the limit do not deadlock", func(t *testing.T, f *fixture) {
		const limit = 4
		var old []auth.Session
		for range limit {
			old = append(old, f.limited(t, "o-1", t0, limit))
		}
		f.bind(t, old[0].Identity)
		together(90, func(i int) {
			var err error
			switch s := old[i%limit]; i % 3 {
			case 0:
				x := params(appA, "o-1", t0)
				x.MaxSessions = limit
				_, err = f.Store.Exchange(t.Context(), x)
			case 1:
				// Ahead of the row, so that it takes the locks.
				_, err = f.refresh(t.Context(), s.ID, uint32(1000+i), t0)
				if errors.Is(err, auth.RefreshReused) || errors.Is(err, auth.SessionRevoked) {
					err = nil
				}
			case 2:
				err = f.Store.End(t.Context(), endParams(s, t0))
			}
			if err != nil {
				t.Errorf("call %d: error = %v", i, err)
			}
		})
		wantEqual(t, "live sessions", f.live(t, "o-1"), limit)
		wantEqual(t, "cutoffs", f.counts(t).Cutoffs, limit+30-limit)
	}},
	{"a log-in cancelled at any moment is done completely or not at all", func(t *testing.T, f *fixture) {
		for range 3 {
			f.limited(t, "o-1", t0, 0)
		}
		f.cancelledAtAnyMoment(t, func() (func(context.Context) error, func() bool) {
			wantEqual(t, "live sessions", f.live(t, "o-1"), 3)
			x := params(appA, "o-1", t0)
			x.MaxSessions = 3
			return func(ctx context.Context) error { _, err := f.Store.Exchange(ctx, x); return err },
				func() bool {
					_, err := f.Store.Session(t.Context(), x.NewSession)
					return err == nil
				}
		})
		wantEqual(t, "live sessions", f.live(t, "o-1"), 3)
	}},
}

// live returns the number of the account's sessions in app A that are live at t0.
func (f *fixture) live(t *testing.T, openID string) int {
	t.Helper()
	return f.number(t, `
select count(*) from sessions where ended_at is null and idle_expires_at > ?
  and identity_uuid = (select uuid from identities where appid = ? and subject = ?)`, f.Time(t0), appA, openID)
}

// wantReplaced checks that the log-in of another session ended this one, with its cutoff
// and audit event.
func (f *fixture) wantReplaced(t *testing.T, old, by auth.Session, now time.Time, limit int) {
	t.Helper()
	old.EndedAt, old.EndReason = now, auth.EndLimit
	wantEqual(t, "stored", f.stored(t, old.ID), old)
	f.wantAudit(t, old, auth.AuditSessionLimit, auth.ActorService, now,
		map[string]any{"limit": float64(limit), "started": by.ID.String()})
	f.wantSessionCutoff(t, old, now)
}

// wantUntouched checks that the stored sessions equal the given ones.
func (f *fixture) wantUntouched(t *testing.T, sessions ...auth.Session) {
	t.Helper()
	var got []auth.Session
	for _, s := range sessions {
		got = append(got, f.stored(t, s.ID))
	}
	wantEqual(t, "sessions", got, sessions)
}
