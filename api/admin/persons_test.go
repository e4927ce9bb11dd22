package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// liLei is the body for a person with all members.
const liLei = `{"external_id":"1001","name":"李雷","phone":"13800001001","facts":{"employee_no":"1001","name":"李雷"},"attributes":{"n":12345678901234567890,"dept":"<销售>"}}`

// person makes a person over the API.
func (w *world) person(t *testing.T, c *adminclient.Client, externalID string) adminclient.Person {
	t.Helper()
	resp, err := c.CreatePerson(t.Context(), adminclient.NewPerson{ExternalID: &externalID, Name: ptr("人" + externalID)})
	return *succeed(t, resp, err)
}

// failed fails the test unless an error is the client's, of this status and code.
func failed(t *testing.T, err error, status int, code auth.Code) {
	t.Helper()
	var e *adminclient.Error
	if !errors.As(err, &e) || e.StatusCode != status || string(e.Problem.Code) != string(code) {
		t.Errorf("error = %v, want %d %s", err, status, code)
	}
}

func TestPersons(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": a person is created, read, found, changed, disabled and enabled", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			key := w.key(t, "admin openid")
			c := w.client(t, "admin openid")
			now := w.Clock.Now().Truncate(time.Microsecond)
			a := w.post(t, "/admin/v1/persons", key, liLei)
			if a.Status != http.StatusCreated || a.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("POST /admin/v1/persons: status and body = %d %s, want 201 and no-store", a.Status, a.Body)
			}
			var made adminclient.Person
			if err := json.Unmarshal([]byte(a.Body), &made); err != nil {
				t.Fatal(err)
			}
			want := adminclient.Person{
				ID: made.ID, ExternalID: "1001", Name: "李雷", Phone: ptr("+8613800001001"), Facts: []string{"employee_no", "name"},
				Attributes: json.RawMessage(`{"dept":"\u003c销售\u003e","n":12345678901234567890}`), Source: adminclient.PersonSourceAdmin,
				CreatedAt: now, UpdatedAt: now,
			}
			if d := cmp.Diff(want, made); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
			for name, query := range map[string]adminclient.PersonQuery{
				"external_id": {ExternalID: ptr("1001")}, "phone": {Phone: ptr("138 0000 1001")}, "name": {Name: ptr("李")},
			} {
				resp, err := c.ListPersons(t.Context(), query)
				if d := cmp.Diff([]adminclient.Person{want}, succeed(t, resp, err).Persons); d != "" {
					t.Errorf("found by %s (-want +got):\n%s", name, d)
				}
			}
			w.Clock.Advance(time.Hour)
			updated, err := c.UpdatePerson(t.Context(), made.ID, adminclient.PersonUpdate{
				Phone: ptr(""), Name: ptr("李蕾"), Facts: map[string]*string{"name": nil, "id_no": ptr("11010119900307123X")},
				Attributes: json.RawMessage(`{}`), Reason: "改名",
			})
			want.Phone, want.Name, want.Facts, want.Attributes = nil, "李蕾", []string{"employee_no", "id_no"}, json.RawMessage(`{}`)
			want.UpdatedAt = now.Add(time.Hour)
			if d := cmp.Diff(want, *succeed(t, updated, err)); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
			got, err := c.Person(t.Context(), made.ID)
			if d := cmp.Diff(want, *succeed(t, got, err)); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}

			g := w.Login("alice")
			bound, err := c.BindIdentity(t.Context(), g.Session.Identity, adminclient.BindIdentityRequest{Person: made.ID})
			succeed(t, bound, err)
			disabled, err := c.DisablePerson(t.Context(), made.ID, "离职")
			if !succeed(t, disabled, err).Disabled {
				t.Errorf("DisablePerson() = %+v, want it disabled", disabled)
			}
			if _, err := w.Refresh(g.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("Refresh() error = %v", err)
			}
			if w.CaughtUp.Load() != 2 {
				t.Errorf("the catch-up hook was called %d times", w.CaughtUp.Load())
			}
			// The body is missing.
			if a := w.do(t, http.MethodPost, "/admin/v1/persons/"+made.ID.String()+"/enable", key.Key().Reveal(), "", ""); a.Status != http.StatusOK || a.members(t)["disabled"] != false {
				t.Errorf("POST /admin/v1/persons/{id}/enable: status and body = %d %s, want 200 and not disabled", a.Status, a.Body)
			}
			w.Login("alice")
		})
		t.Run(kind+": another person's external_id or phone is a conflict", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			key, c := w.key(t, "admin"), w.client(t, "admin")
			w.post(t, "/admin/v1/persons", key, liLei)
			w.post(t, "/admin/v1/persons", key, liLei).want(t, 409, auth.PersonConflict)
			w.post(t, "/admin/v1/persons", key, `{"phone":"+86 138-0000-1001"}`).want(t, 409, auth.PersonConflict)
			other := w.person(t, c, "1002")
			_, err := c.UpdatePerson(t.Context(), other.ID, adminclient.PersonUpdate{ExternalID: ptr("1001")})
			failed(t, err, 409, auth.PersonConflict)
		})
		t.Run(kind+": a list has pages", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			var want, got []string
			for i := range 5 {
				want = append(want, w.person(t, c, fmt.Sprint(i)).ExternalID)
			}
			for _, p := range collect(t, c.Persons(t.Context(), adminclient.PersonQuery{Page: adminclient.Page{Limit: 2}})) {
				got = append(got, p.ExternalID)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
		})
		t.Run(kind+": a ticket is minted for a person, and the audit does not contain it", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			p := w.person(t, c, "1001")
			resp, err := c.CreateBindTicket(t.Context(), p.ID, adminclient.BindTicketForm{App: sessiontest.AppID, ExpiresIn: 120})
			ticket := succeed(t, resp, err)
			if len(ticket.Ticket) > 32 || !ticket.ExpiresAt.Equal(w.Clock.Now().Add(2*time.Minute).Truncate(time.Microsecond)) {
				t.Errorf("CreateBindTicket() = %+v, want at most 32 characters, valid for 2 minutes", ticket)
			}
			if a := w.do(t, http.MethodPost, "/admin/v1/persons/"+p.ID.String()+"/bind-tickets", w.key(t, "admin").Key().Reveal(), "", ""); a.Status != http.StatusCreated {
				t.Errorf("POST /admin/v1/persons/{id}/bind-tickets without a body: status and body = %d %s, want 201", a.Status, a.Body)
			}
			_, err = c.CreateBindTicket(t.Context(), uuid.Must(uuid.NewV7()), adminclient.BindTicketForm{})
			failed(t, err, 404, auth.NotFound)
			_, err = c.CreateBindTicket(t.Context(), p.ID, adminclient.BindTicketForm{App: "wx404"})
			failed(t, err, 404, auth.NotFound)
			disabled, err := c.DisablePerson(t.Context(), p.ID, "")
			succeed(t, disabled, err)
			_, err = c.CreateBindTicket(t.Context(), p.ID, adminclient.BindTicketForm{})
			failed(t, err, 403, auth.PersonDisabled)
		})
	}
}

func TestPersonsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	key := w.key(t, "admin")
	p := w.person(t, w.client(t, "admin"), "9")
	one := "/admin/v1/persons/" + p.ID.String()
	for name, body := range map[string]string{
		"an unknown member":                `{"external_id":"1","disabled":true}`,
		"a repeated member":                `{"external_id":"1","external_id":"2"}`,
		"an external_id of space":          `{"external_id":"  "}`,
		"a control character":              `{"name":"a\u0000"}`,
		"a malformed phone":                `{"phone":"12"}`,
		"a fact without a value":           `{"facts":{"no":""}}`,
		"a malformed name of a fact":       `{"facts":{"No!":"1"}}`,
		"facts that are a list":            `{"facts":["1"]}`,
		"attributes of a list":             `{"attributes":[1]}`,
		"attributes too long":              `{"attributes":{"a":"` + strings.Repeat("x", auth.MaxAttributesLen) + `"}}`,
		"a name too long":                  `{"name":"` + strings.Repeat("x", auth.MaxPersonNameLen+1) + `"}`,
		"a reason too long":                `{"reason":"` + strings.Repeat("x", 201) + `"}`,
		"a reason with control characters": `{"reason":"a\nb"}`,
		"an array":                         `[]`,
		"17 facts": func() string {
			var facts []string
			for i := range auth.MaxFacts + 1 {
				facts = append(facts, fmt.Sprintf(`"f%d":"1"`, i))
			}
			return `{"facts":{` + strings.Join(facts, ",") + `}}`
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.post(t, "/admin/v1/persons", key, body).want(t, 400, auth.InvalidRequest)
			w.do(t, http.MethodPatch, one, key.Key().Reveal(), "application/json", body).want(t, 400, auth.InvalidRequest)
		})
	}
	for _, query := range []string{"limit=0", "limit=1001", "cursor=x", "cursor=", "phone=1", "name=%00", "nickname=x", "limit=1&limit=2"} {
		t.Run("a list with "+query, func(t *testing.T) {
			t.Parallel()
			w.do(t, http.MethodGet, "/admin/v1/persons?"+query, key.Key().Reveal(), "", "").want(t, 400, auth.InvalidRequest)
		})
	}
	t.Run("an unknown person is not found", func(t *testing.T) {
		t.Parallel()
		none := "/admin/v1/persons/" + nowhere
		w.do(t, http.MethodGet, none, key.Key().Reveal(), "", "").want(t, 404, auth.NotFound)
		w.do(t, http.MethodPatch, none, key.Key().Reveal(), "application/json", "{}").want(t, 404, auth.NotFound)
		w.post(t, none+"/disable", key, `{}`).want(t, 404, auth.NotFound)
		w.post(t, none+"/enable", key, `{}`).want(t, 404, auth.NotFound)
		w.do(t, http.MethodGet, "/admin/v1/persons/x", key.Key().Reveal(), "", "").want(t, 400, auth.InvalidRequest)
	})
	t.Run("keys that are restricted to apps are refused", func(t *testing.T) {
		t.Parallel()
		restricted := w.key(t, "admin", sessiontest.AppID)
		for _, op := range []string{
			"GET /admin/v1/persons", "POST /admin/v1/persons", "GET " + one, "PATCH " + one, "POST " + one + "/disable", "POST " + one + "/enable",
			"GET /admin/v1/binding-delays", "DELETE /admin/v1/binding-delays/x",
			"POST " + one + "/bind-tickets",
		} {
			method, path, _ := strings.Cut(op, " ")
			w.do(t, method, path, restricted.Key().Reveal(), "application/json", "{}").want(t, 403, auth.InsufficientScope)
		}
		w.do(t, http.MethodPost, "/admin/v1/persons/import", restricted.Key().Reveal(), "application/x-ndjson", `{"external_id":"1"}`).want(t, 403, auth.InsufficientScope)
		w.post(t, one+"/bind-tickets", restricted, `{"app":"`+sessiontest.AppID+`"}`).want(t, 403, auth.InsufficientScope)
	})
}

func TestImport(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": each line is created, updated, unchanged or refused", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			key := w.key(t, "admin").Key().Reveal()
			send := func(query, body string) adminclient.ImportResult {
				t.Helper()
				a := w.do(t, http.MethodPost, "/admin/v1/persons/import"+query, key, "application/x-ndjson", body)
				var r adminclient.ImportResult
				if err := json.Unmarshal([]byte(a.Body), &r); err != nil || a.Status != http.StatusOK {
					t.Fatalf("POST /admin/v1/persons/import: status and body = %d %s, want 200", a.Status, a.Body)
				}
				return r
			}
			body := liLei + "\n" + `{"external_id":"1002","phone":"13800001001"}` + "\n\n" + `{"name":"no external_id"}` + "\r\n" +
				`{"external_id":"1003","name":"` + "\xff" + `"}` + "\n" + `{"external_id":"1004","facts":{"no":"1","old":null}}` + "\n" +
				`not JSON` + "\n" + `{"external_id":"1005","reason":"x"}` + "\n" + `{"external_id":"1004","name":"twice"}`
			codes := func(r adminclient.ImportResult) string {
				var all []string
				for _, e := range r.Errors {
					all = append(all, fmt.Sprintf("%d %s", e.Line, e.Code))
					if e.Detail == "" || strings.Contains(e.Detail, "1380000") {
						t.Errorf("detail = %q, want a text without the phone number", e.Detail)
					}
				}
				return strings.Join(all, ", ")
			}
			const refused = "2 person_conflict, 4 invalid_request, 5 invalid_request, 7 invalid_request, 8 invalid_request"
			dry := send("?dry_run=true", body)
			// The dry run detects the conflict of the second line, too.
			if dry.Created != 2 || dry.Updated != 1 || dry.Refused != 5 || codes(dry) != refused {
				t.Errorf("dry run = %+v, want 2 created, 1 updated and refused %s", dry, refused)
			}
			if found, err := w.Store.Persons(t.Context(), personQuery()); err != nil || len(found) != 0 {
				t.Errorf("the dry run wrote %v (error %v)", found, err)
			}
			r := send("?reason=HR", body)
			if r.Created != 2 || r.Updated != 1 || r.Unchanged != 0 || r.Refused != 5 || codes(r) != refused {
				t.Errorf("import = %+v, want 2 created, 1 updated and refused %s", r, refused)
			}
			r = send("", body)
			if r.Created != 0 || r.Updated != 0 || r.Unchanged != 3 || r.Refused != 5 {
				t.Errorf("the same import again = %+v, want 3 unchanged and 5 refused", r)
			}
			if r := send("", ""); r.Created+r.Refused != 0 {
				t.Errorf("an empty import = %+v, want no persons", r)
			}
		})
	}
	t.Run("a malformed import is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		key := w.key(t, "admin").Key().Reveal()
		send := func(query, mediaType, body string) answer {
			return w.do(t, http.MethodPost, "/admin/v1/persons/import"+query, key, mediaType, body)
		}
		send("", "application/json", "{}").want(t, 415, auth.UnsupportedMediaType)
		send("", "", "{}").want(t, 415, auth.UnsupportedMediaType)
		send("", "application/x-ndjson", strings.Repeat("{}\n", 1001)).want(t, 400, auth.InvalidRequest)
		send("", "application/x-ndjson", strings.Repeat(" ", 4<<20+1)).want(t, 413, auth.BodyTooLarge)
		send("?dry-run=true", "application/x-ndjson", "{}").want(t, 400, auth.InvalidRequest)
		send("?dry_run=yes", "application/x-ndjson", "{}").want(t, 400, auth.InvalidRequest)
		send("?reason=%0a", "application/x-ndjson", `{"external_id":"1"}`).want(t, 400, auth.InvalidRequest)
	})
}
