package storetest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

var exchangeTests = []test{
	{"a new account gets an identity and a session", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		x := params(appA, "o-1", t0.Add(999*time.Nanosecond)) // less than a microsecond is dropped
		g, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		want := auth.Session{
			ID: x.NewSession, Identity: x.NewIdentity, AppID: appA, Device: "a phone",
			Ver: 1, Epoch: 0, Generation: auth.FirstGeneration, RotatedAt: t0, StartedAt: t0,
			IdleExpiresAt: t0.Add(idleTTL), ExpiresAt: t0.Add(maxTTL),
		}
		wantEqual(t, "granted", g, session.Granted{
			Session: want, Audiences: []string{"https://" + appA + ".example"}, SigningAlg: "ES256", Verdict: session.Rotate,
		})
		wantEqual(t, "stored", f.stored(t, x.NewSession), want)
		f.wantCounts(t, before, counts{Identities: 1, Sessions: 1})
	}},
	{"a known account keeps its uuid and gets another session", func(t *testing.T, f *fixture) {
		first := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		second := f.exchange(t, "o-1", t0.Add(time.Hour))
		wantEqual(t, "uuid", second.Identity, first.Identity)
		if second.ID == first.ID {
			t.Error("both log-ins share a session")
		}
		f.wantCounts(t, before, counts{Sessions: 1})
		wantEqual(t, "first session", f.stored(t, first.ID), first)
		wantEqual(t, "identities last seen at the second log-in and created at the first",
			f.number(t, `select count(*) from identities where last_login_at = ? and created_at = ?`,
				f.Time(t0.Add(time.Hour)), f.Time(t0)), 1)
	}},
	{"the same openid in another app is another identity", func(t *testing.T, f *fixture) {
		a := f.exchange(t, "o-1", t0)
		b, err := f.Store.Exchange(t.Context(), params(appB, "o-1", t0))
		wantCode(t, err, "")
		if a.Identity == b.Session.Identity {
			t.Error("two apps share an identity")
		}
	}},
	{"the same subject of another kind is another identity", func(t *testing.T, f *fixture) {
		x := params(appA, "o-1", t0)
		first, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		y := params(appA, "o-1", t0)
		y.Account.SubjectKind = "user_id"
		second, err := f.Store.Exchange(t.Context(), y)
		wantCode(t, err, "")
		for _, want := range []struct {
			session.ExchangeParams
			granted session.Granted
		}{{x, first}, {y, second}} {
			wantEqual(t, "identity", want.granted.Session.Identity, want.NewIdentity)
			account, err := f.Store.PlatformAccount(t.Context(), want.NewIdentity)
			wantCode(t, err, "")
			wantEqual(t, "account", account, want.Account)
		}
		// An openid is looked for among openids only.
		found, err := f.Store.Identities(t.Context(), person.IdentityQuery{OpenID: "o-1", Limit: 10})
		wantCode(t, err, "")
		wantEqual(t, "number of identities with the openid", len(found), 1)
		wantEqual(t, "identity with the openid", found[0].UUID, x.NewIdentity)
	}},
	{"openids are case sensitive", func(t *testing.T, f *fixture) {
		if f.exchange(t, "o-a", t0).Identity == f.exchange(t, "o-A", t0).Identity {
			t.Error("two accounts share an identity")
		}
	}},
	{"a unionid may be set and changed but is never removed", func(t *testing.T, f *fixture) {
		for _, step := range []struct{ told, want string }{{"", ""}, {"u-1", "u-1"}, {"", "u-1"}, {"u-2", "u-2"}, {"", "u-2"}} {
			x := params(appA, "o-1", t0)
			x.Account.UnionID = step.told
			_, err := f.Store.Exchange(t.Context(), x)
			wantCode(t, err, "")
			wantEqual(t, "unionid", f.text(t, `select unionid from identities where subject = 'o-1'`), step.want)
		}
	}},
	{"every log-in stores the newest session key", func(t *testing.T, f *fixture) {
		f.exchange(t, "o-1", t0)
		x := params(appA, "o-1", t0)
		x.SealedSessionKey = []byte("newer key")
		_, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		wantEqual(t, "session key", f.text(t, `select sealed_session_key from identities`), "newer key")
	}},
	{"a bound account returns its person", func(t *testing.T, f *fixture) {
		first := f.exchange(t, "o-1", t0)
		p := f.bind(t, first.Identity)
		g, err := f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
		wantCode(t, err, "")
		wantEqual(t, "person", g.Session.Person, &p)
		wantEqual(t, "stored", f.stored(t, g.Session.ID), g.Session)
	}},
	{"a session has the app's epoch", func(t *testing.T, f *fixture) {
		for range 2 {
			_, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
			wantCode(t, err, "")
			_, err = f.Store.EnableApp(t.Context(), appA, event(auth.AuditAppEnabled, t0))
			wantCode(t, err, "")
		}
		s := f.exchange(t, "o-1", t0)
		wantEqual(t, "epoch", s.Epoch, 4)
		wantEqual(t, "stored epoch", f.stored(t, s.ID).Epoch, 4)
	}},
	{"the idle expiry is never after the absolute expiry", func(t *testing.T, f *fixture) {
		x := params(appA, "o-1", t0)
		x.IdleTTL, x.MaxTTL = time.Hour, time.Minute
		g, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		wantEqual(t, "idle end", g.Session.IdleExpiresAt, t0.Add(time.Minute))
		wantEqual(t, "stored", f.stored(t, x.NewSession), g.Session)
	}},
	{"an unknown app is refused and writes nothing", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		_, err := f.Store.Exchange(t.Context(), params("wxnone", "o-1", t0))
		wantCode(t, err, auth.AppUnknown)
		f.wantCounts(t, before, counts{})
	}},
	{"a disabled app is refused and writes nothing", func(t *testing.T, f *fixture) {
		_, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
		wantCode(t, err, "")
		before := f.counts(t)
		_, err = f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
		wantCode(t, err, auth.AppDisabled)
		f.wantCounts(t, before, counts{})
	}},
	{"a disabled identity gets no session", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.exec(t, `update identities set disabled_at = ? where uuid = ?`, f.Time(t0), s.Identity.String())
		before := f.counts(t)
		g, err := f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
		wantCode(t, err, auth.IdentityDisabled)
		wantEqual(t, "granted", g, session.Granted{})
		f.wantCounts(t, before, counts{})
	}},
	{"a disabled person gets no session", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.bind(t, s.Identity)
		f.exec(t, `update identities set person_disabled_at = ? where uuid = ?`, f.Time(t0), s.Identity.String())
		before := f.counts(t)
		g, err := f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
		wantCode(t, err, auth.PersonDisabled)
		wantEqual(t, "granted", g, session.Granted{})
		f.wantCounts(t, before, counts{})
	}},
	{"a disabled identity of a disabled person is refused as identity_disabled", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.bind(t, s.Identity)
		f.exec(t, `update identities set disabled_at = ?, person_disabled_at = ? where uuid = ?`, f.Time(t0), f.Time(t0), s.Identity.String())
		_, err := f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
		wantCode(t, err, auth.IdentityDisabled)
	}},
	{"an unknown session is session_revoked", func(t *testing.T, f *fixture) {
		_, err := f.Store.Session(t.Context(), uuid.Must(uuid.NewV7()))
		wantCode(t, err, auth.SessionRevoked)
	}},
	{"a session is read with its app's state", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		_, err := f.Store.DisableApp(t.Context(), appA, event(auth.AuditAppDisabled, t0))
		wantCode(t, err, "")
		st, err := f.Store.Session(t.Context(), s.ID)
		wantCode(t, err, "")
		wantEqual(t, "state", st, session.State{Session: s, AppEpoch: 1, AppDisabled: true, OutdatedAt: t0, OutdatedBy: auth.EndAppDisabled})
	}},
}
