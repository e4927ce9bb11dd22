package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/db/pgtest"
)

// examples returns the real answer for each example in api/examples, against which
// client libraries are built and tested. The strict replica has a limit of one failed
// login, and access tokens that last a second.
var examples = map[string]func(s, strict *service) *answer{
	"token":    func(s, _ *service) *answer { return s.logIn("alice") },
	"refresh":  func(s, _ *service) *answer { return s.refresh(s.logIn(bound).Doc.RefreshToken) },
	"me":       func(s, _ *service) *answer { return s.me(s.logIn("alice").Doc.AccessToken) },
	"me-bound": func(s, _ *service) *answer { return s.me(s.logIn(bound).Doc.AccessToken) },
	"metadata": func(s, _ *service) *answer {
		return s.must(s.get(s.base+"/.well-known/oauth-authorization-server", ""))
	},
	"jwks": func(s, _ *service) *answer { return s.must(s.get(s.base+"/.well-known/jwks.json", "")) },

	"error-app_unknown": func(s, _ *service) *answer {
		return s.must(s.post(s.base+"/oauth2/token", "grant_type", codeGrant, "client_id", "wx404", "code", "x"))
	},
	"error-invalid_request": func(s, _ *service) *answer {
		return s.must(s.post(s.base+"/oauth2/token", "grant_type", codeGrant, "client_id", testApp))
	},
	"error-method_not_allowed":     func(s, _ *service) *answer { return s.must(s.get(s.base+"/oauth2/token", "")) },
	"error-code_used":              func(s, _ *service) *answer { return s.logInWhile(40163) },
	"error-user_blocked":           func(s, _ *service) *answer { return s.logInWhile(40226) },
	"error-platform_misconfigured": func(s, _ *service) *answer { return s.logInWhile(40013) },
	"error-platform_unavailable":   func(s, _ *service) *answer { return s.logInWhile(-1) },
	"error-platform_quota":         func(s, _ *service) *answer { return s.logInWhile(45011) },
	"error-rate_limited": func(_, strict *service) *answer {
		for {
			// One login a second is accepted: a slow machine needs more of them.
			if a := strict.must(strict.exchangeCode(rand.Text())); a.code() != "code_invalid" {
				return a
			}
		}
	},
	"error-refresh_reused": func(s, _ *service) *answer {
		first := s.logIn("alice").Doc.RefreshToken
		s.refresh(s.refresh(first).Doc.RefreshToken).want(s, 200, "")
		return s.refresh(first)
	},

	"sessions": func(s, _ *service) *answer {
		s.logIn("alice")
		return s.must(s.get(s.base+"/v1/sessions", s.logIn("alice").Doc.AccessToken))
	},
	"revocation": func(s, _ *service) *answer {
		return s.admins("POST", "/admin/v1/revocations", `{"uuid":"`+s.logIn("erin").Doc.UUID+`"}`)
	},
	"newservicekey": func(s, _ *service) *answer {
		return s.admins("POST", "/admin/v1/service-keys", `{"name":"order service","scope":"service"}`)
	},
	"servicekeys": func(s, _ *service) *answer {
		// A key that was used and revoked, with another key after it, on its own page.
		used := s.admins("POST", "/admin/v1/service-keys", `{"name":"order service","scope":"service openid","apps":["`+testApp+`"],"expires_in":2678400}`)
		var key struct{ ID, Key string }
		if err := json.Unmarshal([]byte(used.Body), &key); err != nil {
			s.t.Fatal(err)
		}
		s.admins("POST", "/admin/v1/service-keys", `{"name":"another","scope":"service"}`)
		s.must(s.get(s.base+"/v1/revocations", key.Key)).want(s, 200, "")
		before := ""
		var page struct {
			Keys []struct {
				ID       string `json:"id"`
				LastUsed string `json:"last_used_at"`
			} `json:"service_keys"`
			Next string `json:"next"`
		}
		s.eventually("its use is recorded", func() bool {
			a := s.admins("GET", "/admin/v1/service-keys", "")
			if err := json.Unmarshal([]byte(a.Body), &page); err != nil {
				s.t.Fatal(err)
			}
			for i, k := range page.Keys {
				if k.ID == key.ID && i > 0 {
					before = page.Keys[i-1].ID
					return k.LastUsed != ""
				}
			}
			return false
		})
		s.admins("DELETE", "/admin/v1/service-keys/"+key.ID, "")
		return s.admins("GET", "/admin/v1/service-keys?limit=1&cursor="+before, "")
	},
	"rotation": func(s, _ *service) *answer { return s.rotate() },
	"retirement": func(s, _ *service) *answer {
		s.rotate().want(s, 200, "")
		_, previous := s.previousKey()
		return s.admins("POST", "/admin/v1/signing-keys/"+previous+"/retire", `{"compromised":true}`)
	},
	"signingkeys": func(s, _ *service) *answer {
		s.rotate().want(s, 200, "")
		before, _ := s.previousKey()
		return s.admins("GET", "/admin/v1/signing-keys?limit=2&cursor="+before, "")
	},
	"introspection": func(s, _ *service) *answer {
		return s.introspect(s.serviceKey("service openid"), s.logIn(bound).Doc.AccessToken)
	},
	"introspection-inactive": func(s, _ *service) *answer {
		return s.introspect(s.serviceKey("service"), s.logIn("alice").Doc.RefreshToken)
	},
	"problem-person_required": func(s, _ *service) *answer {
		return s.must(s.get(s.base+"/v1/verify?bound=required", s.logIn("alice").Doc.AccessToken))
	},
	"problem-service_key_invalid": func(s, _ *service) *answer {
		return s.must(s.get(s.base+"/v1/revocations", "yfk_mzxw6ytboi5dcmrt_"+strings.Repeat("A", 43)))
	},
	"problem-insufficient_scope": func(s, _ *service) *answer {
		made := s.admins("POST", "/admin/v1/service-keys", `{"name":"reader","scope":"read"}`)
		var key struct{ Key string }
		if err := json.Unmarshal([]byte(made.Body), &key); err != nil {
			s.t.Fatal(err)
		}
		s.adminKey = key.Key
		return s.admins("POST", "/admin/v1/revocations", `{"all":true}`)
	},

	"binding": func(s, _ *service) *answer { return s.bindingOf(s.logIn("alice"), "GET", "") },
	"ticketpreview": func(s, _ *service) *answer {
		return s.preview(s.logIn("alice").Doc.AccessToken, s.mintFor("李雷"))
	},
	"bound":             func(s, _ *service) *answer { return s.bindByTicket("grace") },
	"unbound":           func(s, _ *service) *answer { return s.bindingOf(s.bindByTicket("heidi"), "DELETE", "") },
	"unbound-unchanged": func(s, _ *service) *answer { return s.bindingOf(s.logIn("alice"), "DELETE", "") },
	"problem-ticket_invalid": func(s, _ *service) *answer {
		return s.bindingOf(s.logIn("alice"), "POST", `{"method":"ticket","ticket":"used"}`)
	},
	"problem-binding_no_match": func(s, _ *service) *answer { return s.guess("ivan", 1) },
	"problem-binding_delayed":  func(s, _ *service) *answer { return s.guess("judy", 6) },
	"problem-person_taken": func(s, _ *service) *answer {
		person := s.newPerson("王小明")
		s.bindingOf(s.logIn("kim"), "POST", `{"method":"ticket","ticket":"`+s.mint(person)+`"}`).want(s, 200, "")
		return s.bindingOf(s.logIn("leo"), "POST", `{"method":"ticket","ticket":"`+s.mint(person)+`"}`)
	},
	"problem-webhook_refused": func(s, _ *service) *answer {
		return s.bindingOf(s.logIn("mia"), "POST", `{"method":"webhook","fields":{"student_no":"2024"}}`)
	},

	"problem-not_found": func(s, _ *service) *answer { return s.must(s.get(s.base+"/", "")) },
	"problem-invalid_request": func(s, _ *service) *answer {
		req, err := http.NewRequest(http.MethodGet, s.base+"/v1/me", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header["Authorization"] = []string{"Bearer x", "Bearer y"}
		return s.must(s.do(req))
	},
	"problem-session_revoked": func(s, _ *service) *answer {
		login := s.logIn("alice")
		s.logOut(login.Doc.RefreshToken)
		return s.me(login.Doc.AccessToken)
	},
	"problem-token_expired": func(_, strict *service) (a *answer) {
		token := strict.logIn("alice").Doc.AccessToken
		strict.eventually("the access token expires", func() bool {
			a = strict.me(token)
			return a.Status != http.StatusOK
		})
		return a
	},
}

// examplesOfAnOutage are the answers while the database is down.
var examplesOfAnOutage = map[string]func(s *service, token string) *answer{
	"problem-storage_unavailable": func(s *service, token string) *answer { return s.me(token) },
	"health-not-ready":            func(s *service, _ string) *answer { return s.must(s.get(s.admin+"/readyz", "")) },
}

func TestExamples(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	server := pgtest.NewServer(t)
	d := deploy(h, server.DSN("postgres"))
	// Every example has its own client address, so that limits of one do not affect
	// another.
	d.env["YUFU_TRUSTED_PROXIES"] = "127.0.0.1"
	erp := newBusiness(t)
	d.trust(erp)
	_, s := d.serve("yufu", "--migrate")
	d.env = d.env.with(settings{"YUFU_ACCESS_TOKEN_TTL": "1s", "YUFU_EXCHANGE_FAILURE_LIMIT": "1"})
	_, strict := d.serve("strict yufu")
	d.addApp()
	setPolicyOfExamples(d, erp)
	bindToPerson(t, server.DSN("postgres"), s.logIn(bound).Doc.UUID)
	s.adminKey = d.serviceKey("admin,service,openid")

	files, err := os.ReadDir("../../../api/examples")
	if err != nil {
		t.Fatal(err)
	}
	var later []string
	for i, file := range files {
		name := strings.TrimSuffix(file.Name(), ".json")
		ask := examples[name]
		if ask == nil {
			later = append(later, name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			client := fmt.Sprintf("192.0.2.%d", i)
			apitest.SameMembers(t, name, []byte(ask(s.in(t).from(client), strict.in(t).from(client)).Body))
		})
	}
	if len(files)-len(later) != len(examples) || len(later) != len(examplesOfAnOutage) {
		t.Errorf("%d example files, of which %d are not tested in the first part", len(files), len(later))
	}
	// Only now, because some of the examples end keys.
	token := s.logIn("alice").Doc.AccessToken
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range later {
		t.Run(name, func(t *testing.T) {
			ask := examplesOfAnOutage[name]
			if ask == nil {
				t.Fatal("examples has no request for this example")
			}
			apitest.SameMembers(t, name, []byte(ask(s.in(t), token).Body))
		})
	}
}

// rotate promotes the next signing key.
func (s *service) rotate() *answer {
	s.t.Helper()
	return s.admins("POST", "/admin/v1/signing-keys/rotate", `{"use":"access","now":true}`)
}

// previousKey returns the signing key that was rotated last, and the key before it in
// the list, if any.
func (s *service) previousKey() (before, kid string) {
	s.t.Helper()
	var list struct {
		Keys []struct{ KID, Use, State string } `json:"signing_keys"`
	}
	if err := json.Unmarshal([]byte(s.admins("GET", "/admin/v1/signing-keys", "").Body), &list); err != nil {
		s.t.Fatal(err)
	}
	last := ""
	for _, k := range list.Keys {
		if k.Use == "access" && k.State == "current" {
			return before, last
		}
		before, last = last, k.KID
	}
	s.t.Fatal("the list has no current key")
	return "", ""
}

// admins sends a request to the admin API.
func (s *service) admins(method, path, body string) *answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.admin+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.adminKey)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return s.must(s.do(req))
}

// logInWhile logs in while WeChat answers with an errcode.
func (s *service) logInWhile(errcode int) *answer {
	s.t.Helper()
	s.sim.fault(map[string]any{"errcode": errcode})
	return s.must(s.tryExchange("mallory"))
}

// bound is a user who is bound to a person.
const bound = "lilei"

func bindToPerson(t *testing.T, dsn, identity string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	person := uuid.Must(uuid.NewV7())
	if _, err := conn.Exec(t.Context(), `insert into persons (id, external_id, name, created_at) values ($1, 'E-1002', '李雷', now())`, person); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `update identities set person_id = $1 where uuid = $2`, person, identity); err != nil {
		t.Fatal(err)
	}
}
