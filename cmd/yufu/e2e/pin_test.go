package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// TestBackEndKeepsItsApp has a back end that names neither an audience nor apps, and a
// second app that is registered later. The aud of both apps' tokens contains the issuer,
// and both apps share persons.
func TestBackEndKeepsItsApp(t *testing.T) {
	t.Parallel()
	const other = "wxother0000000001"
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	_, s := d.serve("yufu", "--migrate")
	d.addApp()
	key := d.serviceKey("service")
	first := h.backEnd("orders", s.base, key)
	d.mustRun(d.env, d.appSecret(), "app", "add", other, "--secret-file", "-")
	elsewhere := *s
	elsewhere.app = other
	mine, theirs := s.logIn("alice").Doc.AccessToken, elsewhere.logIn("alice").Doc.AccessToken

	want := func(t *testing.T, o *orders, first, second int) {
		t.Helper()
		if a, b := o.status("/orders", mine), o.status("/orders", theirs); a != first || b != second {
			t.Errorf("tokens of the first app get %d, of the second %d; want %d and %d", a, b, first, second)
		}
	}
	t.Run("tokens of an app that is registered later are refused", func(t *testing.T) {
		want(t, first, 200, 401)
	})
	t.Run("a later app does not break a back end that restarts", func(t *testing.T) {
		d := d.harness.in(t)
		first.p.stop()
		again := d.backEnd("orders, restarted", s.base, key)
		want(t, again, 200, 401)
	})
	t.Run("a key with two apps accepts no token until it is pinned", func(t *testing.T) {
		s := s.in(t)
		late := d.serviceKey("service")
		o := s.startBackEnd("orders, late", s.base, late)
		s.eventually("the back end logs why it refuses every token", func() bool {
			return o.status("/orders", mine) == http.StatusInternalServerError && strings.Contains(o.p.stderr.String(), "not pinned to an app")
		})
		if status := o.status("/readyz", ""); status != http.StatusServiceUnavailable {
			t.Errorf("readyz answers %d, want 503", status)
		}
		out := s.mustRun(d.env, "", "service-key", "pin", late[4:20], "--app", other, "--reason", "a test")
		if !strings.Contains(out, other) {
			t.Errorf("service-key pin prints %q", out)
		}
		if list := s.mustRun(d.env, "", "service-key", "list"); !strings.Contains(list, other) {
			t.Errorf("service-key list prints %s", list)
		}
		one := d.serviceKey("service", "--app", other)
		if out := s.mustRun(d.env, "", "service-key", "pin", one[4:20], "--none"); !strings.Contains(out, "stays pinned to it") {
			t.Errorf("service-key pin --none for a key restricted to one app prints %q", out)
		}
		o.p.stop() // a running back end learns of it within 31 s
		o = s.backEnd("orders, pinned", s.base, late)
		want(t, o, 401, 200)
	})
	t.Run("a key that is restricted to an app binds no user to a person", func(t *testing.T) {
		s := s.in(t)
		all, restricted := s.client(d.serviceKey("admin")), s.client(d.serviceKey("admin", "--app", other))
		made, err := all.CreatePerson(t.Context(), adminclient.NewPerson{ExternalID: ptr("1001")})
		if err != nil {
			t.Fatal(err)
		}
		user := uuid.MustParse(elsewhere.me(theirs).Doc.UUID)
		if _, err := restricted.BindIdentity(t.Context(), user, adminclient.BindIdentityRequest{Person: made.ID}); statusOf(err) != http.StatusForbidden {
			t.Errorf("BindIdentity() error = %v, want 403", err)
		}
		if _, err := restricted.CreateBindTicket(t.Context(), made.ID, adminclient.BindTicketForm{App: other}); statusOf(err) != http.StatusForbidden {
			t.Errorf("CreateBindTicket() error = %v, want 403", err)
		}
	})
}
