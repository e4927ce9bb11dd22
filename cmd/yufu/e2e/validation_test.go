package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// serviceKey makes a service key over the admin API.
func (s *service) serviceKey(scope string) string {
	s.t.Helper()
	made := s.admins(http.MethodPost, "/admin/v1/service-keys", `{"name":"a test","scope":"`+scope+`"}`)
	var key struct{ Key string }
	if err := json.Unmarshal([]byte(made.Body), &key); err != nil || key.Key == "" {
		s.t.Fatalf("POST /admin/v1/service-keys: status and body = %d %s, want a key", made.Status, made.Body)
	}
	return key.Key
}

// introspect introspects a token.
func (s *service) introspect(key, token string) *answer {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.base+"/oauth2/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+key)
	return s.must(s.do(req))
}

func (s *service) verify(query, token string) *answer {
	s.t.Helper()
	return s.must(s.get(s.base+"/v1/verify"+query, token))
}

func TestValidationFromMemory(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	server := pgtest.NewServer(t)
	d := deploy(h, server.DSN("postgres"))
	d.env["YUFU_MAX_STALENESS"] = "20s"
	_, s := d.serve("yufu", "--migrate")
	d.addApp()
	key := d.serviceKey("service")
	good, ended := s.logIn("alice").Doc.AccessToken, s.logIn("bob").Doc
	s.logOut(ended.RefreshToken)
	const inactive = `{"active":false}` + "\n"
	s.introspect(key, good).contains(s, `{"active":true,`, `"client_id":"`+testApp+`"`)
	s.verify("", good).want(s, 200, "")

	t.Run("validation goes on without the database, and answers 503 when the data is too old", func(t *testing.T) {
		s := s.in(t)
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
		s.introspect(key, good).contains(s, `{"active":true,`)
		s.verify("", good).want(s, 200, "")
		s.me(good).want(s, 503, "storage_unavailable") // this endpoint asks the database
		s.eventually("the data is too old", func() bool {
			asked, verified := s.introspect(key, good), s.verify("", good)
			for _, a := range []*answer{asked, verified} {
				if a.Status != http.StatusOK {
					a.want(s, 503, "storage_unavailable")
					if after, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || after < 1 {
						t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
					}
				}
			}
			return asked.Status != http.StatusOK && verified.Status != http.StatusOK
		})
		// A revoked token stays inactive.
		if a := s.introspect(key, ended.AccessToken); a.Body != inactive {
			t.Errorf("POST /oauth2/introspect: status and body = %d %s, want %s", a.Status, a.Body, inactive)
		}
		s.verify("", ended.AccessToken).want(s, 401, "session_revoked")
	})
	t.Run("validation works again when the database is back", func(t *testing.T) {
		s := s.in(t)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		s.eventually("both endpoints work", func() bool {
			return s.introspect(key, good).Status == http.StatusOK && s.verify("", good).Status == http.StatusOK
		})
	})
	t.Run("an app or an audience is required from the second app on", func(t *testing.T) {
		s := s.in(t)
		s.mustRun(d.env, s.appSecret(), "app", "add", otherApp, "--secret-file", "-", "--audience", "orders")
		s.eventually("the replica has the second app", func() bool { return s.verify("", good).Status == http.StatusBadRequest })
		s.verify("?app="+testApp, good).want(s, 200, "")
		s.verify("?app="+otherApp, good).want(s, 401, "token_invalid")
		s.verify("?aud=orders", good).want(s, 401, "token_invalid")
		other := *s
		other.app = otherApp
		token := other.logIn("alice").Doc.AccessToken
		s.verify("?aud=orders", token).want(s, 200, "")
		restricted := d.serviceKey("service", "--app", otherApp)
		s.introspect(restricted, token).contains(s, `{"active":true,`)
		if a := s.introspect(restricted, good); a.Body != inactive {
			t.Errorf("POST /oauth2/introspect: status and body = %d %s, want %s", a.Status, a.Body, inactive)
		}
	})
	t.Run("a proxy may append the client's path", func(t *testing.T) {
		// The contract does not describe these requests.
		for target, want := range map[string]int{";app=" + testApp + "/orders?app=x": 200, ";app=" + otherApp + "/orders?app=" + testApp: 401, "/orders?app=" + testApp: 400} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/v1/verify"+target, strings.NewReader("a body"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+good)
			resp, err := plain.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: got %s, want %d", target, resp.Status, want)
			}
		}
	})
	t.Run("a token in a cookie is accepted where a cookie is configured", func(t *testing.T) {
		d := *d
		d.harness = d.harness.in(t)
		d.env = d.env.with(settings{"YUFU_VERIFY_COOKIE": "JSESSIONID"})
		_, with := d.serve("a replica that knows a cookie")
		ask := func(s *service, more ...string) *answer {
			req, err := http.NewRequest(http.MethodGet, s.base+"/v1/verify?app="+testApp, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Cookie", "a=b; JSESSIONID="+good)
			for i := 0; i < len(more); i += 2 {
				req.Header.Set(more[i], more[i+1])
			}
			return s.must(s.do(req))
		}
		s := s.in(t)
		ask(with).want(with, 200, "")
		ask(with, "Origin", "https://evil.example").want(with, 401, "token_missing")
		ask(with, "Sec-Fetch-Site", "same-origin").want(with, 401, "token_missing")
		ask(s).want(s, 401, "token_missing")
		for _, name := range []string{"a b", "a=b", "鱼", "a;b"} {
			if r := h.run(d.env.with(settings{"YUFU_VERIFY_COOKIE": name}), "", "serve"); r.code != 2 || !strings.Contains(r.stderr, "YUFU_VERIFY_COOKIE") {
				t.Errorf("%q: exit code %d: %s", name, r.code, r.stderr)
			}
		}
	})
}

// Introspection reads bound users, attributes and openids from the database while it is
// available.
func TestIntrospectionWithoutDatabase(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, server *pgtest.Server, line *pgtest.Proxy){
		"with a database that refuses connections": func(t *testing.T, server *pgtest.Server, _ *pgtest.Proxy) {
			if err := server.Stop(); err != nil {
				t.Fatal(err)
			}
		},
		"with a database that hangs": func(_ *testing.T, _ *pgtest.Server, line *pgtest.Proxy) {
			line.Deafen(true)
			line.Swallow()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			server := pgtest.NewServer(t)
			near, err := url.Parse(server.DSN("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			line := pgtest.NewProxy(t, near.Host)
			near.Host = line.Addr()
			d := deploy(h, near.String())
			d.env["YUFU_MAX_STALENESS"] = "30s"
			_, s := d.serve("yufu", "--migrate")
			d.addApp()
			s.adminKey = d.serviceKey("admin")
			plain, open := d.serviceKey("service"), d.serviceKey("service,openid")
			s.admins("PATCH", "/admin/v1/apps/"+testApp, `{"policy":{"methods":["ticket"],"second_identity":"join","attributes":["department"]}}`).want(s, 200, "")
			made := s.admins("POST", "/admin/v1/persons", `{"external_id":"1001","name":"李雷","attributes":{"department":"sales"}}`).want(s, 201, "")
			var person struct{ ID string }
			if err := json.Unmarshal([]byte(made.Body), &person); err != nil {
				t.Fatal(err)
			}
			bound := func(user string) *answer {
				login := s.logIn(user)
				s.admins("POST", "/admin/v1/identities/"+login.Doc.UUID+"/bind", `{"person":"`+person.ID+`"}`).want(s, 200, "")
				return s.refresh(login.Doc.RefreshToken).want(s, 200, "")
			}
			seen, unseen, erased := bound("alice"), bound("bob"), bound("carol")
			s.eventually("the replica has the policy", func() bool {
				return strings.Contains(s.introspect(open, seen.Doc.AccessToken).Body, `"attributes":{"department":"sales"}`)
			})
			before := s.introspect(open, seen.Doc.AccessToken)
			s.introspect(open, erased.Doc.AccessToken).contains(s, `{"active":true,`, `"openid":"`)
			s.introspect(plain, erased.Doc.AccessToken).contains(s, `{"active":true,`)
			s.admins("DELETE", "/admin/v1/identities/"+erased.Doc.UUID, "").want(s, 204, "")
			lose(t, server, line)

			if a := s.introspect(open, seen.Doc.AccessToken); a.Body != before.Body {
				t.Errorf("for a cached session: answer %d %s, want %s", a.Status, a.Body, before.Body)
			}
			for scope, key := range map[string]string{"service": plain, "service openid": open} {
				a := s.introspect(key, unseen.Doc.AccessToken)
				a.contains(s, `{"active":true,`, `"bound":true,"person":"`+person.ID+`"`)
				for _, member := range []string{"openid", "unionid", "attributes"} {
					if strings.Contains(a.Body, `"`+member+`"`) {
						t.Errorf("with a key of scope %s: answer %s, want no member %s", scope, a.Body, member)
					}
				}
				if a := s.introspect(key, erased.Doc.AccessToken); a.Body != `{"active":false}`+"\n" {
					t.Errorf("for an erased user: status and body = %d %s, want not active", a.Status, a.Body)
				}
			}
			s.eventually("the data is too old", func() bool {
				return s.introspect(open, unseen.Doc.AccessToken).Status != http.StatusOK
			})
			s.introspect(open, unseen.Doc.AccessToken).want(s, 503, "storage_unavailable")
		})
	}
}
