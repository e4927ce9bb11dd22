// Package bindingtest assembles a binding service for tests with the session
// service of package sessiontest: the same database, keys and clock, the real
// WeChat client against the same simulated WeChat, and a business back end that a
// test scripts.
//
// It owns the assembly, an app whose policy allows every method, and two persons.
// It does not own any rule of binding. It is only for tests.
package bindingtest

import (
	"context"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// WebhookURL is the webhook of the app, and WebhookSecret signs its requests.
const (
	WebhookURL    = "https://erp.example.com/bind"
	WebhookSecret = "a public test secret of a webhook"
)

// Policy allows every method: facts by employee_no and name, and phones of existing
// persons.
func Policy() auth.Policy {
	return auth.Policy{
		Methods:    auth.BindingMethods(),
		Facts:      auth.FactsPolicy{Lookup: "employee_no", Check: []string{"name"}},
		Webhook:    auth.WebhookPolicy{URL: WebhookURL},
		SelfUnbind: true,
	}
}

// Fixture is a binding service together with a session service.
type Fixture struct {
	*sessiontest.Fixture
	Binding *binding.Service
	// Config is the configuration of Binding, for another service over the same parts.
	Config   binding.Config
	Bindings db.Store
	Facts    *person.FactKey
	// Persons is the service of admins over the same database.
	Persons *person.Service
	// LiLei and HanMeimei are 1001 and 1002, with the facts employee_no and name,
	// and the phones +8613800001001 and …1002.
	LiLei, HanMeimei auth.Person
	// Webhook is the answer of the business back end; a test must set it before the
	// first request.
	Webhook atomic.Pointer[func(binding.Question) (binding.Answer, error)]

	tb testing.TB
}

// New returns the service over store, the database of f. The app [sessiontest.AppID]
// has [Policy].
func New(tb testing.TB, f *sessiontest.Fixture, store db.Store) *Fixture {
	tb.Helper()
	x := &Fixture{Fixture: f, Bindings: db.ApplyCutoffs(store, f.CatchUp), tb: tb}
	var err error
	if x.Facts, err = person.OpenFactKey(tb.Context(), x.Bindings, f.Sealer, f.Clock.Now()); err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(f.Simulator.Handler())
	tb.Cleanup(srv.Close)
	// These tests do not test timeouts.
	weChat, err := wechat.New(wechat.Config{BaseURL: srv.URL, Tokens: x.Bindings, Sealer: f.Sealer, Clock: f.Clock.Now, Timeout: time.Minute})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(weChat.CloseIdleConnections)
	x.Config = binding.Config{
		Store: x.Bindings, Sessions: f.Service, Minter: f.Minter, Facts: x.Facts, Sealer: f.Sealer,
		Platforms: map[string]platform.Provider{auth.PlatformWeChat: weChat},
		Webhook:   x, Clock: f.Clock.Now,
	}
	x.Binding = binding.NewService(x.Config)
	x.Persons = person.NewService(person.Config{Store: x.Bindings, Apps: x.Bindings, Facts: x.Facts, Clock: f.Clock.Now})
	x.SetPolicy(Policy())
	x.LiLei = x.Person("1001", "李雷", "+8613800001001")
	x.HanMeimei = x.Person("1002", "韩梅梅", "+8613800001002")
	return x
}

// Ask implements [binding.Webhook].
func (f *Fixture) Ask(_ context.Context, q binding.Question) (binding.Answer, error) {
	return (*f.Webhook.Load())(q)
}

// AnswerWebhook scripts the business back end.
func (f *Fixture) AnswerWebhook(answer func(binding.Question) (binding.Answer, error)) {
	f.Webhook.Store(&answer)
}

// SetPolicy changes the policy of the app [sessiontest.AppID].
func (f *Fixture) SetPolicy(p auth.Policy) {
	f.tb.Helper()
	sealed, err := f.Sealer.Seal([]byte(WebhookSecret), app.WebhookSecretAAD(sessiontest.AppID))
	if err != nil {
		f.tb.Fatal(err)
	}
	if err := p.Check(); err != nil {
		f.tb.Fatal(err)
	}
	_, err = f.Bindings.UpdateApp(f.tb.Context(), sessiontest.AppID, app.Change{Policy: &p, SealedWebhookSecret: sealed}, f.Event(auth.AuditAppUpdated))
	if err != nil {
		f.tb.Fatal(err)
	}
}

// Person adds a person with the facts employee_no, which is also the external_id, and
// name. The phone may be empty.
func (f *Fixture) Person(number, name, phone string) auth.Person {
	f.tb.Helper()
	facts, err := f.Facts.MACs(map[string]*string{"employee_no": &number, "name": &name})
	if err != nil {
		f.tb.Fatal(err)
	}
	d := person.Draft{ID: uuid.Must(uuid.NewV7()), ExternalID: number, Name: &name, Facts: facts}
	if phone != "" {
		d.Phone = &phone
	}
	p, err := f.Bindings.CreatePerson(f.tb.Context(), d, f.Event(auth.AuditPersonCreated))
	if err != nil {
		f.tb.Fatal(err)
	}
	return p.Person
}

// Ticket mints a ticket for a person.
func (f *Fixture) Ticket(p auth.Person) auth.Secret {
	f.tb.Helper()
	t, _, err := f.Persons.MintTicket(f.tb.Context(), person.TicketRequest{Person: p.ID}, auth.Caller{Actor: auth.ActorCLI})
	if err != nil {
		f.tb.Fatal(err)
	}
	return t
}

// ByFacts tries to bind by number and name.
func (f *Fixture) ByFacts(accessToken auth.Secret, number, name string) (binding.Grant, error) {
	return f.Bind(binding.Request{AccessToken: accessToken, Method: auth.BindFacts, Fields: map[string]string{"employee_no": number, "name": name}})
}

// ByPhone tries to bind the simulated user by phone number.
func (f *Fixture) ByPhone(accessToken auth.Secret, user, phone string) (binding.Grant, error) {
	return f.Bind(binding.Request{AccessToken: accessToken, Method: auth.BindPhone, Code: auth.Secret(f.Simulator.NewPhoneCode(user, phone))})
}

// ByTicket tries to bind by a ticket.
func (f *Fixture) ByTicket(accessToken, ticket auth.Secret) (binding.Grant, error) {
	return f.Bind(binding.Request{AccessToken: accessToken, Method: auth.BindTicket, Ticket: ticket})
}

// Bind tries to bind. An empty network means 192.0.2.1/32.
func (f *Fixture) Bind(r binding.Request) (binding.Grant, error) {
	if r.Network == "" {
		r.Network = "192.0.2.1/32"
	}
	r.RequestID = "req-bind"
	return f.Binding.Bind(f.tb.Context(), r)
}
