package session_test

import (
	"context"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// interrupted is a store in which something happens after the first refresh.
type interrupted struct {
	session.Store
	then func()
}

func (s *interrupted) Refresh(ctx context.Context, r session.RefreshParams) (session.Granted, error) {
	g, err := s.Store.Refresh(ctx, r)
	if then := s.then; then != nil {
		s.then = nil
		then()
	}
	return g, err
}

// A change of the session makes the grant of a refresh start over. By then the client may
// have refreshed again, with the token from another request.
func TestRefreshStartsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, session.Lifetimes{})
	first := w.Login("alice")
	var third session.Grant
	c := w.Config
	c.Store = &interrupted{Store: w.store, then: func() {
		at := w.Clock.Now()
		w.exec(t, `update sessions set ver = ver + 1 where id = ?`, first.Session.ID.String())
		w.exec(t, `insert into cutoffs (kind, session_id, session_appid, ver, created_at, expires_at) values ('session', ?, ?, 2, ?, ?)`,
			first.Session.ID.String(), first.Session.AppID, at.UnixMicro(), at.Add(auth.CutoffRetention).UnixMicro())
		w.CatchUp(t.Context())
		second := must(w.Refresh(first.RefreshToken))(t)
		third = must(w.Refresh(second.RefreshToken))(t)
	}}
	service := must(session.NewService(c))(t)
	got, err := service.Refresh(t.Context(), session.RefreshRequest{ClientID: first.Session.AppID, RefreshToken: first.RefreshToken})
	if err != nil || got.Session.Ver != 2 || got.Session.Generation != 2 {
		t.Errorf("Refresh() = ver %d, generation %d, error = %v; want 2, 2, nil", got.Session.Ver, got.Session.Generation, err)
	}
	if g, err := w.Refresh(third.RefreshToken); err != nil || g.Verdict != session.Rotate {
		t.Errorf("Refresh() of the newest token = %v, error %v; want a rotation", g.Verdict, err)
	}
	if n := w.count(t, `select count(*) from audit where action = ?`, string(auth.AuditRefreshReuse)); n != 0 {
		t.Errorf("%d audited reuses, want 0", n)
	}
}
