package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/bearer"
)

// payloadOf returns the claims of an access token without verifying it.
func payloadOf(t *testing.T, token string) (m map[string]any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// hostileIDs are external ids, from usual ones to ones that no business should have.
var hostileIDs = []string{
	"1001-x", `E "1"\'<a&b>;--`, "工号 一〇〇一+%2F?x=1#y", "a/b:c@d, e=f", "~._-", "🀄\u2028\U0010FFFD", strings.Repeat("𠮷", 255), strings.Repeat("<", 255),
}

// TestExternalID checks that a back end gets the business's id of the person in every way
// of verifying a token.
func TestExternalID(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	dir := t.TempDir()
	_, s := h.dev("yufu dev", dir)
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	s.adminKey = strings.TrimSpace(string(key))
	serviceKey := s.serviceKeyOf("service")
	verifier, err := bearer.New(t.Context(), bearer.Config{Issuer: payloadOf(t, s.logIn("first").Doc.AccessToken)["iss"].(string), URL: s.base, ServiceKey: serviceKey, Apps: []string{s.app}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = verifier.Close() })
	// The id in a Go back end.
	inGo := func(token string) (id bearer.Identity) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		verifier.Require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { id, _ = bearer.FromContext(r.Context()) })).ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("pkg/bearer answers %d %s", w.Code, w.Body)
		}
		return id
	}
	// check compares the id of each way; "" means no id.
	check := func(t *testing.T, token, inToken, introspected string) {
		t.Helper()
		claim, there := payloadOf(t, token)["external_id"]
		if there != (inToken != "") || there && claim != inToken {
			t.Errorf("the token has the external id %v, want %q", claim, inToken)
		}
		if got := inGo(token).ExternalID; got != inToken {
			t.Errorf("pkg/bearer has the external id %q, want %q", got, inToken)
		}
		a := s.verify("", token)
		values := a.Header.Values("X-Yufu-External-Id")
		if a.Status != 200 || len(values) != min(len(inToken), 1) {
			t.Fatalf("forward-auth answers %d %q", a.Status, values)
		}
		if inToken != "" {
			decoded, err := url.PathUnescape(values[0])
			if err != nil || decoded != inToken || strings.Trim(values[0], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%") != "" {
				t.Errorf("the header is %q, decoded %q, want %q", values[0], decoded, inToken)
			}
		}
		var answer map[string]any
		if err := json.Unmarshal([]byte(s.introspect(serviceKey, token).Body), &answer); err != nil || answer["active"] != true {
			t.Fatalf("introspection answers %v, error %v", answer, err)
		}
		if id, there := answer["external_id"]; there != (introspected != "") || there && id != introspected {
			t.Errorf("introspection has the external id %v, want %q", id, introspected)
		}
	}
	// bind makes a person with the id and binds a new user.
	bind := func(t *testing.T, user, id string) (login *answer, person string) {
		t.Helper()
		body, err := json.Marshal(map[string]string{"external_id": id})
		if err != nil {
			t.Fatal(err)
		}
		person = member(s, s.admins("POST", "/admin/v1/persons", string(body)).want(s, 201, ""), "id")
		login = s.logIn(user)
		s.admins("POST", "/admin/v1/identities/"+login.Doc.UUID+"/bind", `{"person":"`+person+`"}`).want(s, 200, "")
		return login, person
	}

	t.Run("an unbound user has no external id", func(t *testing.T) {
		check(t, s.logIn("unbound").Doc.AccessToken, "", "")
	})
	for i, id := range hostileIDs {
		t.Run(fmt.Sprint("an id is passed unchanged: ", i), func(t *testing.T) {
			login, _ := bind(t, fmt.Sprint("user", i), id)
			fresh := s.refresh(login.Doc.RefreshToken).want(s, 200, "")
			check(t, fresh.Doc.AccessToken, id, id)
			check(t, s.logIn(fmt.Sprint("user", i)).Doc.AccessToken, id, id)
			again := s.refresh(login.Doc.RefreshToken).want(s, 200, "") // a replay within the grace window
			check(t, again.Doc.AccessToken, id, id)
		})
	}
	t.Run("the tokens of binding and unbinding have the change", func(t *testing.T) {
		login := s.logIn("binds")
		bound := s.call("POST", login.Doc.AccessToken, `{"method":"facts","fields":{"employee_no":"1001","name":"李雷"}}`).want(s, 200, "")
		check(t, bound.Doc.AccessToken, "1001", "1001")
		unbound := s.call("DELETE", bound.Doc.AccessToken, "").want(s, 200, "")
		check(t, unbound.Doc.AccessToken, "", "")
	})
	t.Run("an id that changes is in the next token", func(t *testing.T) {
		login, person := bind(t, "renamed", "before")
		fresh := s.refresh(login.Doc.RefreshToken).want(s, 200, "")
		s.admins("PATCH", "/admin/v1/persons/"+person, `{"external_id":"after"}`).want(s, 200, "")
		check(t, fresh.Doc.AccessToken, "before", "before")
		check(t, s.refresh(fresh.Doc.RefreshToken).want(s, 200, "").Doc.AccessToken, "after", "after")
	})
	t.Run("an id with a line break is refused", func(t *testing.T) {
		s.admins("POST", "/admin/v1/persons", `{"external_id":"a\nb"}`).want(s, 400, "invalid_request")
	})
	t.Run("the policy keeps the id out of tokens but not out of introspection", func(t *testing.T) {
		login, _ := bind(t, "hidden", "hidden-1")
		before := s.refresh(login.Doc.RefreshToken).want(s, 200, "")
		policy := s.admins("GET", "/admin/v1/apps/"+s.app, "").want(s, 200, "")
		var app struct {
			Policy map[string]any `json:"policy"`
		}
		if err := json.Unmarshal([]byte(policy.Body), &app); err != nil {
			t.Fatal(err)
		}
		app.Policy["omit_external_id"] = true
		body, _ := json.Marshal(app)
		s.admins("PATCH", "/admin/v1/apps/"+s.app, string(body)).want(s, 200, "")
		after := s.refresh(before.Doc.RefreshToken).want(s, 200, "")
		check(t, after.Doc.AccessToken, "", "hidden-1")
		check(t, s.logIn("hidden").Doc.AccessToken, "", "hidden-1")
		check(t, s.refresh(before.Doc.RefreshToken).want(s, 200, "").Doc.AccessToken, "", "hidden-1")
		check(t, before.Doc.AccessToken, "hidden-1", "hidden-1")
		bound := s.call("POST", s.logIn("hidden2").Doc.AccessToken, `{"method":"facts","fields":{"employee_no":"1001","name":"李雷"}}`).want(s, 200, "")
		check(t, bound.Doc.AccessToken, "", "1001")
	})
}
