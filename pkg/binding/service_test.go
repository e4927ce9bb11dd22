package binding_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

// methods bind the user of a session to 李雷, each in its way.
var methods = map[auth.BindingMethod]func(t *testing.T, w *world, accessToken auth.Secret, user string) (binding.Grant, error){
	auth.BindFacts: func(_ *testing.T, w *world, accessToken auth.Secret, _ string) (binding.Grant, error) {
		return w.ByFacts(accessToken, " １００１", "李雷 ")
	},
	auth.BindPhone: func(_ *testing.T, w *world, accessToken auth.Secret, user string) (binding.Grant, error) {
		return w.ByPhone(accessToken, user, "13800001001")
	},
	auth.BindTicket: func(_ *testing.T, w *world, accessToken auth.Secret, _ string) (binding.Grant, error) {
		return w.ByTicket(accessToken, w.Ticket(w.LiLei))
	},
	auth.BindWebhook: func(_ *testing.T, w *world, accessToken auth.Secret, _ string) (binding.Grant, error) {
		w.AnswerWebhook(func(binding.Question) (binding.Answer, error) { return binding.Answer{ExternalID: "1001"}, nil })
		return w.Bind(binding.Request{AccessToken: accessToken, Method: auth.BindWebhook, Fields: map[string]string{"badge": "x"}})
	},
}

func TestEveryMethod(t *testing.T) {
	t.Parallel()
	if len(methods) != len(auth.BindingMethods()) {
		t.Errorf("this test knows %d methods, want the %d of auth.BindingMethods", len(methods), len(auth.BindingMethods()))
	}
	for method, bind := range methods {
		t.Run(string(method)+" binds the user and the session survives", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.Login("alice")
			before := w.CaughtUp.Load()
			bound, err := bind(t, w, g.AccessToken, "alice")
			mustBind(t, bound, err)
			if d := cmp.Diff(&w.LiLei, bound.Session.Person); d != "" {
				t.Error(d)
			}
			if w.CaughtUp.Load() == before {
				t.Error("this replica does not know its own cutoff")
			}
			claims, err := w.Verifier.Verify(t.Context(), bound.AccessToken.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			if !claims.Bound || *claims.Person != w.LiLei.ID || claims.Subject != g.Session.Identity || claims.Session != g.Session.ID || claims.Ver != g.Session.Ver+1 {
				t.Errorf("claims = %+v, want those of 李雷 with the next ver", claims)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("Authenticate() of the old access token: error = %v, want %v", err, auth.SessionRevoked)
			}
			next, err := w.Refresh(g.RefreshToken)
			if err != nil || next.Session.Person == nil || next.Session.Person.ID != w.LiLei.ID {
				t.Errorf("Refresh() with the old refresh token = person %v, %v, want 李雷", next.Session.Person, err)
			}
			if n := w.count(t, `select coalesce(sum(failures), 0) from bind_attempts`); n != 0 {
				t.Errorf("%d attempts are counted, want 0", n)
			}
		})
		t.Run(string(method)+" is refused if the policy does not allow it", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := bindingtest.Policy()
			p.Methods = nil
			for _, m := range auth.BindingMethods() {
				if m != method {
					p.Methods = append(p.Methods, m)
				}
			}
			w.SetPolicy(p)
			refused(t, auth.BindingMethodDisabled)(bind(t, w, w.Login("alice").AccessToken, "alice"))
			if n := w.count(t, `select count(*) from bind_attempts`); n != 0 {
				t.Error("a refused method counts as an attempt")
			}
		})
		t.Run(string(method)+" to a disabled person is refused", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.Login("alice")
			var ticket auth.Secret
			if method == auth.BindTicket {
				ticket = w.Ticket(w.LiLei) // no ticket can be minted for a disabled person
			}
			if _, err := w.db.Exec(`update persons set disabled_at = 1`); err != nil {
				t.Fatal(err)
			}
			if method == auth.BindTicket {
				refused(t, auth.PersonDisabled)(w.ByTicket(g.AccessToken, ticket))
				return
			}
			refused(t, auth.PersonDisabled)(bind(t, w, g.AccessToken, "alice"))
		})
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	t.Run("all wrong facts get the same answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Person("2001", "同名", "")
		shared := w.Person("2002", "乙", "")
		// Somebody imported the number of another.
		if _, err := w.db.Exec(`update person_facts set mac = (select mac from person_facts f join persons p on p.id = f.person_id where p.external_id = '2001' and f.name = 'employee_no') where person_id = ? and name = 'employee_no'`, shared.ID.String()); err != nil {
			t.Fatal(err)
		}
		// Older events have ids of keys and persons, which may contain any digits.
		before := w.count(t, `select max(id) from audit`)
		var first string
		for i, c := range []struct{ number, name string }{
			{"1001", "韩梅梅"}, {"1002", "李雷"}, {"9999", "李雷"}, {"2001", "同名"}, {"李雷", "1001"},
		} {
			_, err := w.ByFacts(w.Login("alice"+c.number+c.name).AccessToken, c.number, c.name)
			if auth.CodeOf(err) != auth.BindingNoMatch {
				t.Errorf("%v: error = %v, want %s", c, err, auth.BindingNoMatch)
			}
			if i == 0 {
				first = err.Error()
			} else if err.Error() != first {
				t.Errorf("%v: error = %q, want %q as for other facts", c, err, first)
			}
		}
		if n := w.count(t, `select count(*) from audit where action = 'binding.refused' and json_extract(detail, '$.code') = 'binding_no_match'`); n != 5 {
			t.Errorf("%d refusals are audited, want 5", n)
		}
		if n := w.count(t, `select count(*) from audit a left join audit_values v on v.audit_id = a.id
where a.id > ? and (a.detail like '%李雷%' or a.detail like '%1001%' or a.detail like '%9999%'
  or v.value like '%李雷%' or v.value like '%1001%' or v.value like '%9999%')`, before); n != 0 {
			t.Error("the audit trail holds facts")
		}
	})
	t.Run("other fields than the policy requires are malformed and not counted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		for _, fields := range []map[string]string{
			nil, {}, {"employee_no": "1001"}, {"name": "李雷"}, {"employee_no": "1001", "name": "李雷", "more": "x"},
			{"employee_no": "1001", "nom": "李雷"}, {"employee_no": "1001", "name": ""}, {"employee_no": " \t", "name": "李雷"},
			{"employee_no": "1001", "name": strings.Repeat("李", 201)}, {"employee_no": "1001", "name": "李\x00雷"},
		} {
			refused(t, auth.InvalidRequest)(w.Bind(binding.Request{AccessToken: token, Method: auth.BindFacts, Fields: fields}))
		}
		for _, r := range []binding.Request{
			{Method: "password"}, {}, {Method: auth.BindPhone}, {Method: auth.BindTicket}, {Method: auth.BindTicket, Ticket: "x", Fields: map[string]string{"a": "b"}},
			{Method: auth.BindFacts, Code: "x"}, {Method: auth.BindFacts, Ticket: "x"}, {Method: auth.BindPhone, Code: auth.Secret(strings.Repeat("x", 600))},
		} {
			r.AccessToken = token
			refused(t, auth.InvalidRequest)(w.Bind(r))
		}
		if n := w.count(t, `select count(*) from bind_attempts`); n != 0 {
			t.Errorf("%d counters of attempts, want 0", n)
		}
	})
}

func TestPhone(t *testing.T) {
	t.Parallel()
	t.Run("an unknown number fits no person, or makes one if the policy says so", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		refused(t, auth.BindingNoMatch)(w.ByPhone(token, "alice", "13800009999"))
		p := bindingtest.Policy()
		p.Phone.Create = true
		w.SetPolicy(p)
		g, err := w.ByPhone(token, "alice", "13800009999")
		mustBind(t, g, err)
		record, err := w.Bindings.Person(t.Context(), g.Session.Person.ID)
		if err != nil || record.Phone != "+8613800009999" || record.Source != auth.PersonByPhone {
			t.Errorf("Person() = %+v, %v, want one made by phone", record, err)
		}
	})
	t.Run("another number than before is refused and changes nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := bindingtest.Policy()
		p.Phone.Create = true
		w.SetPolicy(p)
		g, err := w.ByPhone(w.Login("alice").AccessToken, "alice", "13800009999")
		mustBind(t, g, err)
		persons := w.count(t, `select count(*) from persons`)
		for _, other := range []string{"13800008888", "13800001001"} { // no person's, and 李雷's
			_, err := w.ByPhone(g.AccessToken, "alice", other)
			refused(t, auth.AlreadyBound)(binding.Grant{}, err)
			var e *auth.Error
			if !errors.As(err, &e) || !strings.Contains(e.Description, "phone number") {
				t.Errorf("%s: error = %v, want a description that names the phone number", other, err)
			}
		}
		if n := w.count(t, `select count(*) from persons`); n != persons {
			t.Errorf("%d persons, want %d as before", n, persons)
		}
		if s, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil || s.Person.ID != g.Session.Person.ID {
			t.Errorf("Authenticate() afterwards = person %v, %v, want the same person", s.Person, err)
		}
		free, err := w.Binding.Unbind(t.Context(), g.AccessToken, "req")
		if err != nil {
			t.Fatal(err)
		}
		moved, err := w.ByPhone(free.AccessToken, "alice", "13800008888")
		mustBind(t, moved, err)
	})
	t.Run("the number alone is not enough if the policy checks facts too", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := bindingtest.Policy()
		p.Phone.Check = []string{"name"}
		w.SetPolicy(p)
		token := w.Login("alice").AccessToken
		try := func(phone string, fields map[string]string) (binding.Grant, error) {
			return w.Bind(binding.Request{AccessToken: token, Method: auth.BindPhone, Fields: fields,
				Code: auth.Secret(w.Simulator.NewPhoneCode("alice", phone))})
		}
		refused(t, auth.InvalidRequest)(try("13800001001", nil))
		refused(t, auth.BindingNoMatch)(try("13800001001", map[string]string{"name": "韩梅梅"}))
		refused(t, auth.BindingNoMatch)(try("13800009999", map[string]string{"name": "李雷"}))
		g, err := try("13800001001", map[string]string{"name": "李雷"})
		mustBind(t, g, err)
	})
	t.Run("the code of another user is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		refused(t, auth.PhoneCodeInvalid)(w.ByPhone(w.Login("alice").AccessToken, "mallory", "13800001001"))
	})
	t.Run("an attempt while the platform is down is not counted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		if err := w.Simulator.AddFault(wechatsim.Fault{Errcode: -1, Count: 3}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := w.ByPhone(token, "alice", "13800001001"); auth.CodeOf(err) != auth.PlatformUnavailable {
				t.Errorf("ByPhone() error = %v, want %v", err, auth.PlatformUnavailable)
			}
		}
		if n := w.count(t, `select coalesce(sum(failures), 0) from bind_attempts`); n != 0 {
			t.Errorf("%d attempts are counted, want 0", n)
		}
	})
	t.Run("a user of whom the platform has no number is refused, and no attempt is counted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		if _, err := w.db.ExecContext(t.Context(), `update identities set subject_kind = 'user_id'`); err != nil {
			t.Fatal(err)
		}
		refused(t, auth.BindingMethodDisabled)(w.ByPhone(g.AccessToken, "alice", "13800001001"))
		if n := w.count(t, `select coalesce(sum(failures), 0) from bind_attempts`); n != 0 {
			t.Errorf("%d attempts are counted, want 0", n)
		}
	})
}

func TestTicket(t *testing.T) {
	t.Parallel()
	t.Run("a ticket fits the scene of a mini-program code", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ticket := w.Ticket(w.LiLei).Reveal()
		if len(ticket) > 32 || strings.Trim(ticket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			t.Errorf("ticket = %q, want at most 32 characters of base64url", ticket)
		}
		if n := w.count(t, `select count(*) from bind_tickets where cast(hash as text) like '%'||?||'%'`, ticket); n != 0 {
			t.Error("the database holds the ticket, want only its hash")
		}
	})
	t.Run("a preview shows a masked name and does not use the ticket up", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token, ticket := w.Login("alice").AccessToken, w.Ticket(w.HanMeimei)
		p, err := w.Binding.Preview(t.Context(), token, ticket)
		if err != nil || p.Name != "韩*梅" || !p.ExpiresAt.Equal(w.Clock.Now().Add(10*time.Minute)) {
			t.Fatalf("Preview() = %+v, %v, want 韩*梅 and 10 minutes", p, err)
		}
		g, err := w.ByTicket(token, ticket)
		mustBind(t, g, err)
	})
	t.Run("invented, mangled, expired and used tickets get the same error", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ticket := w.Ticket(w.LiLei)
		w.Clock.Advance(9 * time.Minute)
		used := w.Ticket(w.HanMeimei)
		g, err := w.ByTicket(w.Login("bob").AccessToken, used)
		mustBind(t, g, err)
		w.Clock.Advance(time.Minute)
		token := w.Login("alice").AccessToken
		for _, s := range []auth.Secret{"x", ticket, used, used + "A", auth.Secret(strings.Repeat("A", 27))} {
			refused(t, auth.TicketInvalid)(w.ByTicket(token, s))
			if _, err := w.Binding.Preview(t.Context(), token, s); !errors.Is(err, auth.TicketInvalid) {
				t.Errorf("Preview() error = %v, want %v", err, auth.TicketInvalid)
			}
		}
	})
	t.Run("a ticket can be sent again after a lost answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g, ticket := w.Login("alice"), w.Ticket(w.LiLei)
		bound, err := w.ByTicket(g.AccessToken, ticket)
		mustBind(t, bound, err)
		refused(t, auth.SessionRevoked)(w.ByTicket(g.AccessToken, ticket)) // the token is revoked; refresh
		next, err := w.Refresh(g.RefreshToken)
		if err != nil || next.Session.Person == nil {
			t.Fatalf("Refresh() = person %v, %v, want a person", next.Session.Person, err)
		}
		again, err := w.ByTicket(next.AccessToken, ticket)
		if err != nil || again.Changed || again.Session.Person == nil || again.AccessToken != "" {
			t.Errorf("ByTicket() again = %+v, %v, want no change and no token", again, err)
		}
	})
	t.Run("the lifetime of a ticket is 1 minute to 7 days", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for ttl, ok := range map[time.Duration]bool{time.Minute - 1: false, time.Minute: true, 7 * 24 * time.Hour: true, 7*24*time.Hour + 1: false, -1: false} {
			_, _, err := w.Persons.MintTicket(t.Context(), person.TicketRequest{Person: w.LiLei.ID, TTL: ttl}, auth.Caller{Actor: auth.ActorCLI})
			if (err == nil) != ok {
				t.Errorf("MintTicket() for %s: error = %v, want success: %v", ttl, err, ok)
			}
		}
	})
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	bind := func(w *world, token auth.Secret) (binding.Grant, error) {
		return w.Bind(binding.Request{AccessToken: token, Method: auth.BindWebhook, Fields: map[string]string{"badge": "x-1", "部门": "一"}})
	}
	t.Run("the webhook gets the fields and its person is created", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		name, phone := "新人", "138 0000 1003"
		w.AnswerWebhook(func(q binding.Question) (binding.Answer, error) {
			want := binding.Question{URL: bindingtest.WebhookURL, Secret: bindingtest.WebhookSecret, AppID: g.Session.AppID, Identity: g.Session.Identity,
				Fields: map[string]string{"badge": "x-1", "部门": "一"}}
			if q.Secret.Reveal() != want.Secret.Reveal() || cmp.Diff(want, q) != "" {
				t.Errorf("question = %+v, want %+v", q, want)
			}
			return binding.Answer{ExternalID: "3001", Name: &name, Phone: &phone, Attributes: []byte(`{"b":1,"a":2}`)}, nil
		})
		bound, err := bind(w, g.AccessToken)
		mustBind(t, bound, err)
		record, err := w.Bindings.Person(t.Context(), bound.Session.Person.ID)
		if err != nil {
			t.Fatal(err)
		}
		now := w.Clock.Now()
		if d := cmp.Diff(auth.PersonRecord{
			Person: auth.Person{ID: record.ID, ExternalID: "3001", Name: "新人"}, Phone: "+8613800001003", Attributes: []byte(`{"a":2,"b":1}`),
			Source: auth.PersonByWebhook, CreatedAt: now, UpdatedAt: now,
		}, record); d != "" {
			t.Error(d)
		}
	})
	t.Run("a refusal has a message for the user and counts as a failure", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.AnswerWebhook(func(binding.Question) (binding.Answer, error) {
			return binding.Answer{}, &auth.Error{Code: auth.WebhookRefused, UserMessage: "请联系教务处"}
		})
		_, err := bind(w, w.Login("alice").AccessToken)
		var e *auth.Error
		if !errors.As(err, &e) || e.Code != auth.WebhookRefused || e.UserMessage != "请联系教务处" {
			t.Errorf("Bind() error = %v, want %v with the message", err, auth.WebhookRefused)
		}
		if n := w.count(t, `select count(*) from bind_attempts where failures = 1`); n != 2 {
			t.Errorf("%d counters with a failure, want 2: the identity's and the address's", n)
		}
	})
	t.Run("a missing or invalid answer is not counted as an attempt", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		phone := "12"
		for _, answer := range []func(binding.Question) (binding.Answer, error){
			func(binding.Question) (binding.Answer, error) { return binding.Answer{}, auth.WebhookUnavailable },
			func(binding.Question) (binding.Answer, error) { return binding.Answer{}, nil },
			func(binding.Question) (binding.Answer, error) {
				return binding.Answer{ExternalID: "1", Phone: &phone}, nil
			},
			func(binding.Question) (binding.Answer, error) {
				return binding.Answer{ExternalID: "1", Attributes: []byte(`[]`)}, nil
			},
		} {
			w.AnswerWebhook(answer)
			refused(t, auth.WebhookUnavailable)(bind(w, token))
		}
		if n := w.count(t, `select coalesce(sum(failures), 0) from bind_attempts`); n != 0 {
			t.Errorf("%d attempts are counted, want 0", n)
		}
	})
}

func TestUnbind(t *testing.T) {
	t.Parallel()
	t.Run("the session survives and tokens with the person become invalid", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		bound, err := w.ByFacts(g.AccessToken, "1001", "李雷")
		mustBind(t, bound, err)
		free, err := w.Binding.Unbind(t.Context(), bound.AccessToken, "req")
		if err != nil || free.Session.Person != nil {
			t.Fatalf("Unbind() = person %v, %v, want no person", free.Session.Person, err)
		}
		if _, err := w.Service.Authenticate(t.Context(), bound.AccessToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("Authenticate() of the old access token: error = %v, want %v", err, auth.SessionRevoked)
		}
		again, err := w.Binding.Unbind(t.Context(), free.AccessToken, "req")
		if err != nil || again.Changed || again.Session.Person != nil {
			t.Errorf("second Unbind() = %+v, %v, want no change", again, err)
		}
		if _, err := w.Service.Authenticate(t.Context(), free.AccessToken); err != nil {
			t.Errorf("Authenticate() after two calls of Unbind: error = %v", err)
		}
		next, err := w.Refresh(g.RefreshToken)
		if err != nil || next.Session.Person != nil {
			t.Errorf("Refresh() = person %v, %v, want no person", next.Session.Person, err)
		}
	})
	t.Run("a policy without self-unbind refuses unbinding and binding to another person", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := bindingtest.Policy()
		p.SelfUnbind = false
		w.SetPolicy(p)
		g, err := w.ByFacts(w.Login("alice").AccessToken, "1001", "李雷")
		mustBind(t, g, err)
		if _, err := w.Binding.Unbind(t.Context(), g.AccessToken, "req"); !errors.Is(err, auth.UnbindForbidden) {
			t.Errorf("Unbind() error = %v, want %v", err, auth.UnbindForbidden)
		}
		refused(t, auth.AlreadyBound)(w.ByFacts(g.AccessToken, "1002", "韩梅梅"))
		w.SetPolicy(bindingtest.Policy())
		moved, err := w.ByFacts(g.AccessToken, "1002", "韩梅梅")
		mustBind(t, moved, err)
		if moved.Session.Person.ID != w.HanMeimei.ID {
			t.Errorf("ByFacts() bound %v, want 韩梅梅", moved.Session.Person)
		}
	})
}

func TestShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := bindingtest.Policy()
	p.Phone.Check = []string{"name"}
	w.SetPolicy(p)
	v, err := w.Binding.Show(t.Context(), w.Login("alice").AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]binding.MethodFields{
		{Method: auth.BindFacts, Fields: []string{"employee_no", "name"}}, {Method: auth.BindPhone, Fields: []string{"name"}},
		{Method: auth.BindTicket}, {Method: auth.BindWebhook},
	}, v.Methods); d != "" || !v.SelfUnbind {
		t.Errorf("Show() = %+v, methods (-want +got):\n%s", v, d)
	}
}

func TestGuessing(t *testing.T) {
	t.Parallel()
	// guess tries to bind the user from the network by facts.
	guess := func(t *testing.T, w *world, user, network, number, name string) error {
		t.Helper()
		_, err := w.Bind(binding.Request{AccessToken: w.Login(user).AccessToken, Method: auth.BindFacts, Network: network,
			Fields: map[string]string{"employee_no": number, "name": name}})
		return err
	}
	t.Run("guesses by one user delay only this user", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for i := range 5 {
			if err := guess(t, w, "mallory", "192.0.2.1/32", string(rune('a'+i)), "李雷"); auth.CodeOf(err) != auth.BindingNoMatch {
				t.Fatal(err)
			}
		}
		err := guess(t, w, "mallory", "192.0.2.1/32", "1001", "李雷")
		var e *auth.Error
		if !errors.As(err, &e) || e.Code != auth.BindingDelayed || e.RetryAfter != 30*time.Second {
			t.Errorf("error = %v, want %v for 30s", err, auth.BindingDelayed)
		}
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); err != nil {
			t.Errorf("another user: error = %v", err)
		}
		w.Clock.Advance(30 * time.Second)
		if err := guess(t, w, "mallory", "192.0.2.1/32", "1002", "韩梅梅"); err != nil {
			t.Errorf("after the delay: error = %v", err)
		}
	})
	t.Run("guesses at one number delay it, known or not, but not tickets and phones", func(t *testing.T) {
		t.Parallel()
		for _, number := range []string{"1001", "4711"} {
			w := newWorld(t)
			for i := range 5 {
				if err := guess(t, w, "mallory"+string(rune('a'+i)), "192.0.2.1/32", number, "猜"); auth.CodeOf(err) != auth.BindingNoMatch {
					t.Fatal(err)
				}
			}
			err := guess(t, w, "alice", "192.0.2.2/32", number, "李雷")
			if auth.CodeOf(err) != auth.BindingDelayed {
				t.Errorf("%s: error = %v, want %v", number, err, auth.BindingDelayed)
			}
			p := bindingtest.Policy()
			p.SecondIdentity = auth.SecondJoins
			w.SetPolicy(p)
			for _, method := range []auth.BindingMethod{auth.BindTicket, auth.BindPhone} {
				user := "alice" + string(method)
				g, err := methods[method](t, w, w.Login(user).AccessToken, user)
				mustBind(t, g, err)
			}
		}
	})
	t.Run("guesses from one address are delayed after fifty", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for i := range 50 {
			n := string(rune('A' + i))
			if err := guess(t, w, "mallory"+n, "192.0.2.1/32", n, "猜"); auth.CodeOf(err) != auth.BindingNoMatch {
				t.Fatal(err)
			}
		}
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); auth.CodeOf(err) != auth.BindingDelayed {
			t.Errorf("error = %v, want %v", err, auth.BindingDelayed)
		}
		if err := guess(t, w, "alice", "192.0.2.2/32", "1001", "李雷"); err != nil {
			t.Errorf("from another address: error = %v", err)
		}
		// One attempt a second is admitted for all users behind the address.
		w.Clock.Advance(time.Second)
		if err := guess(t, w, "bob", "192.0.2.1/32", "1002", "韩梅梅"); err != nil {
			t.Errorf("a second later: error = %v", err)
		}
	})
	t.Run("a success refunds only its own attempt", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for i := range 4 {
			_ = guess(t, w, "alice", "192.0.2.1/32", string(rune('a'+i)), "李雷")
		}
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); err != nil {
			t.Fatal(err)
		}
		if n := w.count(t, `select failures from bind_attempts where kind = 'identity'`); n != 4 {
			t.Errorf("%d failures are counted, want 4", n)
		}
	})
	t.Run("an attempt with right facts that is refused stays counted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); err != nil {
			t.Fatal(err)
		}
		if err := guess(t, w, "bob", "192.0.2.1/32", "1001", "李雷"); auth.CodeOf(err) != auth.PersonTaken {
			t.Errorf("error = %v, want %v", err, auth.PersonTaken)
		}
		if n := w.count(t, `select max(failures) from bind_attempts where kind = 'value'`); n != 1 {
			t.Errorf("%d failures for the value, want 1", n)
		}
	})
}

func TestExposed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.AnswerWebhook(func(binding.Question) (binding.Answer, error) {
		return binding.Answer{ExternalID: "1001", Attributes: []byte(`{"department":"R&D","salary":1,"grade":null}`)}, nil
	})
	g, err := w.Bind(binding.Request{AccessToken: w.Login("alice").AccessToken, Method: auth.BindWebhook})
	mustBind(t, g, err)
	exposed := func(person uuid.UUID, names ...string) map[string]string {
		t.Helper()
		got, err := w.Binding.ExposedAttributes(t.Context(), person, names)
		if err != nil {
			t.Fatal(err)
		}
		texts := map[string]string{}
		for name, value := range got {
			texts[name] = string(value)
		}
		return texts
	}
	for _, c := range []struct {
		person uuid.UUID
		names  []string
		want   map[string]string
	}{
		{w.LiLei.ID, nil, map[string]string{}},
		{w.LiLei.ID, []string{"department", "grade", "phone"}, map[string]string{"department": `"R&D"`, "grade": "null"}},
		{w.HanMeimei.ID, []string{"department"}, map[string]string{}},
		{uuid.Must(uuid.NewV7()), []string{"department"}, map[string]string{}},
	} {
		if d := cmp.Diff(c.want, exposed(c.person, c.names...)); d != "" {
			t.Errorf("ExposedAttributes(%v) (-want +got):\n%s", c.names, d)
		}
	}
}
