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
		t.Run(string(method)+"_binds_the_user_and_his_session_goes_on", func(t *testing.T) {
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
				t.Errorf("claims %+v", claims)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("the token from before: %v", err)
			}
			next, err := w.Refresh(g.RefreshToken)
			if err != nil || next.Session.Person == nil || next.Session.Person.ID != w.LiLei.ID {
				t.Errorf("the refresh token from before: %v, %v", next.Session.Person, err)
			}
			if n := w.count(t, `select coalesce(sum(failures), 0) from bind_attempts`); n != 0 {
				t.Errorf("%d attempts stayed counted", n)
			}
		})
		t.Run(string(method)+"_is_refused_where_the_policy_does_not_name_it", func(t *testing.T) {
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
				t.Error("it counts as an attempt")
			}
		})
		t.Run(string(method)+"_of_a_disabled_person_is_refused", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.Login("alice")
			var ticket auth.Secret
			if method == auth.BindTicket {
				ticket = w.Ticket(w.LiLei) // there is none for a disabled person
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
	t.Run("that_fit_no_person_get_one_answer_whatever_is_wrong", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Person("2001", "同名", "")
		shared := w.Person("2002", "乙", "")
		// Somebody imported the number of another.
		if _, err := w.db.Exec(`update person_facts set mac = (select mac from person_facts f join persons p on p.id = f.person_id where p.external_id = '2001' and f.name = 'employee_no') where person_id = ? and name = 'employee_no'`, shared.ID.String()); err != nil {
			t.Fatal(err)
		}
		// What is older names keys and persons by ids, in which any digits may come.
		before := w.count(t, `select max(id) from audit`)
		var first string
		for i, c := range []struct{ number, name string }{
			{"1001", "韩梅梅"}, {"1002", "李雷"}, {"9999", "李雷"}, {"2001", "同名"}, {"李雷", "1001"},
		} {
			_, err := w.ByFacts(w.Login("alice"+c.number+c.name).AccessToken, c.number, c.name)
			if auth.CodeOf(err) != auth.BindingNoMatch {
				t.Errorf("%v: %v", c, err)
			}
			if i == 0 {
				first = err.Error()
			} else if err.Error() != first {
				t.Errorf("%v: %q, others %q", c, err, first)
			}
		}
		if n := w.count(t, `select count(*) from audit where action = 'binding.refused' and json_extract(detail, '$.code') = 'binding_no_match'`); n != 5 {
			t.Errorf("%d refusals are in the trail", n)
		}
		if n := w.count(t, `select count(*) from audit where id > ? and (detail like '%李雷%' or detail like '%1001%' or detail like '%9999%')`, before); n != 0 {
			t.Error("the trail holds facts")
		}
	})
	t.Run("that_the_app_does_not_ask_for_exactly_are_malformed_and_count_for_nothing", func(t *testing.T) {
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
			t.Errorf("%d counters", n)
		}
	})
}

func TestPhone(t *testing.T) {
	t.Parallel()
	t.Run("that_nobody_has_fits_nobody_or_makes_a_person_by_policy", func(t *testing.T) {
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
			t.Errorf("%+v, %v", record, err)
		}
	})
	t.Run("of_another_number_than_before_is_refused_and_changes_nothing", func(t *testing.T) {
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
				t.Errorf("%s: %v does not say why", other, err)
			}
		}
		if n := w.count(t, `select count(*) from persons`); n != persons {
			t.Errorf("there are %d persons, before %d", n, persons)
		}
		if s, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil || s.Person.ID != g.Session.Person.ID {
			t.Errorf("afterwards: %v, %v", s.Person, err)
		}
		free, err := w.Binding.Unbind(t.Context(), g.AccessToken, "req")
		if err != nil {
			t.Fatal(err)
		}
		moved, err := w.ByPhone(free.AccessToken, "alice", "13800008888")
		mustBind(t, moved, err)
	})
	t.Run("of_somebody_else's_past_is_not_enough_where_facts_go_with_it", func(t *testing.T) {
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
	t.Run("of_another_user's_code_is_refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		refused(t, auth.PhoneCodeInvalid)(w.ByPhone(w.Login("alice").AccessToken, "mallory", "13800001001"))
	})
	t.Run("costs_no_attempt_while_the_platform_is_down", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		if err := w.Simulator.AddFault(wechatsim.Fault{Errcode: -1, Count: 3}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := w.ByPhone(token, "alice", "13800001001"); auth.CodeOf(err) != auth.PlatformUnavailable {
				t.Errorf("%v", err)
			}
		}
		if n := w.count(t, `select coalesce(sum(failures), 0) from bind_attempts`); n != 0 {
			t.Errorf("%d attempts stayed counted", n)
		}
	})
}

func TestTicket(t *testing.T) {
	t.Parallel()
	t.Run("fits_the_scene_of_a_mini-program_code", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ticket := w.Ticket(w.LiLei).Reveal()
		if len(ticket) > 32 || strings.Trim(ticket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			t.Errorf("%q", ticket)
		}
		if n := w.count(t, `select count(*) from bind_tickets where cast(hash as text) like '%'||?||'%'`, ticket); n != 0 {
			t.Error("the ticket itself is kept")
		}
	})
	t.Run("shows_a_masked_name_and_stays_good", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token, ticket := w.Login("alice").AccessToken, w.Ticket(w.HanMeimei)
		p, err := w.Binding.Preview(t.Context(), token, ticket)
		if err != nil || p.Name != "韩*梅" || !p.ExpiresAt.Equal(w.Clock.Now().Add(10*time.Minute)) {
			t.Fatalf("%+v, %v", p, err)
		}
		g, err := w.ByTicket(token, ticket)
		mustBind(t, g, err)
	})
	t.Run("is_refused_alike_when_it_is_invented_mangled_expired_or_used", func(t *testing.T) {
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
	t.Run("may_be_sent_again_when_the_answer_was_lost", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g, ticket := w.Login("alice"), w.Ticket(w.LiLei)
		bound, err := w.ByTicket(g.AccessToken, ticket)
		mustBind(t, bound, err)
		refused(t, auth.SessionRevoked)(w.ByTicket(g.AccessToken, ticket)) // the token is dead; refresh
		next, err := w.Refresh(g.RefreshToken)
		if err != nil || next.Session.Person == nil {
			t.Fatalf("%v, %v", next.Session.Person, err)
		}
		again, err := w.ByTicket(next.AccessToken, ticket)
		if err != nil || again.Changed || again.Session.Person == nil || again.AccessToken != "" {
			t.Errorf("%+v, %v", again, err)
		}
	})
	t.Run("is_minted_for_1_minute_to_7_days", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for ttl, ok := range map[time.Duration]bool{time.Minute - 1: false, time.Minute: true, 7 * 24 * time.Hour: true, 7*24*time.Hour + 1: false, -1: false} {
			_, _, err := w.Persons.MintTicket(t.Context(), person.TicketRequest{Person: w.LiLei.ID, TTL: ttl}, auth.Caller{Actor: auth.ActorCLI})
			if (err == nil) != ok {
				t.Errorf("%s: %v", ttl, err)
			}
		}
	})
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	bind := func(w *world, token auth.Secret) (binding.Grant, error) {
		return w.Bind(binding.Request{AccessToken: token, Method: auth.BindWebhook, Fields: map[string]string{"badge": "x-1", "部门": "一"}})
	}
	t.Run("is_asked_with_the_fields_and_its_person_is_created_and_updated", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		name, phone := "新人", "138 0000 1003"
		w.AnswerWebhook(func(q binding.Question) (binding.Answer, error) {
			want := binding.Question{URL: bindingtest.WebhookURL, Secret: bindingtest.WebhookSecret, AppID: g.Session.AppID, Identity: g.Session.Identity,
				Fields: map[string]string{"badge": "x-1", "部门": "一"}}
			if q.Secret.Reveal() != want.Secret.Reveal() || cmp.Diff(want, q) != "" {
				t.Errorf("asked %+v", q)
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
	t.Run("refuses_with_a_word_to_the_user_and_that_counts", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.AnswerWebhook(func(binding.Question) (binding.Answer, error) {
			return binding.Answer{}, &auth.Error{Code: auth.WebhookRefused, UserMessage: "请联系教务处"}
		})
		_, err := bind(w, w.Login("alice").AccessToken)
		var e *auth.Error
		if !errors.As(err, &e) || e.Code != auth.WebhookRefused || e.UserMessage != "请联系教务处" {
			t.Errorf("%v", err)
		}
		if n := w.count(t, `select count(*) from bind_attempts where failures = 1`); n != 2 {
			t.Errorf("%d counters, want the identity's and the address's", n)
		}
	})
	t.Run("that_does_not_answer_or_names_no_person_costs_no_attempt", func(t *testing.T) {
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
			t.Errorf("%d attempts stayed counted", n)
		}
	})
}

func TestUnbind(t *testing.T) {
	t.Parallel()
	t.Run("leaves_the_session_and_kills_the_tokens_that_name_the_person", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		bound, err := w.ByFacts(g.AccessToken, "1001", "李雷")
		mustBind(t, bound, err)
		free, err := w.Binding.Unbind(t.Context(), bound.AccessToken, "req")
		if err != nil || free.Session.Person != nil {
			t.Fatalf("%v, %v", free.Session.Person, err)
		}
		if _, err := w.Service.Authenticate(t.Context(), bound.AccessToken); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("the token from before: %v", err)
		}
		again, err := w.Binding.Unbind(t.Context(), free.AccessToken, "req")
		if err != nil || again.Changed || again.Session.Person != nil {
			t.Errorf("the second time: %+v, %v", again, err)
		}
		if _, err := w.Service.Authenticate(t.Context(), free.AccessToken); err != nil {
			t.Errorf("the token after two unbindings: %v", err)
		}
		next, err := w.Refresh(g.RefreshToken)
		if err != nil || next.Session.Person != nil {
			t.Errorf("%v, %v", next.Session.Person, err)
		}
	})
	t.Run("is_the_admins'_where_the_policy_says_so_and_so_is_to_move_on", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := bindingtest.Policy()
		p.SelfUnbind = false
		w.SetPolicy(p)
		g, err := w.ByFacts(w.Login("alice").AccessToken, "1001", "李雷")
		mustBind(t, g, err)
		if _, err := w.Binding.Unbind(t.Context(), g.AccessToken, "req"); !errors.Is(err, auth.UnbindForbidden) {
			t.Errorf("%v", err)
		}
		refused(t, auth.AlreadyBound)(w.ByFacts(g.AccessToken, "1002", "韩梅梅"))
		w.SetPolicy(bindingtest.Policy())
		moved, err := w.ByFacts(g.AccessToken, "1002", "韩梅梅")
		mustBind(t, moved, err)
		if moved.Session.Person.ID != w.HanMeimei.ID {
			t.Errorf("%v", moved.Session.Person)
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
		t.Errorf("%+v %s", v, d)
	}
}

func TestGuessing(t *testing.T) {
	t.Parallel()
	// guess fails as a user of his own from an address of his own.
	guess := func(t *testing.T, w *world, user, network, number, name string) error {
		t.Helper()
		_, err := w.Bind(binding.Request{AccessToken: w.Login(user).AccessToken, Method: auth.BindFacts, Network: network,
			Fields: map[string]string{"employee_no": number, "name": name}})
		return err
	}
	t.Run("by_one_user_is_slowed_down_for_him_alone", func(t *testing.T) {
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
			t.Errorf("%v", err)
		}
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); err != nil {
			t.Errorf("another user: %v", err)
		}
		w.Clock.Advance(30 * time.Second)
		if err := guess(t, w, "mallory", "192.0.2.1/32", "1002", "韩梅梅"); err != nil {
			t.Errorf("after the delay: %v", err)
		}
	})
	t.Run("for_one_person_is_slowed_down_whether_or_not_there_is_one_and_not_for_tickets_and_phones", func(t *testing.T) {
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
				t.Errorf("%s: %v", number, err)
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
	t.Run("from_one_address_is_slowed_down_after_fifty", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for i := range 50 {
			n := string(rune('A' + i))
			if err := guess(t, w, "mallory"+n, "192.0.2.1/32", n, "猜"); auth.CodeOf(err) != auth.BindingNoMatch {
				t.Fatal(err)
			}
		}
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); auth.CodeOf(err) != auth.BindingDelayed {
			t.Errorf("%v", err)
		}
		if err := guess(t, w, "alice", "192.0.2.2/32", "1001", "李雷"); err != nil {
			t.Errorf("from another address: %v", err)
		}
		// One a second gets through, whatever others behind the address do.
		w.Clock.Advance(time.Second)
		if err := guess(t, w, "bob", "192.0.2.1/32", "1002", "韩梅梅"); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
	t.Run("a_success_takes_back_its_own_attempt_only", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for i := range 4 {
			_ = guess(t, w, "alice", "192.0.2.1/32", string(rune('a'+i)), "李雷")
		}
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); err != nil {
			t.Fatal(err)
		}
		if n := w.count(t, `select failures from bind_attempts where kind = 'identity'`); n != 4 {
			t.Errorf("%d failures", n)
		}
	})
	t.Run("what_was_right_and_refused_all_the_same_stays_counted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if err := guess(t, w, "alice", "192.0.2.1/32", "1001", "李雷"); err != nil {
			t.Fatal(err)
		}
		if err := guess(t, w, "bob", "192.0.2.1/32", "1001", "李雷"); auth.CodeOf(err) != auth.PersonTaken {
			t.Errorf("%v", err)
		}
		if n := w.count(t, `select max(failures) from bind_attempts where kind = 'value'`); n != 1 {
			t.Errorf("%d failures for the value", n)
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
		got, err := w.Binding.Exposed(t.Context(), person, names)
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
			t.Errorf("%v: %s", c.names, d)
		}
	}
}
