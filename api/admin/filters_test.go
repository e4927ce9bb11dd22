package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// A search with an empty value must not find all persons: the caller would take the
// first for the wanted one.
func TestEmptyFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	w.person(t, w.client(t, "admin"), "1")
	w.Login("alice")
	key := w.key(t, "read openid").Key().Reveal()
	for _, target := range []string{
		"persons?external_id=", "persons?phone=", "persons?name=", "persons?external_id=&phone=%2B8613800001002",
		"identities?openid=", "identities?unionid=", "identities?app=",
		"identities?person=" + uuid.Nil.String(), "binding-delays?person=" + uuid.Nil.String(),
	} {
		w.do(t, http.MethodGet, "/admin/v1/"+target, key, "", "").want(t, 400, auth.InvalidRequest)
	}
}

func TestErrorsNameParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	key := w.key(t, "read admin").Key().Reveal()
	for target, want := range map[string]string{
		"GET persons?phonne=1":              "The query has an unknown parameter phonne. Allowed parameters: cursor, external_id, limit, name, phone.",
		"GET persons?1380000100213800001=1": "The query has an unknown parameter. Allowed parameters:",
		"GET persons?limit=x":               "The parameter limit has an invalid value.",
		"GET persons?name=":                 "The parameter name is empty; leave it out.",
		"GET persons?limit=1&limit=2":       "The parameter limit is repeated.",
		"GET persons?name=%zz":              "The query is not validly URL-encoded.",
		"GET sessions/%00":                  "The parameter id has an invalid value.",
		"GET identities?uuid=x":             "The parameter uuid has an invalid value.",
		"GET sessions/x":                    "The parameter id has an invalid value.",
		"GET apps/wx1?x=1":                  "The query has an unknown parameter x. No parameter is allowed.",
		"POST revocations {\"usid\":1}":     "The body has an unknown member usid. Allowed members: all, app, person, reason, session, token, uuid.",
		"POST revocations {\"uuid\":\"x\"}": "The member uuid has an invalid value.",
	} {
		method, rest, _ := strings.Cut(target, " ")
		path, body, _ := strings.Cut(rest, " ")
		contentType := ""
		if body != "" {
			contentType = "application/json"
		}
		a := w.do(t, method, "/admin/v1/"+path, key, contentType, body)
		if detail, _ := a.members(t)["detail"].(string); a.Status != 400 || !strings.HasPrefix(detail, want) {
			t.Errorf("%s: got %d %q, want %q", target, a.Status, detail, want)
		}
	}
}

// A query that Go's parser reads only in part would turn a dry run into an import.
func TestDryRunMalformed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	key := w.key(t, "admin").Key().Reveal()
	for _, query := range []string{"dry_run=true;reason=x", "dry_run=true&dry_run=false", "dry_run=%zz", "dry_run=maybe", "dry_run="} {
		a := w.do(t, http.MethodPost, "/admin/v1/persons/import?"+query, key, "application/x-ndjson", `{"external_id":"1"}`)
		a.want(t, 400, auth.InvalidRequest)
	}
	a := w.do(t, http.MethodGet, "/admin/v1/persons", w.key(t, "read").Key().Reveal(), "", "")
	if all, _ := a.members(t)["persons"].([]any); a.Status != 200 || len(all) != 0 {
		t.Errorf("GET persons answers %d %s, want no persons", a.Status, a.Body)
	}
}

func TestNotFoundDetail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	key := w.key(t, "read admin").Key().Reveal()
	unknown := uuid.Must(uuid.NewV7()).String()
	for target, want := range map[string]string{
		`POST revocations {"token":"x"}`:                                    "This is not a token of this server, or its session is no longer stored.",
		`POST revocations {"token":"yfr_x"}`:                                "This is not a token of this server, or its session is no longer stored.",
		`POST revocations {"uuid":"` + unknown + `"}`:                       "The target of the revocation does not exist.",
		`GET sessions/` + unknown:                                           "No session has this id, or it is no longer stored.",
		`GET persons/` + unknown:                                            "",
		`GET identities/` + unknown:                                         "",
		`GET identities/` + unknown + `/sessions`:                           "",
		`GET apps/wxunknown`:                                                "",
		`DELETE service-keys/unknown`:                                       "No service key has this id.",
		`POST identities/` + unknown + `/bind {"person":"` + unknown + `"}`: "",
	} {
		method, rest, _ := strings.Cut(target, " ")
		path, body, _ := strings.Cut(rest, " ")
		contentType := ""
		if body != "" {
			contentType = "application/json"
		}
		a := w.do(t, method, "/admin/v1/"+path, key, contentType, body)
		m := a.members(t)
		detail, _ := m["detail"].(string)
		if a.Status != 404 || m["code"] != "not_found" || detail == "" || want != "" && detail != want || strings.Contains(m["title"].(string), "address") {
			t.Errorf("%s: got %d %s, want %q", target, a.Status, a.Body, want)
		}
	}
}

func TestPhonePlusInQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	key := w.key(t, "read").Key().Reveal()
	one := "1"
	resp, err := w.client(t, "admin").CreatePerson(t.Context(), adminclient.NewPerson{ExternalID: &one, Phone: ptr("13800001001")})
	succeed(t, resp, err)
	for _, phone := range []string{"+8613800001001", "%2B8613800001001", "13800001001"} {
		a := w.do(t, http.MethodGet, "/admin/v1/persons?phone="+phone, key, "", "")
		if all, _ := a.members(t)["persons"].([]any); a.Status != 200 || len(all) != 1 {
			t.Errorf("%s: GET /admin/v1/persons: status and body = %d %s, want 200", phone, a.Status, a.Body)
		}
	}
}
