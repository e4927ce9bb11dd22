package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// subject is the user, session and other ids in a log line.
type subject struct {
	App     string `json:"app"`
	UUID    string `json:"uuid"`
	Session string `json:"session"`
	Person  string `json:"person"`
	KID     string `json:"kid"`
	Key     string `json:"key"`
	All     bool   `json:"all"`
}

// subjectOf returns the subject in the log line of an answer's request.
func (p *process) subjectOf(a *answer) (w subject) {
	p.h.t.Helper()
	id := a.Header.Get("X-Request-Id")
	p.await(p.stderr, "the log line of the request "+id, func(text string) bool {
		for line := range strings.Lines(text) {
			var l struct {
				subject
				RequestID string `json:"request_id"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.RequestID == id {
				w = l.subject
				return true
			}
		}
		return false
	})
	return w
}

// sid returns the session of an access token.
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

// TestRefusalSubjects checks that the log line of a refusal has the user, the session and
// the app as soon as they are proven, and nothing that a client only claims.
func TestRefusalSubjects(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p, s := h.dev("yufu dev", t.TempDir())
	whole := func(login *answer) subject {
		return subject{App: s.app, UUID: login.Doc.UUID, Session: sid(t, login.Doc.AccessToken)}
	}
	want := func(t *testing.T, a *answer, code string, w subject) {
		t.Helper()
		if a.code() != code {
			t.Errorf("the answer is %d %s, want %s", a.Status, a.Body, code)
		}
		if got := p.subjectOf(a); got != w {
			t.Errorf("%s: the log line has the subject %+v, want %+v", code, got, w)
		}
	}
	revoke := func(body string) *answer { return s.admins("POST", "/admin/v1/revocations", body).want(s, 200, "") }

	t.Run("a refresh token with a valid MAC names its subject", func(t *testing.T) {
		login := s.logIn("reuse")
		first := login.Doc.RefreshToken
		second := s.refresh(first).Doc.RefreshToken
		s.refresh(second)
		want(t, s.refresh(first), "refresh_reused", whole(login))
		want(t, s.refresh(second), "session_revoked", whole(login))
		want(t, s.must(s.post(s.base+"/oauth2/token", "grant_type", "refresh_token", "client_id", "wxunknown", "refresh_token", first)), "app_unknown", subject{Session: whole(login).Session})
	})
	t.Run("an account that the platform confirmed is named", func(t *testing.T) {
		login := s.logIn("banned")
		s.admins("POST", "/admin/v1/identities/"+login.Doc.UUID+"/disable", "").want(s, 200, "")
		want(t, s.must(s.tryExchange("banned")), "identity_disabled", subject{App: s.app, UUID: login.Doc.UUID})
	})
	t.Run("an access token with a valid signature names its subject", func(t *testing.T) {
		login := s.logIn("ended")
		access := login.Doc.AccessToken
		revoke(`{"uuid":"` + login.Doc.UUID + `"}`)
		want(t, s.me(access), "session_revoked", whole(login))
		want(t, s.call("POST", access, `{"method":"facts","fields":{}}`), "session_revoked", whole(login))
		want(t, s.verify("", access), "session_revoked", whole(login))
		want(t, s.introspect(s.serviceKeyOf("service"), access), "", whole(login))
		want(t, s.must(s.tryLogout(access)), "", whole(login))
		want(t, s.must(s.tryLogout(login.Doc.RefreshToken)), "", subject{Session: whole(login).Session})
	})
	t.Run("a valid token that does not meet the requirements names its subject", func(t *testing.T) {
		login := s.logIn("unbound")
		access := login.Doc.AccessToken
		want(t, s.verify("?bound=required", access), "person_required", whole(login))
		want(t, s.verify("?aud=https://other.example.com", access), "token_invalid", whole(login))
		want(t, s.call("POST", access, `{"method":"webhook","fields":{}}`), "webhook_refused", whole(login))
		want(t, s.must(s.post(s.base+"/oauth2/revoke", "client_id", "wxother", "token", access)), "token_client_mismatch", whole(login))
	})
	t.Run("an unproven claim is not named", func(t *testing.T) {
		login := s.logIn("victim")
		parts := strings.Split(login.Doc.AccessToken, ".")
		forged := parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2]))
		want(t, s.me(forged), "token_invalid", subject{})
		want(t, s.verify("", forged), "token_invalid", subject{})
		want(t, s.introspect(s.serviceKeyOf("service"), forged), "", subject{})
		want(t, s.must(s.tryLogout(forged)), "", subject{})
		mangled := []byte(login.Doc.RefreshToken)
		if middle := &mangled[len(mangled)/2]; *middle == 'A' {
			*middle = 'B'
		} else {
			*middle = 'A'
		}
		want(t, s.refresh(string(mangled)), "refresh_invalid", subject{})
		want(t, s.must(s.post(s.base+"/oauth2/token", "grant_type", codeGrant, "client_id", "wxunknown", "code", "c")), "app_unknown", subject{})
	})
}

// TestAdminCallTargets checks that the log line of an admin request names its target.
func TestAdminCallTargets(t *testing.T) {
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
		want               subject
	}{
		{"GET", "/admin/v1/identities/" + user, "", subject{UUID: user}},
		{"GET", "/admin/v1/identities/" + unknown, "", subject{UUID: unknown}},
		{"GET", "/admin/v1/identities?uuid=" + user, "", subject{UUID: user}},
		{"GET", "/admin/v1/identities?app=" + s.app + "&person=" + person, "", subject{App: s.app, Person: person}},
		{"GET", "/admin/v1/identities/" + user + "/sessions", "", subject{UUID: user}},
		{"POST", "/admin/v1/identities/" + user + "/bind", `{"person":"` + person + `"}`, subject{UUID: user, Person: person}},
		{"POST", "/admin/v1/identities/" + user + "/unbind", "", subject{UUID: user}},
		{"GET", "/admin/v1/sessions/" + session, "", subject{Session: session}},
		{"GET", "/admin/v1/persons/" + person, "", subject{Person: person}},
		{"POST", "/admin/v1/persons/" + person + "/bind-tickets", `{"app":"` + s.app + `"}`, subject{Person: person, App: s.app}},
		{"GET", "/admin/v1/apps/" + s.app, "", subject{App: s.app}},
		{"GET", "/admin/v1/binding-delays?uuid=" + user, "", subject{UUID: user}},
		{"POST", "/admin/v1/signing-keys/" + kid + "/retire", `{}`, subject{KID: kid}},
		{"DELETE", "/admin/v1/service-keys/" + keyID, "", subject{Key: keyID}},
		{"DELETE", "/admin/v1/service-keys/" + strings.Repeat("x", 44), "", subject{}},
		{"DELETE", "/admin/v1/sessions/" + session, "", subject{Session: session}},
		{"POST", "/admin/v1/revocations", `{"token":"` + other.Doc.AccessToken + `"}`, subject{Session: sid(t, other.Doc.AccessToken)}},
		{"POST", "/admin/v1/revocations", `{"uuid":"` + user + `"}`, subject{UUID: user}},
		{"POST", "/admin/v1/revocations", `{"person":"` + unknown + `"}`, subject{Person: unknown}},
		{"POST", "/admin/v1/revocations", `{"app":"` + s.app + `"}`, subject{App: s.app}},
		{"POST", "/admin/v1/revocations", `{"all":true}`, subject{All: true}},
	} {
		a := s.admins(tc.method, tc.path, tc.body)
		if got := p.subjectOf(a); got != tc.want {
			t.Errorf("%s %s (%d %s): the log line has the subject %+v, want %+v", tc.method, tc.path, a.Status, a.code(), got, tc.want)
		}
	}
	// The revocation of the app also ended the earlier session.
	s.logIn("three")
	last := s.logIn("three")
	revoked := s.admins("POST", "/admin/v1/revocations", `{"app":"`+s.app+`"}`).want(s, 200, "")
	gone := s.admins("GET", "/admin/v1/sessions/"+sid(t, last.Doc.AccessToken), "").want(s, 200, "")
	if member(s, gone, "end_reason") != "app_revoked" || member(s, gone, "ended_at") > member(s, revoked, "effective_by") {
		t.Errorf("the session answers %s, the revocation %s", gone.Body, revoked.Body)
	}
}

// serviceKeyOf makes a service key over the admin API.
func (s *service) serviceKeyOf(scope string) string {
	s.t.Helper()
	a := s.admins("POST", "/admin/v1/service-keys", `{"name":"a test","scope":"`+scope+`"}`).want(s, http.StatusCreated, "")
	return member(s, a, "key")
}
