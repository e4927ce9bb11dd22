package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// The examples of the admin API: each creates the data that it shows.
func init() {
	maps.Copy(examples, map[string]func(s, strict *service) *answer{
		"person": func(s, _ *service) *answer { return s.examplePerson("2001", "+8613800002001") },
		"persons": func(s, _ *service) *answer {
			s.examplePerson("2002", "+8613800002002")
			s.examplePerson("2003", "+8613800002003")
			return s.admins("GET", "/admin/v1/persons?limit=1&name=%E6%9D%8E%E8%95%BE", "")
		},
		"problem-person_conflict": func(s, _ *service) *answer {
			s.examplePerson("2004", "+8613800002004")
			return s.admins("POST", "/admin/v1/persons", `{"external_id":"2004"}`)
		},
		"importresult": func(s, _ *service) *answer {
			req, err := http.NewRequest(http.MethodPost, s.admin+"/admin/v1/persons/import",
				strings.NewReader(`{"external_id":"2005","phone":"+8613800002005"}`+"\n"+`{"external_id":"2006","phone":"+8613800002005"}`))
			if err != nil {
				s.t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+s.adminKey)
			req.Header.Set("Content-Type", "application/x-ndjson")
			return s.must(s.do(req))
		},
		"bindticket": func(s, _ *service) *answer {
			p := member(s, s.examplePerson("2007", "+8613800002007"), "id")
			return s.admins("POST", "/admin/v1/persons/"+p+"/bind-tickets", `{"expires_in":600}`)
		},
		"identity": func(s, _ *service) *answer { return s.exampleIdentity("2008", "zhaoliu") },
		"identities": func(s, _ *service) *answer {
			s, i := s.seesOpenIDs(), s.exampleIdentity("2009", "sunqi")
			s.logIn("zhouba") // makes a next page
			before := idBefore(uuid.MustParse(member(s, i, "uuid")))
			return s.admins("GET", "/admin/v1/identities?limit=1&app="+testApp+"&cursor="+before.String(), "")
		},
		"adminsession":  func(s, _ *service) *answer { return s.exampleSession("2010", "wujiu", "") },
		"adminsessions": func(s, _ *service) *answer { return s.exampleSession("2011", "zhengshi", "/sessions?limit=1") },
		"app":           func(s, _ *service) *answer { return s.admins("GET", "/admin/v1/apps/"+testApp, "") },
		"apps":          func(s, _ *service) *answer { return s.admins("GET", "/admin/v1/apps", "") },
		"problem-app_exists": func(s, _ *service) *answer {
			return s.admins("POST", "/admin/v1/apps", `{"appid":"`+testApp+`","app_secret":"x"}`)
		},
		"appoutcome": func(s, _ *service) *answer {
			return s.admins("PATCH", "/admin/v1/apps/"+testApp, `{"signing_alg":"ES256"}`)
		},
		"bindingdelays": func(s, _ *service) *answer {
			login := s.logIn("guesser")
			for range 5 {
				s.bindingOf(login, "POST", `{"method":"facts","fields":{"employee_no":"0","name":"x"}}`).want(s, 422, "binding_no_match")
			}
			return s.admins("GET", "/admin/v1/binding-delays?delayed=true&uuid="+login.Doc.UUID, "")
		},
	})
}

// idBefore returns the greatest id that is smaller than id.
func idBefore(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

func TestIDBefore(t *testing.T) {
	for id, want := range map[string]string{
		"01a215fe-b7bb-705a-a2d8-392d76d52251": "01a215fe-b7bb-705a-a2d8-392d76d52250",
		"01a215fe-b7bb-705a-a2d8-392d76d50000": "01a215fe-b7bb-705a-a2d8-392d76d4ffff",
	} {
		if got := idBefore(uuid.MustParse(id)).String(); got != want {
			t.Errorf("idBefore(%s) = %s, want %s", id, got, want)
		}
	}
}

// examplePerson makes a person with all members.
func (s *service) examplePerson(number, phone string) *answer {
	s.t.Helper()
	return s.admins("POST", "/admin/v1/persons", `{"external_id":"`+number+`","name":"李蕾`+number+`","phone":"`+phone+
		`","facts":{"employee_no":"`+number+`","name":"李蕾"},"attributes":{"dept":"销售"}}`)
}

// exampleIdentity logs a user in and binds the identity, as an admin who sees openids.
func (s *service) exampleIdentity(number, user string) *answer {
	s.t.Helper()
	s = s.seesOpenIDs()
	person := member(s, s.examplePerson(number, "+861380000"+number), "id")
	return s.admins("POST", "/admin/v1/identities/"+s.logIn(user).Doc.UUID+"/bind", `{"person":"`+person+`"}`)
}

// seesOpenIDs returns the service with the key of an admin who sees openids.
func (s *service) seesOpenIDs() *service {
	s.t.Helper()
	other := *s
	other.adminKey = member(s, s.admins("POST", "/admin/v1/service-keys", `{"name":"all","scope":"admin openid"}`), "key")
	return &other
}

// exampleSession ends a bound user's session and shows it, or the user's sessions.
func (s *service) exampleSession(number, user, list string) *answer {
	s.t.Helper()
	id := member(s, s.exampleIdentity(number, user), "uuid")
	first := member(s, s.admins("GET", "/admin/v1/identities/"+id+"/sessions", ""), "id")
	s.logIn(user)
	if list != "" {
		last := member(s, s.admins("GET", "/admin/v1/identities/"+id+"/sessions", ""), "id")
		s.admins("DELETE", "/admin/v1/sessions/"+last, "")
		return s.admins("GET", "/admin/v1/identities/"+id+list, "")
	}
	s.admins("DELETE", "/admin/v1/sessions/"+first, "")
	return s.admins("GET", "/admin/v1/sessions/"+first, "")
}

// member returns a text member of an answer, or of the first element of its list.
func member(s *service, a *answer, name string) string {
	s.t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil {
		s.t.Fatal(err)
	}
	if list, ok := doc["sessions"].([]any); ok && len(list) > 0 {
		doc, _ = list[0].(map[string]any)
	}
	text, ok := doc[name].(string)
	if !ok {
		s.t.Fatalf("the answer %d %s has no member %s", a.Status, a.Body, name)
	}
	return text
}
