package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// who is whom a log line is about.
type who struct {
	App     string `json:"app"`
	UUID    string `json:"uuid"`
	Session string `json:"session"`
	Person  string `json:"person"`
	KID     string `json:"kid"`
	Key     string `json:"key"`
	All     bool   `json:"all"`
}

// about returns whom the log line of an answer's request is about.
func (p *process) about(a *answer) (w who) {
	p.h.t.Helper()
	id := a.Header.Get("X-Request-Id")
	p.await(p.stderr, "what became of "+id, func(text string) bool {
		for line := range strings.Lines(text) {
			var l struct {
				who
				RequestID string `json:"request_id"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.RequestID == id {
				w = l.who
				return true
			}
		}
		return false
	})
	return w
}

// sid returns the session that a token of the service names.
func sid(t *testing.T, token string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var c struct {
		Session string `json:"sid"`
	}
	if err == nil {
		err = json.Unmarshal(payload, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c.Session
}

// TestRefusalsNameWhom holds that the log line of a refusal names the user, the
// session and the app as soon as they are proven, and nothing that a client only
// claims.
func TestRefusalsNameWhom(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p, s := h.dev("yufu dev", t.TempDir())
	whole := func(login *answer) who {
		return who{App: s.app, UUID: login.Doc.UUID, Session: sid(t, login.Doc.AccessToken)}
	}
	want := func(t *testing.T, a *answer, code string, w who) {
		t.Helper()
		if a.code() != code {
			t.Errorf("the answer is %d %s, want %s", a.Status, a.Body, code)
		}
		if got := p.about(a); got != w {
			t.Errorf("%s: the log line is about %+v, want %+v", code, got, w)
		}
	}
	revoke := func(body string) *answer { return s.admins("POST", "/admin/v1/revocations", body).want(s, 200, "") }

	t.Run("a refresh token whose MAC is good", func(t *testing.T) {
		login := s.logIn("reuse")
		first := login.Doc.RefreshToken
		second := s.refresh(first).Doc.RefreshToken
		s.refresh(second)
		want(t, s.refresh(first), "refresh_reused", whole(login))
		want(t, s.refresh(second), "session_revoked", whole(login))
		want(t, s.must(s.post(s.base+"/oauth2/token", "grant_type", "refresh_token", "client_id", "wxunknown", "refresh_token", first)), "app_unknown", who{Session: whole(login).Session})
	})
	t.Run("an account that the platform vouched for", func(t *testing.T) {
		login := s.logIn("banned")
		s.admins("POST", "/admin/v1/identities/"+login.Doc.UUID+"/disable", "").want(s, 200, "")
		want(t, s.must(s.tryExchange("banned")), "identity_disabled", who{App: s.app, UUID: login.Doc.UUID})
	})
	t.Run("an access token whose signature is good", func(t *testing.T) {
		login := s.logIn("ended")
		access := login.Doc.AccessToken
		revoke(`{"uuid":"` + login.Doc.UUID + `"}`)
		want(t, s.me(access), "session_revoked", whole(login))
		want(t, s.call("POST", access, `{"method":"facts","fields":{}}`), "session_revoked", whole(login))
		want(t, s.verify("", access), "session_revoked", whole(login))
		want(t, s.introspect(s.serviceKeyOf("service"), access), "", whole(login))
		want(t, s.must(s.tryLogout(access)), "", whole(login))
		want(t, s.must(s.tryLogout(login.Doc.RefreshToken)), "", who{Session: whole(login).Session})
	})
	t.Run("a good token that is refused what it asks for", func(t *testing.T) {
		login := s.logIn("unbound")
		access := login.Doc.AccessToken
		want(t, s.verify("?bound=required", access), "person_required", whole(login))
		want(t, s.verify("?aud=https://other.example.com", access), "token_invalid", whole(login))
		want(t, s.call("POST", access, `{"method":"webhook","fields":{}}`), "webhook_refused", whole(login))
		want(t, s.must(s.post(s.base+"/oauth2/revoke", "client_id", "wxother", "token", access)), "token_client_mismatch", whole(login))
	})
	t.Run("not what a client only claims", func(t *testing.T) {
		login := s.logIn("victim")
		parts := strings.Split(login.Doc.AccessToken, ".")
		forged := parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2]))
		want(t, s.me(forged), "token_invalid", who{})
		want(t, s.verify("", forged), "token_invalid", who{})
		want(t, s.introspect(s.serviceKeyOf("service"), forged), "", who{})
		want(t, s.must(s.tryLogout(forged)), "", who{})
		mangled := []byte(login.Doc.RefreshToken)
		if middle := &mangled[len(mangled)/2]; *middle == 'A' {
			*middle = 'B'
		} else {
			*middle = 'A'
		}
		want(t, s.refresh(string(mangled)), "refresh_invalid", who{})
		want(t, s.must(s.post(s.base+"/oauth2/token", "grant_type", codeGrant, "client_id", "wxunknown", "code", "c")), "app_unknown", who{})
	})
}

// TestAdminCallsNameTheirTarget holds the same of what admins ask for.
func TestAdminCallsNameTheirTarget(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p, s := h.dev("yufu dev", t.TempDir())
	login, other := s.logIn("one"), s.logIn("two")
	user, session := login.Doc.UUID, sid(t, login.Doc.AccessToken)
	person := member(s, s.admins("POST", "/admin/v1/persons", `{"external_id":"X-1"}`).want(s, 201, ""), "id")
	unknown := uuid.Must(uuid.NewV7()).String()
	made := s.admins("POST", "/admin/v1/service-keys", `{"name":"x","scope":"service"}`).want(s, 201, "")
	keyID := member(s, made, "id")
	_, kid := s.previousKey()
	for _, tc := range []struct {
		method, path, body string
		want               who
	}{
		{"GET", "/admin/v1/identities/" + user, "", who{UUID: user}},
		{"GET", "/admin/v1/identities/" + unknown, "", who{UUID: unknown}},
		{"GET", "/admin/v1/identities?uuid=" + user, "", who{UUID: user}},
		{"GET", "/admin/v1/identities?app=" + s.app + "&person=" + person, "", who{App: s.app, Person: person}},
		{"GET", "/admin/v1/identities/" + user + "/sessions", "", who{UUID: user}},
		{"POST", "/admin/v1/identities/" + user + "/bind", `{"person":"` + person + `"}`, who{UUID: user, Person: person}},
		{"POST", "/admin/v1/identities/" + user + "/unbind", "", who{UUID: user}},
		{"GET", "/admin/v1/sessions/" + session, "", who{Session: session}},
		{"GET", "/admin/v1/persons/" + person, "", who{Person: person}},
		{"POST", "/admin/v1/persons/" + person + "/bind-tickets", `{"app":"` + s.app + `"}`, who{Person: person, App: s.app}},
		{"GET", "/admin/v1/apps/" + s.app, "", who{App: s.app}},
		{"GET", "/admin/v1/binding-delays?uuid=" + user, "", who{UUID: user}},
		{"POST", "/admin/v1/signing-keys/" + kid + "/retire", `{}`, who{KID: kid}},
		{"DELETE", "/admin/v1/service-keys/" + keyID, "", who{Key: keyID}},
		{"DELETE", "/admin/v1/service-keys/" + strings.Repeat("x", 44), "", who{}},
		{"DELETE", "/admin/v1/sessions/" + session, "", who{Session: session}},
		{"POST", "/admin/v1/revocations", `{"token":"` + other.Doc.AccessToken + `"}`, who{Session: sid(t, other.Doc.AccessToken)}},
		{"POST", "/admin/v1/revocations", `{"uuid":"` + user + `"}`, who{UUID: user}},
		{"POST", "/admin/v1/revocations", `{"person":"` + unknown + `"}`, who{Person: unknown}},
		{"POST", "/admin/v1/revocations", `{"app":"` + s.app + `"}`, who{App: s.app}},
		{"POST", "/admin/v1/revocations", `{"all":true}`, who{All: true}},
	} {
		a := s.admins(tc.method, tc.path, tc.body)
		if got := p.about(a); got != tc.want {
			t.Errorf("%s %s (%d %s): the log line is about %+v, want %+v", tc.method, tc.path, a.Status, a.code(), got, tc.want)
		}
	}
	// The session that a log-in began before the last two died with its app.
	s.logIn("three")
	last := s.logIn("three")
	revoked := s.admins("POST", "/admin/v1/revocations", `{"app":"`+s.app+`"}`).want(s, 200, "")
	gone := s.admins("GET", "/admin/v1/sessions/"+sid(t, last.Doc.AccessToken), "").want(s, 200, "")
	if member(s, gone, "end_reason") != "app_revoked" || member(s, gone, "ended_at") > member(s, revoked, "effective_by") {
		t.Errorf("the session says %s, the revocation %s", gone.Body, revoked.Body)
	}
}

// serviceKeyOf makes a service key over the admin API.
func (s *service) serviceKeyOf(scope string) string {
	s.t.Helper()
	a := s.admins("POST", "/admin/v1/service-keys", `{"name":"a test","scope":"`+scope+`"}`).want(s, http.StatusCreated, "")
	return member(s, a, "key")
}
