package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// business is an app's back end that answers its webhook. The service is configured to
// trust its certificate.
type business struct {
	*httptest.Server
	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []string
}

func newBusiness(t *testing.T) *business {
	t.Helper()
	b := &business{}
	b.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		answer := b.answer
		b.asked = append(b.asked, r.Header.Get("Webhook-Signature")+" "+string(body))
		b.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

// answerWith sets the body of the next answers.
func (b *business) answerWith(body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// trust makes the services that start afterwards call the business back end.
func (d *deployment) trust(b *business) {
	d.t.Helper()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw})
	d.env["SSL_CERT_FILE"] = d.file("ca.pem", string(certificate))
	d.env["YUFU_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
}

// binder is a deployment whose users bind their identities.
type binder struct {
	*service
	d        *deployment
	p        *process
	business *business
	n        int // number of persons and users so far
}

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// policy sets the policy of the tests, with some members changed.
func (b *binder) policy(change string) {
	b.t.Helper()
	var p map[string]any
	for _, text := range []string{`{"methods":["facts","phone","ticket","webhook"],"facts":{"lookup":"employee_no","check":["name"]},
		"webhook":{"url":"` + b.business.URL + `/bind"},"self_unbind":true}`, change} {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			b.t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"policy": p})
	if err != nil {
		b.t.Fatal(err)
	}
	b.admins("PATCH", "/admin/v1/apps/"+testApp, string(text)).want(b.service, 200, "")
}

// person is a person that the business knows.
type person struct{ ID, number, name, phone string }

func (b *binder) person() person {
	b.t.Helper()
	b.n++
	p := person{number: fmt.Sprint("E-", b.n), name: fmt.Sprint("甲", b.n), phone: fmt.Sprintf("138%08d", b.n)}
	a := b.admins("POST", "/admin/v1/persons", fmt.Sprintf(`{"external_id":%q,"name":%q,"phone":%q,"facts":{"employee_no":%q,"name":%q}}`,
		p.number, p.name, p.phone, p.number, p.name)).want(b.service, 201, "")
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil || p.ID == "" {
		b.t.Fatalf("the answer %s is not JSON: %v", a.Body, err)
	}
	return p
}

// user logs a new user in.
func (b *binder) user() (name string, login *answer) {
	b.t.Helper()
	b.n++
	name = fmt.Sprint("user", b.n)
	return name, b.logIn(name).want(b.service, 200, "")
}

// call sends a request to /v1/binding.
func (s *service) call(method, token, body string) *answer {
	s.t.Helper()
	return s.must(s.tryCall(method, "", token, body))
}

// preview asks for the person to whom a ticket would bind.
func (s *service) preview(token, ticket string) *answer {
	s.t.Helper()
	return s.must(s.tryCall("POST", "/preview", token, fmt.Sprintf(`{"ticket":%q}`, ticket)))
}

func (s *service) tryCall(method, rest, token, body string) (*answer, error) {
	req, err := http.NewRequest(method, s.base+"/v1/binding"+rest, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return s.do(req)
}

// mint returns a ticket for the person with this id.
func (s *service) mint(person string) string {
	s.t.Helper()
	a := s.admins("POST", "/admin/v1/persons/"+person+"/bind-tickets", "").want(s, 201, "")
	var t struct{ Ticket string }
	if err := json.Unmarshal([]byte(a.Body), &t); err != nil || t.Ticket == "" || len(t.Ticket) > 32 {
		s.t.Fatalf("the answer %s is not JSON: %v", a.Body, err)
	}
	return t.Ticket
}

func (b *binder) facts(token string, number, name string) *answer {
	b.t.Helper()
	return b.call("POST", token, fmt.Sprintf(`{"method":"facts","fields":{"employee_no":%q,"name":%q}}`, number, name))
}

func (b *binder) phone(token, user, phone string) *answer {
	b.t.Helper()
	a := b.must(b.sim.post("/sim/phone-codes", map[string]string{"user": user, "phone": phone}))
	return b.call("POST", token, fmt.Sprintf(`{"method":"phone","code":%q}`, a.Doc.Code))
}

func (b *binder) ticket(token, ticket string) *answer {
	b.t.Helper()
	return b.call("POST", token, fmt.Sprintf(`{"method":"ticket","ticket":%q}`, ticket))
}

// wantBound fails the test unless the answer and the endpoints show that the user is
// bound to the person, and that the earlier access token is refused.
func (b *binder) wantBound(login, a *answer, p person) *answer {
	b.t.Helper()
	a.want(b.service, 200, "")
	if !a.Doc.Bound || !strings.Contains(a.Body, `"external_id":"`+p.number+`"`) {
		b.t.Fatalf("the binding answers %s, want %s", a.Body, p.number)
	}
	b.me(login.Doc.AccessToken).want(b.service, 401, "session_revoked")
	me := b.me(a.Doc.AccessToken).want(b.service, 200, "")
	next := b.refresh(login.Doc.RefreshToken).want(b.service, 200, "")
	for _, x := range []*answer{me, next} {
		if x.Doc.UUID != login.Doc.UUID || !strings.Contains(x.Body, `"external_id":"`+p.number+`"`) {
			b.t.Errorf("after the binding /v1/me answers %s", x.Body)
		}
	}
	return next
}

// personal matches the data of a [person] that no log may contain. Phones and numbers
// are matched as whole words: a long log contains any digits within identifiers, and
// one key in six hundred has a text like E-1 in its kid.
var personal = regexp.MustCompile(`\b(86)?13[89]\d{8}\b|甲\d+|\bE-\d+\b`)

// auditOf returns the audit trail of a PostgreSQL database as text.
func auditOf(t *testing.T, dsn string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var all string
	if err := conn.QueryRow(t.Context(), `
select string_agg(row::text, E'\n') from (select a.*, v.value from audit a left join audit_values v on v.audit_id = a.id) row`).Scan(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// wantNothingPersonal fails the test if the log, the metrics or the audit trail contain
// [personal] data. It returns the audit trail, which is empty for SQLite: db/storetest
// checks what both stores write.
func wantNothingPersonal(t *testing.T, p *process, s *service, databaseURL string) (audit string) {
	t.Helper()
	if !strings.HasPrefix(databaseURL, "sqlite:") {
		audit = auditOf(t, databaseURL)
	}
	for what, text := range map[string]string{
		"log": p.stderr.String() + p.stdout.String(), "metrics": s.must(s.get(s.admin+"/metrics", "")).Body, "audit trail": audit,
	} {
		if found := personal.FindString(text); found != "" {
			t.Errorf("the %s contains %s", what, found)
		}
	}
	return audit
}

func TestBinding(t *testing.T) {
	t.Parallel()
	for store, database := range map[string]func(t *testing.T) string{
		"PostgreSQL": func(t *testing.T) string { return pgtest.Empty(t) },
		"SQLite":     func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "yufu.db") },
	} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			url := database(t)
			d := deploy(h, url)
			b := &binder{d: d, business: newBusiness(t)}
			h.secret("a webhook secret", webhookSecret)
			d.trust(b.business)
			b.p, b.service = d.serve("yufu", "--migrate")
			d.addApp()
			b.adminKey = d.serviceKey("admin")
			h.mustRun(d.env, `{"methods":["ticket"]}`, "app", "update", testApp, "--policy-file", "-",
				"--webhook-secret-file", h.file("webhook.secret", webhookSecret+"\n"))
			if shown := h.mustRun(d.env, "", "app", "show", testApp); !strings.Contains(shown, `"ticket"`) || !strings.Contains(shown, `"webhook_secret": true`) {
				t.Errorf("yufu app show prints %s", shown)
			}
			b.policy(`{}`)
			for _, c := range bindingCases {
				t.Run(c.name, func(t *testing.T) {
					sub := *b
					sub.service, sub.n = b.in(t), b.n
					c.run(&sub)
					b.n = sub.n
					b.policy(`{}`)
				})
			}
			// Admins search by personal data, and are refused.
			known := b.person()
			b.admins("GET", "/admin/v1/persons?phone="+known.phone, "").contains(b.service, known.ID)
			b.admins("POST", "/admin/v1/persons", `{"external_id":"another","phone":"`+known.phone+`"}`).want(b.service, 409, "person_conflict")
			b.admins("PATCH", "/admin/v1/persons/"+known.ID, `{"phone":"13900000000"}`).want(b.service, 200, "")
			audit := wantNothingPersonal(t, b.p, b.service, url)
			if masked := "+86139****5678"; audit != "" && !strings.Contains(audit, masked) {
				t.Errorf("the audit trail does not contain %s", masked)
			}
		})
	}
}

var bindingCases = []struct {
	name string
	run  func(b *binder)
}{
	{"binding by facts binds the user to the person, and unbinding ends it", func(b *binder) {
		p := b.person()
		_, login := b.user()
		view := b.call("GET", login.Doc.AccessToken, "").want(b.service, 200, "")
		if view.Doc.Bound || !strings.Contains(view.Body, `{"method":"facts","fields":["employee_no","name"]}`) {
			b.t.Errorf("before the binding GET /v1/binding answers %s", view.Body)
		}
		next := b.wantBound(login, b.facts(login.Doc.AccessToken, " "+strings.ToLower(p.number), p.name), p)
		if view := b.call("GET", next.Doc.AccessToken, "").want(b.service, 200, ""); !view.Doc.Bound {
			b.t.Errorf("after the binding GET /v1/binding answers %s", view.Body)
		}
		unbound := b.call("DELETE", next.Doc.AccessToken, "").want(b.service, 200, "")
		if unbound.Doc.Bound || unbound.Doc.AccessToken == "" {
			b.t.Errorf("the unbinding answers %s", unbound.Body)
		}
		b.me(next.Doc.AccessToken).want(b.service, 401, "session_revoked")
		if a := b.refresh(next.Doc.RefreshToken).want(b.service, 200, ""); a.Doc.Bound {
			b.t.Errorf("the refresh after the unbinding answers %s", a.Body)
		}
	}},
	{"binding by facts ignores differences in the spelling of a name", func(b *binder) {
		p := b.person()
		name := p.name + "·艾力"
		b.admins("PATCH", "/admin/v1/persons/"+p.ID, fmt.Sprintf(`{"facts":{"name":%q}}`, "\u202a"+p.name+"\u3000• 艾力\u202c")).want(b.service, 200, "")
		_, login := b.user()
		token := login.Doc.AccessToken
		for _, typed := range []string{name, p.name + "・艾力", p.name + "．艾力", p.name + ".艾力\u200b", p.name + "‧艾力", p.name + "･艾力", p.name + "。艾力"} {
			a := b.facts(token, strings.ReplaceAll(p.number, "-", "－")+"\u200e", typed).want(b.service, 200, "")
			if a.Doc.AccessToken != "" {
				token = a.Doc.AccessToken
			}
		}
	}},
	{"all wrong facts get the same answer, and then the user has to wait", func(b *binder) {
		p, other := b.person(), b.person()
		_, login := b.user()
		var bodies []string
		for _, c := range [][2]string{{p.number, other.name}, {"E-404", p.name}, {p.name, p.number}, {"E-405", "x"}, {"E-406", "x"}} {
			a := b.facts(login.Doc.AccessToken, c[0], c[1]).want(b.service, 422, "binding_no_match")
			bodies = append(bodies, strings.ReplaceAll(a.Body, a.Doc.RequestID, ""))
		}
		for _, body := range bodies {
			if body != bodies[0] {
				b.t.Errorf("the refusals differ: %s and %s", bodies[0], body)
			}
		}
		a := b.facts(login.Doc.AccessToken, p.number, p.name).want(b.service, 429, "binding_delayed")
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 30 {
			b.t.Errorf("Retry-After = %q", a.Header.Get("Retry-After"))
		}
		// Only this user has to wait.
		_, honest := b.user()
		b.wantBound(honest, b.facts(honest.Doc.AccessToken, p.number, p.name), p)
	}},
	{"malformed requests are refused without a delay", func(b *binder) {
		_, login := b.user()
		for _, body := range []string{
			`{}`, `{"method":"password"}`, `{"method":"facts"}`, `{"method":"facts","fields":{"employee_no":"1"}}`,
			`{"method":"facts","fields":{"employee_no":1,"name":"x"}}`, `{"method":"phone"}`, `{"method":"ticket"}`, `[]`, `x`,
		} {
			b.call("POST", login.Doc.AccessToken, body).want(b.service, 400, "invalid_request")
		}
	}},
	{"binding by phone finds the person with the number from WeChat", func(b *binder) {
		p := b.person()
		user, login := b.user()
		b.phone(login.Doc.AccessToken, "mallory", p.phone).want(b.service, 400, "phone_code_invalid")
		b.phone(login.Doc.AccessToken, user, "13912345678").want(b.service, 422, "binding_no_match")
		b.sim.fault(map[string]any{"errcode": -1, "count": 1, "path": "/wxa/business/getuserphonenumber"})
		b.phone(login.Doc.AccessToken, user, p.phone).want(b.service, 503, "platform_unavailable")
		b.wantBound(login, b.phone(login.Doc.AccessToken, user, p.phone), p)
	}},
	{"binding by phone creates a person where the policy allows it", func(b *binder) {
		b.policy(`{"phone":{"create":true}}`)
		user, login := b.user()
		a := b.phone(login.Doc.AccessToken, user, "13912345678").want(b.service, 200, "")
		if !a.Doc.Bound {
			b.t.Errorf("POST /v1/binding: body = %s, want bound", a.Body)
		}
		other := b.phone(a.Doc.AccessToken, user, "13912340000").want(b.service, 409, "already_bound")
		if !strings.Contains(other.Body, "another phone number") {
			b.t.Errorf("the answer does not say why: %s", other.Body)
		}
		if me := b.me(a.Doc.AccessToken).want(b.service, 200, ""); !me.Doc.Bound {
			b.t.Errorf("after the binding /v1/me answers %s", me.Body)
		}
	}},
	{"a ticket binds one user, who may send it twice", func(b *binder) {
		p := b.person()
		ticket := b.mint(p.ID)
		_, login := b.user()
		// An old client sends the ticket in the URL. It is refused, and is in no log.
		b.must(b.get(b.base+"/v1/binding?ticket="+ticket, login.Doc.AccessToken)).want(b.service, 400, "invalid_request")
		preview := b.preview(login.Doc.AccessToken, ticket).want(b.service, 200, "")
		if strings.Contains(preview.Body, p.name) || !strings.Contains(preview.Body, `"name":"甲*`) {
			b.t.Errorf("the preview is %s", preview.Body)
		}
		next := b.wantBound(login, b.ticket(login.Doc.AccessToken, ticket), p)
		b.ticket(next.Doc.AccessToken, ticket).want(b.service, 200, "")
		_, other := b.user()
		b.ticket(other.Doc.AccessToken, ticket).want(b.service, 422, "ticket_invalid")
		b.ticket(other.Doc.AccessToken, strings.Repeat("A", 27)).want(b.service, 422, "ticket_invalid")
		b.preview(other.Doc.AccessToken, ticket).want(b.service, 422, "ticket_invalid")
	}},
	{"binding by webhook asks the business, whose message reaches the user", func(b *binder) {
		p := b.person()
		_, login := b.user()
		bind := func() *answer {
			b.t.Helper()
			return b.call("POST", login.Doc.AccessToken, `{"method":"webhook","fields":{"badge":"B-1"}}`)
		}
		b.business.answerWith(`{"refused":{"user_message":"工号不存在，请联系人事"}}`)
		if a := bind().want(b.service, 403, "webhook_refused"); !strings.Contains(a.Body, `"user_message":"工号不存在，请联系人事"`) {
			b.t.Errorf("POST /v1/binding: body = %s, want the user_message of the webhook", a.Body)
		}
		b.business.answerWith(`nonsense`)
		bind().want(b.service, 503, "webhook_unavailable")
		b.business.answerWith(fmt.Sprintf(`{"person":{"external_id":%q,"name":%q}}`, p.number, p.name))
		b.wantBound(login, bind(), p)
		if last := b.business.asked[len(b.business.asked)-1]; !strings.HasPrefix(last, "v1,") || !strings.Contains(last, `"badge":"B-1"`) || !strings.Contains(last, login.Doc.UUID) {
			b.t.Errorf("the business was asked %s", last)
		}
	}},
	{"a second identity is refused or joins, as the policy says", func(b *binder) {
		p := b.person()
		_, first := b.user()
		kept := b.wantBound(first, b.facts(first.Doc.AccessToken, p.number, p.name), p)
		_, second := b.user()
		b.facts(second.Doc.AccessToken, p.number, p.name).want(b.service, 409, "person_taken")
		b.policy(`{"second_identity":"join"}`)
		b.wantBound(second, b.facts(second.Doc.AccessToken, p.number, p.name), p)
		b.me(kept.Doc.AccessToken).want(b.service, 200, "")
	}},
	{"a binding that replaces an identity ends its sessions at every validator", func(b *binder) {
		b.policy(`{"second_identity":"replace"}`)
		back := b.backEnd("orders", b.base, b.d.serviceKey("service"))
		p := b.person()
		_, first := b.user()
		kept := b.wantBound(first, b.facts(first.Doc.AccessToken, p.number, p.name), p)
		if status := back.status("/orders", kept.Doc.AccessToken); status != http.StatusOK {
			b.t.Errorf("before the binding the back end answers %d", status)
		}
		_, second := b.user()
		b.wantBound(second, b.facts(second.Doc.AccessToken, p.number, p.name), p)
		b.me(kept.Doc.AccessToken).want(b.service, 401, "session_revoked")
		b.refresh(kept.Doc.RefreshToken).want(b.service, 400, "session_revoked")
		for _, token := range []string{kept.Doc.AccessToken, first.Doc.AccessToken, second.Doc.AccessToken} {
			b.eventually("the back end refuses the old token", func() bool { return back.status("/orders", token) == http.StatusUnauthorized })
		}
	}},
	{"a method that the policy does not allow is refused for every user", func(b *binder) {
		p, q := b.person(), b.person()
		_, login := b.user()
		b.policy(`{"methods":["facts"],"self_unbind":false}`)
		next := b.wantBound(login, b.facts(login.Doc.AccessToken, p.number, p.name), p)
		b.facts(next.Doc.AccessToken, q.number, q.name).want(b.service, 409, "already_bound")
		b.call("DELETE", next.Doc.AccessToken, "").want(b.service, 403, "unbind_forbidden")
		b.call("POST", next.Doc.AccessToken, `{"method":"ticket","ticket":"`+strings.Repeat("A", 27)+`"}`).want(b.service, 403, "binding_method_disabled")
		b.admins("POST", "/admin/v1/persons/"+q.ID+"/disable", "")
		_, other := b.user()
		b.facts(other.Doc.AccessToken, q.number, q.name).want(b.service, 403, "person_disabled")
	}},
	{"concurrent bindings of two users have the policy's outcome", func(b *binder) {
		p := b.person()
		_, first := b.user()
		_, second := b.user()
		codes := make(chan int, 2)
		var wg sync.WaitGroup
		for _, login := range []*answer{first, second} {
			wg.Go(func() {
				a, err := b.tryCall("POST", "", login.Doc.AccessToken, fmt.Sprintf(`{"method":"facts","fields":{"employee_no":%q,"name":%q}}`, p.number, p.name))
				if err != nil {
					a = &answer{}
				}
				codes <- a.Status
			})
		}
		wg.Wait()
		if one, two := <-codes, <-codes; one+two != 200+409 {
			b.t.Errorf("the two requests are answered with %d and %d", one, two)
		}
	}},
}

// The examples of binding need this.

func setPolicyOfExamples(d *deployment, erp *business) {
	d.t.Helper()
	erp.answerWith(`{"refused":{"user_message":"该学号已毕业，请联系教务处。"}}`)
	d.secret("a webhook secret", webhookSecret)
	d.mustRun(d.env, `{"methods":["facts","ticket","webhook"],"facts":{"lookup":"employee_no","check":["name"]},"webhook":{"url":"`+erp.URL+`"},"self_unbind":true}`,
		"app", "update", testApp, "--policy-file", "-", "--webhook-secret-file", d.file("webhook.secret", webhookSecret))
}

// bindingOf sends a request to /v1/binding for the user of an answer with tokens.
func (s *service) bindingOf(user *answer, method, body string) *answer {
	s.t.Helper()
	return s.call(method, user.Doc.AccessToken, body)
}

// newPerson creates a person and returns its id.
func (s *service) newPerson(name string) string {
	s.t.Helper()
	a := s.admins("POST", "/admin/v1/persons", `{"name":"`+name+`"}`).want(s, 201, "")
	var p struct{ ID string }
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		s.t.Fatal(err)
	}
	return p.ID
}

func (s *service) mintFor(name string) string { return s.mint(s.newPerson(name)) }

func (s *service) bindByTicket(user string) *answer {
	s.t.Helper()
	return s.bindingOf(s.logIn(user), "POST", `{"method":"ticket","ticket":"`+s.mintFor("李雷")+`"}`)
}

// guess fails the given number of times and returns the last answer.
func (s *service) guess(user string, times int) (a *answer) {
	s.t.Helper()
	login := s.logIn(user)
	for i := range times {
		a = s.bindingOf(login, "POST", fmt.Sprintf(`{"method":"facts","fields":{"employee_no":"%s-%d","name":"x"}}`, user, i))
	}
	return a
}
