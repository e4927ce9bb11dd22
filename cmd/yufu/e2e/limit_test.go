package e2e

import (
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

func TestSessionLimit(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	d.env["YUFU_SESSION_LIMIT"] = "2"
	h.mustRun(d.env, "", "migrate")
	h.mustRun(d.env, h.appSecret()+"\n", "app", "add", testApp, "--secret-file", "-")
	_, s := d.serve("yufu")

	first, second := s.logIn("alice"), s.logIn("alice")
	bob := s.logIn("bob")
	third := s.logIn("alice")
	s.me(first.Doc.AccessToken).want(s, 401, "session_revoked")
	s.must(s.tryRefresh(first.Doc.RefreshToken)).want(s, 400, "session_revoked")
	for _, live := range []*answer{second, third, bob} {
		s.me(live.Doc.AccessToken).want(s, 200, "")
	}
}
