package bindingtest

import (
	"errors"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// LostTailCases makes a database lose one change at a time, and checks the result. Open
// returns a new database for each.
func LostTailCases(t *testing.T, open func(t *testing.T) (*Fixture, Tail)) {
	for _, c := range []struct {
		name string
		run  func(*lostCase)
	}{
		{"a bind: the session lives on with the ver after the remembered one", lostBind},
		{"a log-out: the session ends again", lostLogOut},
		{"an app's revocation: its sessions end again, and a new log-in gets a valid token", lostRevocation},
		{"a key's end: it signs nothing, and ends again", lostKey},
		{"changes that no client asks about: all are restored at once", lostUnseen},
		{"a change that two replicas remember: one of them restores it", lostTwice},
		{"a poisoned value: nothing is granted there, and nothing is raised", lostPoison},
		{"the database of another deployment: nothing is written", lostForeign},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, tail := open(t)
			l := &lostCase{Fixture: f, t: t, tail: tail, validator: cutoff.NewSet()}
			c.run(l)
		})
	}
}

// lostCase is a replica that survives the loss, and a validator that follows it.
type lostCase struct {
	*Fixture
	t         *testing.T
	tail      Tail
	validator *cutoff.Set
}

// save copies the database. lose restores the copy; the replica and the validator
// remember everything that was done in between.
func (l *lostCase) save() (lose func()) {
	l.t.Helper()
	back, _ := l.tail.save(l.t, 1)
	return func() {
		l.t.Helper()
		if err := l.Cutoffs.CatchUp(l.t.Context()); err != nil {
			l.t.Fatal(err)
		}
		back()
	}
}

// accepted checks that the validator and the replica accept the token, and returns its
// claims.
func (l *lostCase) accepted(access auth.Secret) cutoff.Token {
	l.t.Helper()
	for _, c := range l.Cutoffs.Set().All() {
		l.validator.Add(c, l.Clock.Now())
	}
	token := tokenOf(l.t, access)
	if hits := l.validator.Hitting(token); len(hits) > 0 {
		l.t.Errorf("the validator refuses %+v by %+v", token, hits)
	}
	if _, err := l.Verifier.Verify(l.t.Context(), access.Reveal()); err != nil {
		l.t.Errorf("the replica refuses the token: %v", err)
	}
	return token
}

// audited returns the details of the restored rows.
func (l *lostCase) audited() []string {
	l.t.Helper()
	return l.tail.Texts(l.t, `select cast(detail as text) from audit where action = 'store.rolled_back' order by id`)
}

func (l *lostCase) wantAudited(n int) {
	l.t.Helper()
	if got := l.audited(); len(got) != n {
		l.t.Errorf("audited details = %q, want %d events", got, n)
	}
}

func (l *lostCase) mustRefresh(refresh auth.Secret) session.Grant {
	l.t.Helper()
	g, err := l.Refresh(refresh)
	if err != nil {
		l.t.Fatal(err)
	}
	return g
}

// revoke ends all sessions of the app.
func (l *lostCase) revoke() {
	l.t.Helper()
	_, err := l.Revoker.Revoke(l.t.Context(), session.RevocationRequest{Target: session.Target{AppID: sessiontest.AppID}, Actor: auth.ActorCLI})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lostCase) wantRevoked(refresh auth.Secret) {
	l.t.Helper()
	if _, err := l.Refresh(refresh); !errors.Is(err, auth.SessionRevoked) {
		l.t.Errorf("Refresh() error = %v, want %s", err, auth.SessionRevoked)
	}
}

func lostBind(l *lostCase) {
	g := l.Login("alice")
	lose := l.save()
	bound, err := l.ByTicket(g.AccessToken, l.Ticket(l.LiLei))
	if err != nil {
		l.t.Fatal(err)
	}
	lose()
	next := l.mustRefresh(g.RefreshToken)
	if got := l.accepted(next.AccessToken); got.Ver != 3 || next.Session.Bound() {
		l.t.Errorf("ver = %d, bound = %t; want 3 and unbound, because 2 was another person's", got.Ver, next.Session.Bound())
	}
	if l.validator.Hitting(tokenOf(l.t, bound.AccessToken)) == nil {
		l.t.Error("the token of the lost binding lives on")
	}
	l.wantAudited(1)
	// A bind is a grant, too.
	again, err := l.ByTicket(next.AccessToken, l.Ticket(l.HanMeimei))
	if err != nil || l.accepted(again.AccessToken).Ver != 4 {
		l.t.Errorf("bind afterwards: error = %v", err)
	}
	l.wantAudited(1)
}

func lostLogOut(l *lostCase) {
	g := l.Login("alice")
	lose := l.save()
	if _, err := l.Service.Revoke(l.t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: g.RefreshToken}); err != nil {
		l.t.Fatal(err)
	}
	lose()
	l.wantRevoked(g.RefreshToken)
	st, err := l.Store.Session(l.t.Context(), g.Session.ID)
	if err != nil || st.Session.EndedAt.IsZero() || st.Session.EndReason != auth.EndRevoked {
		l.t.Errorf("Session() = %+v, %v", st.Session, err)
	}
	l.wantAudited(1)
}

func lostRevocation(l *lostCase) {
	g := l.Login("alice")
	lose := l.save()
	l.revoke()
	lose()
	l.wantRevoked(g.RefreshToken)
	if got := l.accepted(l.Login("alice").AccessToken); got.Epoch != 2 {
		l.t.Errorf("epoch %d, want 2", got.Epoch)
	}
	l.wantAudited(1)
}

func lostKey(l *lostCase) {
	g := l.Login("alice")
	dead := tokenOf(l.t, g.AccessToken).KID
	lose := l.save()
	_, err := l.Keeper.Retire(l.t.Context(), keyring.RetireRequest{KID: dead, Compromised: true, By: auth.AuditEvent{Actor: auth.ActorCLI}})
	if err != nil {
		l.t.Fatal(err)
	}
	lose()
	if err := l.Keys.Reload(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	next := l.mustRefresh(g.RefreshToken)
	if got := l.accepted(next.AccessToken); got.KID == dead {
		l.t.Error("the retired key signs again after the restore")
	}
	if err := l.Restorer.RestoreAll(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	all, err := l.Keeper.Keys(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, k := range all {
		if k.KID == dead && k.State != keyring.Retired {
			l.t.Errorf("the key is %s in the database", k.State)
		}
	}
	l.accepted(l.mustRefresh(next.RefreshToken).AccessToken)
}

func lostUnseen(l *lostCase) {
	var ended []session.Grant
	for range session.MaxRestored + 1 { // more than fit into one batch
		ended = append(ended, l.Login("alice"))
	}
	lose := l.save()
	_, err := l.Revoker.Revoke(l.t.Context(), session.RevocationRequest{
		Target: session.Target{Identity: ended[0].Session.Identity}, Actor: auth.ActorCLI,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	lose()
	if err := l.Restorer.RestoreAll(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	// Of the sessions that are over the limit, the first had ended before.
	l.wantAudited(session.DefaultMaxSessions)
	for _, g := range ended {
		st, err := l.Store.Session(l.t.Context(), g.Session.ID)
		if err != nil || st.Session.EndedAt.IsZero() {
			l.t.Fatalf("a session is live: error = %v", err)
		}
	}
}

func lostTwice(l *lostCase) {
	other := l.NewReplica()
	g := l.Login("alice")
	lose := l.save()
	if _, err := l.ByTicket(g.AccessToken, l.Ticket(l.LiLei)); err != nil {
		l.t.Fatal(err)
	}
	if err := other.Cutoffs.CatchUp(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	lose()
	for _, r := range []*sessiontest.Replica{l.Replica, other, l.Replica} {
		if err := r.Restorer.RestoreAll(l.t.Context()); err != nil {
			l.t.Fatal(err)
		}
	}
	if got := l.accepted(l.mustRefresh(g.RefreshToken).AccessToken); got.Ver != 3 {
		l.t.Errorf("ver %d, want 3", got.Ver)
	}
	l.wantAudited(1)
}

func lostPoison(l *lostCase) {
	g := l.Login("alice")
	l.tail.Exec(l.t,
		`insert into cutoffs (kind, appid, epoch, created_at, expires_at) select 'app', '`+sessiontest.AppID+`', 1099511627776, started_at, idle_expires_at from sessions`)
	if err := l.Cutoffs.CatchUp(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.Refresh(g.RefreshToken); !errors.Is(err, auth.StorageUnavailable) {
		l.t.Errorf("Refresh() error = %v, want %s", err, auth.StorageUnavailable)
	}
	app, err := l.Store.App(l.t.Context(), sessiontest.AppID)
	if err != nil || app.Epoch != 0 {
		l.t.Errorf("epoch %d, error %v", app.Epoch, err)
	}
	l.wantAudited(0)
	_, err = l.Service.Exchange(l.t.Context(), session.ExchangeRequest{
		ClientID: sessiontest.OtherAppID, Code: auth.Secret(l.Simulator.NewAppCode(sessiontest.OtherAppID, "alice")),
	})
	if err != nil {
		l.t.Errorf("log-in to another app: error = %v", err)
	}
}

func lostForeign(l *lostCase) {
	g := l.Login("alice")
	lose := l.save()
	l.revoke()
	lose()
	// It has the same rows, like a copy for tests, but another deployment id.
	l.tail.Exec(l.t, `update deployment set id = '01234567-89ab-4cde-8f01-23456789abcd'`)
	if _, err := l.Refresh(g.RefreshToken); !errors.Is(err, auth.StorageUnavailable) {
		l.t.Errorf("Refresh() error = %v, want %s", err, auth.StorageUnavailable)
	}
	if err := l.Restorer.RestoreAll(l.t.Context()); !errors.Is(err, auth.StorageUnavailable) {
		l.t.Errorf("All() error = %v, want %s", err, auth.StorageUnavailable)
	}
	if err := l.Cutoffs.CatchUp(l.t.Context()); !errors.Is(err, auth.StorageUnavailable) || l.Cutoffs.Check() == nil {
		l.t.Errorf("CatchUp() error = %v, Check() = %v", err, l.Cutoffs.Check())
	}
	l.wantAudited(0)
	app, err := l.Store.App(l.t.Context(), sessiontest.AppID)
	if err != nil || app.Epoch != 0 {
		l.t.Errorf("epoch %d, error %v", app.Epoch, err)
	}
}
