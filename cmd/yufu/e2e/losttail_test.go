package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// behind is a deployment whose standby takes over without the last commits, and a back
// end that has received all of them.
type behind struct {
	*deployment
	primary, standby *pgtest.Server
	replica          *process
	service          *service
	backEnd          *orders
	key              string
	// alice is not revoked, bob is logged out, and carol's login is lost.
	alice, bob, carol *answer
	// oldKey is the signing key that has leaked.
	oldKey string
}

func newBehind(h *harness) *behind {
	h.t.Helper()
	b := &behind{primary: pgtest.NewServer(h.t)}
	b.standby = b.primary.Standby(h.t)
	b.deployment = deploy(h, fmt.Sprintf("postgres://postgres@%s,%s/postgres?sslmode=disable&target_session_attrs=read-write", b.primary.Addr(), b.standby.Addr()))
	b.replica, b.service = b.serve("yufu", "--migrate")
	b.addApp()
	b.key = b.serviceKey("service")
	b.backEnd = h.backEnd("the back end", b.service.base, b.key)
	b.alice, b.bob = b.service.logIn("alice"), b.service.logIn("bob")
	b.oldKey = kidOf(b.alice.Doc.AccessToken)
	return b
}

// lose makes commits that the standby does not get, and waits until the back end has them.
func (b *behind) lose() {
	b.t.Helper()
	s := b.service
	if err := b.primary.LeaveBehind(b.standby); err != nil {
		b.t.Fatal(err)
	}
	s.eventually("the replica is back at the primary", func() bool {
		return s.must(s.get(s.admin+"/readyz", "")).Status == http.StatusOK
	})
	s.logOut(b.bob.Doc.RefreshToken)
	b.mustRun(b.env, "", "keys", "retire", b.oldKey, "--now", "--reason", "it leaked")
	for _, token := range []string{b.bob.Doc.AccessToken, b.alice.Doc.AccessToken} {
		s.eventually("the back end has the revocation", func() bool { return b.backEnd.status("/orders", token) == http.StatusUnauthorized })
	}
	b.carol = s.logIn("carol")
	s.eventually("the back end accepts a token of the next key", func() bool { return b.backEnd.status("/orders", b.carol.Doc.AccessToken) == http.StatusOK })
}

func (b *behind) failOver() {
	b.t.Helper()
	if err := b.primary.Kill(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.standby.Start(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.standby.Promote(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// TestStandbyBehind promotes a standby that lacks a logout and the retirement of a key.
// The replica and a back end that went on running agree again, and all revoked tokens
// are refused.
func TestStandbyBehind(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	b := newBehind(h)
	s := b.service
	b.lose()
	b.failOver()
	s.eventually("the replica is at the new primary", func() bool {
		return s.must(s.get(s.admin+"/readyz", "")).Status == http.StatusOK
	})
	s.refresh(b.bob.Doc.RefreshToken).want(s, 400, "session_revoked")
	alice := s.refresh(b.alice.Doc.RefreshToken).want(s, 200, "").Doc
	if kid := kidOf(alice.AccessToken); kid == b.oldKey {
		t.Error("the leaked key signs again")
	}
	s.eventually("the back end accepts the new token", func() bool { return b.backEnd.status("/orders", alice.AccessToken) == http.StatusOK })
	s.introspect(b.key, alice.AccessToken).contains(s, `{"active":true,`)
	s.eventually("the key is retired again", func() bool {
		for line := range strings.Lines(b.mustRun(b.env, "", "keys", "list")) {
			if strings.Contains(line, b.oldKey) {
				return strings.Contains(line, "retired")
			}
		}
		return false
	})
	// Carol's session was lost, so the mini-program logs in again.
	s.refresh(b.carol.Doc.RefreshToken).want(s, 400, "refresh_expired")
	carol := s.logIn("carol").Doc
	s.eventually("the back end accepts carol's token", func() bool { return b.backEnd.status("/orders", carol.AccessToken) == http.StatusOK })

	// The repaired database is accepted: the next replica serves.
	_, next := b.serve("another replica")
	next.must(next.get(next.admin+"/readyz", "")).want(next, 200, "")
	next.refresh(alice.RefreshToken).want(next, 200, "")
}

// TestStandbyBehindWithoutReplica promotes the standby while no replica runs.
func TestStandbyBehindWithoutReplica(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	b := newBehind(h)
	b.lose()
	b.replica.stop()
	b.failOver()
	b.env["YUFU_LISTEN"] = strings.TrimPrefix(b.service.base, "http://") // the address that the back end uses
	_, s := b.serve("yufu again")
	s.must(s.get(s.admin+"/readyz", "")).want(s, 503, "")
	if body := s.must(s.get(s.admin+"/readyz", "")).Body; !strings.Contains(body, "yufu migrate --restored") {
		t.Errorf("/readyz answers %s, want the command to run", body)
	}
	s.refresh(b.bob.Doc.RefreshToken).want(s, 503, "storage_unavailable")
	s.must(s.tryExchange("alice")).want(s, 503, "storage_unavailable")

	if out := b.mustRun(b.env, "", "migrate", "--restored"); !strings.Contains(out, "log in again") {
		t.Errorf("the command prints %q", out)
	}
	s.eventually("it is ready", func() bool { return s.must(s.get(s.admin+"/readyz", "")).Status == http.StatusOK })
	s.refresh(b.bob.Doc.RefreshToken).want(s, 400, "refresh_invalid")
	s.refresh(b.alice.Doc.RefreshToken).want(s, 400, "refresh_invalid")
	alice := s.logIn("alice").Doc
	s.eventually("the back end accepts the new token", func() bool { return b.backEnd.status("/orders", alice.AccessToken) == http.StatusOK })
}
