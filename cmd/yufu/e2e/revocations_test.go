package e2e

import (
	"database/sql"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // to insert rows that no endpoint makes

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// serviceKey makes a service key on the command line.
func (d *deployment) serviceKey(scope string, more ...string) string {
	d.t.Helper()
	out := d.mustRun(d.env, "", append([]string{"service-key", "create", "--name", "a test", "--scope", scope}, more...)...)
	return strings.TrimSuffix(out, "\n")
}

// client returns the admin client of a replica. Its traffic is checked against the
// contract.
func (s *service) client(key string) *adminclient.Client {
	s.t.Helper()
	c, err := adminclient.New(adminclient.Config{URL: s.admin, ServiceKey: key, HTTPClient: s.http})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// statusOf returns the HTTP status in an error of the admin client, or 0 without an
// answer.
func statusOf(err error) int {
	var e *adminclient.Error
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &e):
		return e.StatusCode
	}
	return 0
}

// revoke makes a revocation that must succeed.
func (s *service) revoke(c *adminclient.Client, r adminclient.Revocation) *adminclient.Revoked {
	s.t.Helper()
	a, err := c.Revoke(s.t.Context(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func ptr[T any](v T) *T { return &v }

func TestRevocations(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	database := pgtest.Empty(t)
	d := deploy(h, database)
	_, a := d.serve("replica A", "--migrate")
	_, b := d.serve("replica B")
	d.addApp()
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	key, serviceKey := d.serviceKey("admin"), d.serviceKey("service")
	// The verdict of a replica's memory on a token, at both endpoints.
	accepts := func(s *service, token string) bool {
		return s.verify("?app="+testApp, token).Status == http.StatusOK && strings.HasPrefix(s.introspect(serviceKey, token).Body, `{"active":true,`)
	}
	refuses := func(s *service, token string) bool {
		return s.verify("?app="+testApp, token).code() == "session_revoked" && s.introspect(serviceKey, token).Body == `{"active":false}`+"\n"
	}

	// bind inserts a person and binds the user to it.
	bind := func(t *testing.T, user string) uuid.UUID {
		t.Helper()
		id := uuid.Must(uuid.NewV7())
		for _, q := range []struct {
			sql  string
			args []any
		}{
			{`insert into persons (id, external_id, name, created_at) values ($1, $2, 'Alice', now())`, []any{id, id.String()}},
			{`update identities set person_id = $1 where uuid = $2`, []any{id, user}},
			{`update sessions set person_id = $1 where identity_uuid = $2`, []any{id, user}},
		} {
			if _, err := db.ExecContext(t.Context(), q.sql, q.args...); err != nil {
				t.Fatal(err)
			}
		}
		return id
	}

	// In this order, because the last two end the sessions of the others.
	for _, kind := range []struct {
		name    string
		request func(t *testing.T, user *answer, sid uuid.UUID) adminclient.Revocation
		// spares is whether another session of the same user stays live.
		spares bool
	}{
		{"an access token", func(_ *testing.T, u *answer, _ uuid.UUID) adminclient.Revocation {
			return adminclient.Revocation{Token: u.Doc.AccessToken}
		}, true},
		{"a refresh token", func(_ *testing.T, u *answer, _ uuid.UUID) adminclient.Revocation {
			return adminclient.Revocation{Token: u.Doc.RefreshToken}
		}, true},
		{"a session", func(_ *testing.T, _ *answer, sid uuid.UUID) adminclient.Revocation {
			return adminclient.Revocation{Session: &sid}
		}, true},
		{"a user", func(_ *testing.T, u *answer, _ uuid.UUID) adminclient.Revocation {
			return adminclient.Revocation{UUID: ptr(uuid.MustParse(u.Doc.UUID))}
		}, false},
		{"a person", func(t *testing.T, u *answer, _ uuid.UUID) adminclient.Revocation {
			t.Helper()
			return adminclient.Revocation{Person: ptr(bind(t, u.Doc.UUID))}
		}, false},
		{"an app", func(*testing.T, *answer, uuid.UUID) adminclient.Revocation {
			return adminclient.Revocation{App: testApp}
		}, false},
		{"everything", func(*testing.T, *answer, uuid.UUID) adminclient.Revocation {
			return adminclient.Revocation{All: true}
		}, false},
	} {
		t.Run("a revocation of "+kind.name+" at one replica is known to the other at once", func(t *testing.T) {
			a, b := a.in(t), b.in(t)
			user := "user of " + kind.name
			victim, other := a.logIn(user), a.logIn(user)
			sid := uuid.MustParse(a.me(victim.Doc.AccessToken).want(a, 200, "").Doc.Session.ID)
			before := time.Now()
			r := kind.request(t, victim, sid)
			r.Reason = "a test"
			got := a.revoke(a.client(key), r)
			if got.SessionsRevoked < 1 || got.CutoffID == nil || strings.Count(*got.CutoffID, ".") != 1 {
				t.Errorf("revocation = %+v, want at least 1 session and a cutoff id in two parts", got)
			}
			if got.EffectiveBy.Before(before.Add(30*time.Second)) || got.ExpiresBy.Before(before.Add(10*time.Minute)) {
				t.Errorf("at %s the answer promises %s and %s", before, got.EffectiveBy, got.ExpiresBy)
			}
			for _, s := range []*service{b, a} {
				s.me(victim.Doc.AccessToken).want(s, 401, "session_revoked")
				s.refresh(victim.Doc.RefreshToken).want(s, 400, "session_revoked")
			}
			if !refuses(a, victim.Doc.AccessToken) {
				t.Error("the replica that made the revocation does not have it in memory")
			}
			b.eventually("the other replica has the revocation in memory", func() bool { return refuses(b, victim.Doc.AccessToken) })
			if kind.spares && !accepts(a, other.Doc.AccessToken) || !kind.spares && !refuses(a, other.Doc.AccessToken) {
				t.Error("the replica's memory has a wrong verdict on the user's other session")
			}
			if kind.spares {
				b.me(other.Doc.AccessToken).want(b, 200, "")
				b.refresh(other.Doc.RefreshToken).want(b, 200, "")
			} else {
				b.me(other.Doc.AccessToken).want(b, 401, "session_revoked")
				b.refresh(other.Doc.RefreshToken).want(b, 400, "session_revoked")
			}
			// Users return with a new login.
			again := b.logIn(user)
			if again.Doc.UUID != victim.Doc.UUID {
				t.Errorf("the user's uuid was %s and is %s", victim.Doc.UUID, again.Doc.UUID)
			}
			b.me(again.Doc.AccessToken).want(b, 200, "")
			var audited int
			err := db.QueryRowContext(t.Context(), `select count(*) from audit where action = 'revoked' and actor = $1 and reason = 'a test' and at >= $2`,
				"service_key:"+key[4:20], before.Add(-time.Second)).Scan(&audited)
			if err != nil || audited < 1 {
				t.Errorf("%d audit events, error %v", audited, err)
			}
		})
	}

	t.Run("a key that is restricted to another app finds no target", func(t *testing.T) {
		a := a.in(t)
		d := *d
		d.harness = d.harness.in(t)
		d.mustRun(d.env, d.appSecret(), "app", "add", "wxe2e0000000000009", "--secret-file", "-")
		restricted := a.client(d.serviceKey("admin", "--app", "wxe2e0000000000009"))
		alice := a.logIn("alice")
		for name, r := range map[string]adminclient.Revocation{
			"token": {Token: alice.Doc.AccessToken}, "user": {UUID: ptr(uuid.MustParse(alice.Doc.UUID))}, "app": {App: testApp},
		} {
			if _, err := restricted.Revoke(t.Context(), r); statusOf(err) != http.StatusNotFound {
				t.Errorf("revoking the %s: error = %v, want 404", name, err)
			}
		}
		a.refresh(alice.Doc.RefreshToken).want(a, 200, "")
	})

	t.Run("the public listener does not accept revocations", func(t *testing.T) {
		a := a.in(t)
		c, err := adminclient.New(adminclient.Config{URL: a.base, ServiceKey: key, HTTPClient: a.http})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Revoke(t.Context(), adminclient.Revocation{All: true}); statusOf(err) != http.StatusNotFound {
			t.Errorf("Revoke() error = %v, want 404", err)
		}
	})
}

func TestDevices(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	_, s := d.serve("yufu", "--migrate")
	d.addApp()
	phone, tablet, bob := s.logIn("alice"), s.logIn("alice"), s.logIn("bob")
	id := func(a *answer) string { return s.me(a.Doc.AccessToken).Doc.Session.ID }
	phoneID, tabletID := id(phone), id(tablet)
	list := s.must(h.get(s.base+"/v1/sessions", phone.Doc.AccessToken))
	list.contains(s, `"id":"`+phoneID+`","device":""`, `"id":"`+tabletID+`"`)
	if strings.Contains(list.Body, id(bob)) {
		t.Errorf("alice sees bob's session: %s", list.Body)
	}
	end := func(a *answer, session string) *answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.base+"/v1/sessions/"+session, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+a.Doc.AccessToken)
		return s.must(h.do(req))
	}
	end(phone, id(bob)).want(s, 404, "not_found")
	end(phone, tabletID).want(s, 204, "")
	s.refresh(tablet.Doc.RefreshToken).want(s, 400, "session_revoked")
	s.me(tablet.Doc.AccessToken).want(s, 401, "session_revoked")
	s.me(bob.Doc.AccessToken).want(s, 200, "")
	end(phone, phoneID).want(s, 204, "")
	s.me(phone.Doc.AccessToken).want(s, 401, "session_revoked")
}

func TestServiceKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	var secret string

	t.Run("a new key is the only output, and works at once", func(t *testing.T) {
		s := s.in(t)
		r := s.run(d.env, "", "service-key", "create", "--name", "order service", "--scope", "admin,service", "--app", testApp)
		key := strings.TrimSuffix(r.stdout, "\n")
		if r.code != 0 || len(key) != len("yfk_")+16+1+43 || strings.Contains(key, "\n") || strings.Contains(r.stderr, key) {
			t.Fatalf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
		}
		secret = key[21:]
		list := s.mustRun(d.env, "", "service-key", "list")
		if !strings.Contains(list, key[4:20]) || !strings.Contains(list, "order service") || !strings.Contains(list, "service admin") || !strings.Contains(list, testApp) || strings.Contains(list, secret) {
			t.Errorf("service-key list prints %s", list)
		}
		alice := s.logIn("alice")
		s.revoke(s.client(key), adminclient.Revocation{Token: alice.Doc.AccessToken})
		if out := p.stdout.String() + p.stderr.String(); strings.Contains(out, secret) {
			t.Error("the log of the service contains the key")
		}
	})

	t.Run("a key is created over the admin API", func(t *testing.T) {
		s := s.in(t)
		key := strings.TrimSpace(s.mustRun(d.env, "", "service-key", "create", "--name", "admin", "--scope", "admin"))
		c := s.client(key)
		made, err := c.CreateServiceKey(t.Context(), adminclient.NewServiceKey{Name: "reader", Scope: "read"})
		if err != nil {
			t.Fatal(err)
		}
		reader := s.client(made.Key)
		if _, err := reader.ListApps(t.Context(), adminclient.Page{}); err != nil {
			t.Errorf("ListApps() error = %v, want none", err)
		}
		list, err := c.ListServiceKeys(t.Context(), adminclient.Page{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(list.ServiceKeys, func(k adminclient.ServiceKey) bool { return k.ID == made.ID && k.Scope == "read" }) {
			t.Errorf("the list is %+v, want the reader in it", list)
		}
		if _, err := reader.Revoke(t.Context(), adminclient.Revocation{All: true}); adminclient.CodeOf(err) != adminclient.CodeInsufficientScope {
			t.Errorf("Revoke() error = %v, want insufficient_scope", err)
		}

		t.Run("a key is revoked on the host, and every replica refuses it within a second", func(t *testing.T) {
			s := s.in(t)
			s.mustRun(d.env, "", "service-key", "revoke", made.ID, "--reason", "a test")
			revoked := time.Now()
			s.eventually("the key is refused", func() bool {
				_, err := reader.ListServiceKeys(t.Context(), adminclient.Page{})
				return statusOf(err) == http.StatusUnauthorized
			})
			t.Logf("refused %s after the command ended", time.Since(revoked))
			s.mustRun(d.env, "", "service-key", "revoke", made.ID) // repeating it changes nothing
			admin, _, _ := strings.Cut(strings.TrimPrefix(key, "yfk_"), "_")
			child, err := c.CreateServiceKey(t.Context(), adminclient.NewServiceKey{Name: "hidden", Scope: "admin", ExpiresIn: ptr(3600)})
			if err != nil || child.ExpiresAt == nil {
				t.Fatal(child, err)
			}
			if list := s.mustRun(d.env, "", "service-key", "list"); !strings.Contains(list, child.ExpiresAt.Format(time.RFC3339)) || strings.Count(list, admin) != 3 {
				t.Errorf("service-key list names neither the creator of two keys nor the expiry of one:\n%s", list)
			}
			if out := s.mustRun(d.env, "", "service-key", "revoke", admin); !strings.Contains(out, child.ID+" (hidden)") || !strings.Contains(out, "--descendants") {
				t.Errorf("service-key revoke prints %q, want the key that still works", out)
			}
			if out := s.mustRun(d.env, "", "service-key", "revoke", admin, "--descendants"); !strings.Contains(out, "Revoked "+child.ID) {
				t.Errorf("service-key revoke --descendants prints %q", out)
			}
			if list := s.mustRun(d.env, "", "service-key", "list"); !strings.Contains(list, "revoked") {
				t.Errorf("service-key list prints %s", list)
			}
		})
	})

	t.Run("a malformed command line makes or revokes no key", func(t *testing.T) {
		s := s.in(t)
		for _, tc := range []struct {
			args []string
			code int
			want string
		}{
			{[]string{"create", "--scope", "admin"}, 2, "--name"},
			{[]string{"create", "--name", "x"}, 2, "--scope"},
			{[]string{"create", "--name", "x", "--scope", "root"}, 2, "scope must be one or more of"},
			{[]string{"create", "--name", "x", "--scope", "admin", "--app", "a-b"}, 2, "apps must be an appid"},
			{[]string{"create", "--name", "x", "--scope", "admin", "--app", "wx404"}, 1, "wx404"},
			{[]string{"create", "--name", "x\ny", "--scope", "admin"}, 2, "control characters"},
			{[]string{"create", "--name", "x", "--scope", "admin", "--expires", "1s"}, 2, "--expires"},
			{[]string{"create", "--name", "x", "--scope", "admin", "--expires", "0s"}, 2, "--expires"},
			{[]string{"create", "--name", "x", "--scope", "admin", "--expires", "-1h"}, 2, "--expires"},
			{[]string{"revoke", "0123456789abcdef"}, 1, "service-key list"},
			{[]string{"revoke", "yfk_0123456789abcdef_" + strings.Repeat("A", 43)}, 2, "ID must be the middle of"},
		} {
			r := s.run(d.env, "", append([]string{"service-key"}, tc.args...)...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.want) || r.stdout != "" {
				t.Errorf("%q: exit code %d, stdout %q, stderr %q", tc.args, r.code, r.stdout, r.stderr)
			}
		}
	})
}
