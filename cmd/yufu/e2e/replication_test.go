package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// A logout whose commit was interrupted while it waited for the standby exists only on
// the primary, and is lost with it. So a repeated logout must also wait.
func TestSynchronousReplication(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	primary := pgtest.NewServer(t)
	standby := primary.Standby(t)
	d := deploy(h, fmt.Sprintf("postgres://postgres@%s,%s/postgres?sslmode=disable&target_session_attrs=read-write", primary.Addr(), standby.Addr()))
	d.env["YUFU_MAX_STALENESS"] = "5m" // the data gets old while the standby does not answer
	_, s := d.serve("yufu", "--migrate")
	d.addApp()
	key := d.serviceKey("service")
	alice, bob := s.logIn("alice").Doc, s.logIn("bob").Doc
	s.introspect(key, bob.AccessToken).contains(s, `{"active":true,`)
	watch, err := pgx.Connect(t.Context(), primary.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close(context.Background())
	// Requests commit with only the mark, or with the last batch of a transaction. The
	// replica's own query and its background writes are not counted.
	committing := func(s *service, n int) {
		s.t.Helper()
		s.eventually(fmt.Sprintf("%d commits wait for the standby", n), func() bool {
			var waiting int
			if err := watch.QueryRow(t.Context(), `
select count(*) from pg_stat_activity where wait_event = 'SyncRep' and (query = 'commit' or query like 'select setval(''durability''%')`).Scan(&waiting); err != nil {
				s.t.Fatal(err)
			}
			return waiting == n
		})
	}
	if err := standby.Kill(); err != nil {
		t.Fatal(err)
	}

	t.Run("a logout and its repetition are not answered while the standby does not answer", func(t *testing.T) {
		s := s.in(t)
		ctx, hangUp := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/oauth2/revoke",
			strings.NewReader(url.Values{"client_id": {s.app}, "token": {alice.RefreshToken}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		hungUp := make(chan error, 1)
		go func() {
			a, err := s.do(req)
			if err == nil {
				err = fmt.Errorf("answered %d", a.Status)
			} else if ctx.Err() != nil {
				err = nil
			}
			hungUp <- err
		}()
		committing(s, 1)
		hangUp()
		if err := <-hungUp; err != nil {
			t.Fatal(err)
		}
		committing(s, 0)
		s.eventually("the interrupted commit is visible", func() bool {
			var ended int
			if err := watch.QueryRow(t.Context(), `select count(*) from sessions where ended_at is not null`).Scan(&ended); err != nil {
				t.Fatal(err)
			}
			return ended == 1
		})
		repeated := make(chan *answer, 2)
		for _, token := range []string{alice.RefreshToken, alice.AccessToken} {
			go func() {
				a, err := s.tryLogout(token)
				if err != nil {
					t.Error(err)
				}
				repeated <- a
			}()
		}
		committing(s, 2)
		// Reads still work meanwhile.
		s.me(bob.AccessToken).want(s, 200, "")
		s.introspect(key, bob.AccessToken).contains(s, `{"active":true,`)
		for range 2 {
			if a := <-repeated; a != nil {
				a.want(s, 503, "storage_unavailable")
			}
		}
	})
	t.Run("answered logouts survive the promotion of the standby", func(t *testing.T) {
		s := s.in(t)
		if err := standby.Start(); err != nil {
			t.Fatal(err)
		}
		s.logOut(alice.RefreshToken)
		if err := primary.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := standby.Promote(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.eventually("the replica is at the new primary", func() bool {
			return s.must(s.get(s.admin+"/readyz", "")).Status == 200
		})
		s.refresh(alice.RefreshToken).want(s, 400, "session_revoked")
		s.refresh(bob.RefreshToken).want(s, 200, "")
	})
}

// A token that was revoked at the new primary is accepted for at most the maximum age of
// a replica's data, although the replica stays connected to the old primary.
func TestTwoPrimaries(t *testing.T) {
	t.Parallel()
	const bound = 10 * time.Second
	h := newHarness(t)
	primary := pgtest.NewServer(t)
	standby := primary.Standby(t)
	proxy := pgtest.NewProxy(t, primary.Addr())
	d := deploy(h, fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", proxy.Addr()))
	d.env["YUFU_MAX_STALENESS"] = bound.String()
	_, left := d.serve("the replica that is left behind", "--migrate")
	d.addApp()
	alice := left.logIn("alice").Doc
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.env["YUFU_DATABASE_URL"] = standby.DSN("postgres")
	_, moved := d.serve("the replica at the new primary")
	moved.logOut(alice.RefreshToken)
	revoked := time.Now()
	h.eventually("the token is refused", func() bool {
		passed := time.Since(revoked)
		a := left.verify("", alice.AccessToken)
		if a.Status == 200 && passed > bound {
			t.Errorf("the token is accepted %v after the revocation, want at most %v", passed, bound)
			return true
		}
		return a.Status != 200
	})
	proxy.Redirect(standby.Addr())
	h.eventually("the replica has the revocation", func() bool {
		return left.verify("", alice.AccessToken).Status == http.StatusUnauthorized
	})
}
