package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/guard"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Faults lets rapid log clients in, refresh and end their sessions while the
// platform fails in every way that the simulator supports, answers get lost, clients
// hang up and clocks step. The service, the database, the guard, the client and HTTP are
// real; a model predicts the result of each call. It checks
//
//   - that no code is ever sent to the platform twice,
//   - that each session begins with its own good answer of the platform,
//   - that the model, the answers and the number of rows agree.
//
// It runs in a bubble of testing/synctest, so that timeouts take no time. It calls open
// in the bubble, which returns a new, migrated database and a function that counts the
// rows of its sessions.
func Faults(t *testing.T, open func(t *testing.T) (store db.Store, sessions func() int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, sessions := open(t)
		w := newFaultWorld(t, store, sessions)
		// In a bubble rapid must not ask for the test's deadline.
		rapid.Check(struct{ *testing.T }{t}, func(rt *rapid.T) {
			m := newFaultModel(w)
			rt.Repeat(map[string]func(*rapid.T){
				"exchange":         m.exchange,
				"exchange faulty":  m.exchangeFaulty,
				"storm":            m.storm,
				"exchange at once": m.exchangeAtOnce,
				"hang up":          m.hangUp,
				"repeat a code":    m.withCode(sentLately, m.repeat),
				"retry unsent":     m.withCode(notSent, m.retryUnsent),
				"refresh":          m.withClient(m.refresh),
				"replay":           m.withClient(m.replay),
				"lose an answer":   m.withClient(m.loseAnswer),
				"log out":          m.withClient(m.logOut),
				"clock":            m.clock,
				"wait":             m.wait,
				"":                 m.check,
			})
			m.finish(rt)
		})
	})
}

// clientTimeout is the timeout of the platform client, and slow a longer delay.
const (
	clientTimeout = 2 * time.Second
	slow          = 3 * time.Second
)

// faultWorld holds the parts that all runs share.
type faultWorld struct {
	*Fixture
	t        *testing.T
	sessions func() int
	// over is the guard of the present run, and good the number of good answers that
	// reached it.
	over atomic.Pointer[guard.Guard]
	good atomic.Int64
	next platform.Provider
	// sent holds all codes by app, and runs counts the runs.
	sent map[string]bool
	seen int64 // the last checked call of the simulator
	runs int
	// start is the earliest time of the clock, because the keys are that old.
	start time.Time
}

func newFaultWorld(t *testing.T, store db.Store, sessions func() int) *faultWorld {
	w := &faultWorld{t: t, sessions: sessions, sent: map[string]bool{}}
	w.Fixture = assemble(t, store, session.DefaultLifetimes, 1<<12, func(sim *wechatsim.Simulator) platform.Provider {
		dial, stop := sim.ServeInMemory()
		t.Cleanup(stop)
		transport := wechat.NewTransport()
		transport.DialContext = dial
		client := must(wechat.New(wechat.Config{BaseURL: "http://wechat.test", Transport: transport, Timeout: clientTimeout}))(t)
		t.Cleanup(client.CloseIdleConnections)
		w.next = counted{client, &w.good}
		return throughGuard{&w.over}
	})
	w.start = w.Clock.Now()
	return w
}

// counted counts the good answers of a provider.
type counted struct {
	platform.Provider
	good *atomic.Int64
}

func (c counted) ExchangeCode(ctx context.Context, app platform.Credentials, code string) (platform.Account, error) {
	account, err := c.Provider.ExchangeCode(ctx, app, code)
	if err == nil {
		c.good.Add(1)
	}
	return account, err
}

// throughGuard is the guard of the present run.
type throughGuard struct{ over *atomic.Pointer[guard.Guard] }

func (g throughGuard) ExchangeCode(ctx context.Context, app platform.Credentials, code string) (platform.Account, error) {
	return g.over.Load().ExchangeCode(ctx, app, code)
}

func (g throughGuard) ExchangePhoneCode(ctx context.Context, app platform.Credentials, user auth.PlatformAccount, code string) (string, error) {
	return g.over.Load().ExchangePhoneCode(ctx, app, user, code)
}

// faultModel is one run: the actions of its clients, and the expected results.
type faultModel struct {
	*faultWorld
	user     string
	rows     int   // before the run
	goodThen int64 // before the run
	calls    int64 // expected calls of the platform, all runs
	created  int   // sessions
	given    int   // complete good answers of the platform
	began    time.Time
	apps     map[string]*appModel
	codes    []*codeModel
	clients  []*clientModel
}

func newFaultModel(w *faultWorld) *faultModel {
	w.runs++
	w.Simulator.ClearFaults()
	w.over.Store(guard.New(w.next, guard.Config{}))
	return &faultModel{
		faultWorld: w,
		user:       fmt.Sprintf("run %d, ", w.runs),
		rows:       w.sessions(),
		goodThen:   w.good.Load(),
		calls:      w.seen,
		apps:       map[string]*appModel{AppID: newAppModel(), OtherAppID: newAppModel()},
	}
}

// codeModel is a code that a client was given.
type codeModel struct {
	app, code string
	expires   time.Time // at the simulator
	sent      bool
	sentAt    time.Time // by the guard's clock
}

// faultKind is a fault with the error code that a client gets.
type faultKind struct {
	fault wechatsim.Fault
	want  auth.Code
	// counts: it is the platform's failure.
	counts bool
}

var faultKinds = map[string]faultKind{
	"busy":            {wechatsim.Fault{Errcode: -1}, auth.PlatformUnavailable, true},
	"invalid":         {wechatsim.Fault{Errcode: 40029}, auth.CodeInvalid, false},
	"used":            {wechatsim.Fault{Errcode: 40163}, auth.CodeUsed, false},
	"blocked":         {wechatsim.Fault{Errcode: 40226}, auth.UserBlocked, false},
	"quota":           {wechatsim.Fault{Errcode: 45011}, auth.PlatformQuota, false},
	"misconfigured":   {wechatsim.Fault{Errcode: 40125}, auth.PlatformMisconfigured, false},
	"unknown errcode": {wechatsim.Fault{Errcode: 98765}, auth.PlatformUnavailable, false},
	"drop":            {wechatsim.Fault{Drop: true}, auth.PlatformUnavailable, true},
	"empty":           {wechatsim.Fault{Empty: true}, auth.PlatformUnavailable, true},
	"malformed":       {wechatsim.Fault{Malformed: true}, auth.PlatformUnavailable, true},
	"status":          {wechatsim.Fault{Status: 502}, auth.PlatformUnavailable, true},
	"silent":          {wechatsim.Fault{Delay: slow}, auth.PlatformUnavailable, true},
	"slow":            {wechatsim.Fault{Delay: clientTimeout / 2}, "", false},
}

var faultNames = []string{
	"busy", "invalid", "used", "blocked", "quota", "misconfigured", "unknown errcode",
	"drop", "empty", "malformed", "status", "silent", "slow",
}

// exchange logs a client in with its own code.
func (m *faultModel) exchange(rt *rapid.T) { m.send(rt, m.newCode(rt), "") }

// exchangeFaulty logs a client in while the platform fails.
func (m *faultModel) exchangeFaulty(rt *rapid.T) {
	m.send(rt, m.newCode(rt), rapid.SampledFrom(faultNames).Draw(rt, "fault"))
}

// storm lets one fault hit several clients of one app.
func (m *faultModel) storm(rt *rapid.T) {
	app, name := m.drawApp(rt), rapid.SampledFrom(faultNames).Draw(rt, "fault")
	for range rapid.IntRange(2, 8).Draw(rt, "calls") {
		m.send(rt, m.codeFor(rt, app), name)
	}
}

// exchangeAtOnce lets several clients present the same code at the same time.
func (m *faultModel) exchangeAtOnce(rt *rapid.T) {
	c, name := m.newCode(rt), rapid.SampledFrom(append([]string{""}, faultNames...)).Draw(rt, "fault")
	caller := drawCaller(rt)
	m.arm(c, name)
	m.began = time.Now()
	grants, errs := make([]session.Grant, 5), make([]error, 5)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { grants[i], errs[i] = m.call(m.t.Context(), c, caller) })
	}
	wg.Wait()
	m.Simulator.ClearFaults()
	reached := m.reached()
	if reached == 0 {
		for _, err := range errs {
			m.refused(rt, c, caller, err)
		}
		return
	}
	// One of them got the platform's answer. The others got code_used, unless the guard
	// admitted only a probe.
	want := m.wants(c, name)
	index := slices.IndexFunc(errs, func(err error) bool { return auth.CodeOf(err) == want })
	if index < 0 {
		rt.Fatalf("fault %q: errors = %v, want %q once", name, errs, want)
	}
	for i, err := range errs {
		if i != index && !errors.Is(err, auth.CodeUsed) && !(unsent(err) && m.apps[c.app].wary(caller, m.began)) {
			rt.Fatalf("fault %q: errors = %v, want %q once", name, errs, want)
		}
	}
	m.settle(rt, c, caller, name, reached, grants[index], errs[index])
}

// wants returns the expected error code when a code is sent to the platform for the first
// time.
func (m *faultModel) wants(c *codeModel, name string) auth.Code {
	kind := faultKinds[name]
	if kind.want == "" && !m.Clock.Now().Before(c.expires) {
		return auth.CodeInvalid
	}
	return kind.want
}

// hangUp lets a client hang up while the platform works. The code is used up, and even a
// good answer begins no session.
func (m *faultModel) hangUp(rt *rapid.T) {
	c, caller := m.newCode(rt), drawCaller(rt)
	if err := m.Simulator.AddFault(wechatsim.Fault{Delay: clientTimeout / 2}); err != nil {
		rt.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	timer := time.AfterFunc(clientTimeout/4, cancel)
	defer timer.Stop()
	m.began = time.Now()
	_, err := m.call(ctx, c, caller)
	m.Simulator.ClearFaults()
	switch reached := m.reached(); reached {
	case 0:
		m.refused(rt, c, caller, err)
	case 1:
		c.sent, c.sentAt = true, time.Now()
		m.calls++
		if !errors.Is(err, context.Canceled) {
			rt.Fatalf("a client that hung up: error = %v", err)
		}
		m.apps[c.app].mustHaveAdmitted(rt, caller, m.began)
		m.apps[c.app].answered(caller, m.wants(c, ""), false)
	default:
		rt.Fatalf("%d calls of the platform, want 0 or 1", reached)
	}
}

// repeat presents a code that was sent earlier with any result.
func (m *faultModel) repeat(rt *rapid.T, c *codeModel) {
	_, err := m.call(m.t.Context(), c, drawCaller(rt))
	if !errors.Is(err, auth.CodeUsed) || m.reached() != 0 {
		rt.Fatalf("a code that was sent before: error = %v, and %d calls of the platform; want code_used and 0", err, m.reached())
	}
}

// retryUnsent presents a code again that the guard held back.
func (m *faultModel) retryUnsent(rt *rapid.T, c *codeModel) { m.send(rt, c, "") }

// clock steps the service's and the simulator's clock, also back.
func (m *faultModel) clock(rt *rapid.T) {
	step := rapid.SampledFrom([]time.Duration{
		time.Microsecond, time.Second, m.Lifetimes.Grace, m.Lifetimes.Grace + time.Microsecond, 6 * time.Minute,
		-time.Second, -2 * m.Lifetimes.Grace, m.Lifetimes.Idle / 2, m.Lifetimes.Idle,
	}).Draw(rt, "step")
	if m.Clock.Now().Add(step).After(m.start) {
		m.Clock.Advance(step)
	}
}

// wait lets time pass for all parts, the guard too.
func (m *faultModel) wait(rt *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Second, 5*time.Second + time.Millisecond, 20 * time.Second, time.Minute}).Draw(rt, "for")
	time.Sleep(d)
	m.Clock.Advance(d)
}

// send presents a code that was never sent, and compares the result with the model.
func (m *faultModel) send(rt *rapid.T, c *codeModel, name string) {
	caller := drawCaller(rt)
	m.arm(c, name)
	m.began = time.Now()
	grant, err := m.call(m.t.Context(), c, caller)
	m.Simulator.ClearFaults()
	m.settle(rt, c, caller, name, m.reached(), grant, err)
}

func (m *faultModel) arm(c *codeModel, name string) {
	if name == "" {
		return
	}
	fault := faultKinds[name].fault
	fault.AppID = c.app
	if err := m.Simulator.AddFault(fault); err != nil {
		m.t.Fatal(err)
	}
}

func (m *faultModel) call(ctx context.Context, c *codeModel, caller string) (session.Grant, error) {
	return m.Service.Exchange(platform.WithCaller(ctx, caller), session.ExchangeRequest{ClientID: c.app, Code: auth.Secret(c.code)})
}

// settle records the result of a code that was never sent before.
func (m *faultModel) settle(rt *rapid.T, c *codeModel, caller, name string, reached int, grant session.Grant, err error) {
	if reached == 0 {
		m.refused(rt, c, caller, err)
		return
	}
	if reached != 1 {
		rt.Fatalf("%d calls of the platform for one code, want 1", reached)
	}
	want := m.wants(c, name)
	c.sent, c.sentAt = true, time.Now()
	m.calls++
	if got := auth.CodeOf(err); got != want {
		rt.Fatalf("fault %q: error = %v, want %q", name, err, want)
	}
	m.apps[c.app].mustHaveAdmitted(rt, caller, m.began)
	m.apps[c.app].answered(caller, want, faultKinds[name].counts)
	if err == nil {
		m.created++
		m.clients = append(m.clients, newClientModel(m, c.app, grant))
	}
}

// refused checks that the guard refused a call which did not reach the platform, with the
// time to wait.
func (m *faultModel) refused(rt *rapid.T, c *codeModel, caller string, err error) {
	var e *auth.Error
	if !unsent(err) || !errors.As(err, &e) || e.RetryAfter <= 0 {
		rt.Fatalf("the platform was not called, but the error is %v", err)
	}
	m.apps[c.app].mayRefuse(rt, caller, e.Code)
}

// unsent reports whether an error may come from the guard.
func unsent(err error) bool {
	return errors.Is(err, auth.PlatformQuota) || errors.Is(err, auth.PlatformUnavailable)
}

// reached returns the number of calls of the platform that the model does not know yet.
// It checks that they have no earlier code.
func (m *faultModel) reached() int {
	calls := m.Simulator.Calls()
	for _, c := range calls {
		if c.Seq <= m.seen {
			continue
		}
		m.seen = c.Seq
		if c.Outcome == "ok" && (c.Fault == "" || c.Fault == "delay") {
			m.given++
		}
		if key := c.AppID + " " + c.Code; m.sent[key] {
			m.t.Fatalf("the code %s was sent twice", c.Code)
		} else {
			m.sent[key] = true
		}
	}
	return int(m.seen - m.calls)
}

// check runs after every step.
func (m *faultModel) check(rt *rapid.T) {
	if n := m.reached(); n != 0 {
		rt.Fatalf("%d calls of the platform outside the steps, want 0", n)
	}
	begun, good := m.sessions()-m.rows, int(m.good.Load()-m.goodThen)
	if begun != m.created || begun > good || good > m.given {
		rt.Fatalf("%d sessions are in the database, the model has %d; there were %d good answers, and WeChat gave %d",
			begun, m.created, good, m.given)
	}
}

// finish compares every session with its row once more.
func (m *faultModel) finish(rt *rapid.T) {
	for _, c := range m.clients {
		c.sameRow(rt)
	}
}

func (m *faultModel) newCode(rt *rapid.T) *codeModel { return m.codeFor(rt, m.drawApp(rt)) }

func (m *faultModel) drawApp(rt *rapid.T) string {
	return rapid.SampledFrom([]string{AppID, AppID, OtherAppID}).Draw(rt, "app")
}

func (m *faultModel) codeFor(rt *rapid.T, app string) *codeModel {
	user := m.user + rapid.SampledFrom([]string{"alice", "bob", "carol"}).Draw(rt, "user")
	c := &codeModel{app: app, code: m.Simulator.NewAppCode(app, user), expires: m.Clock.Now().Add(5 * time.Minute)}
	m.codes = append(m.codes, c)
	return c
}

func sentLately(c *codeModel) bool { return c.sent && time.Since(c.sentAt) < 6*time.Minute }

func notSent(c *codeModel) bool { return !c.sent }

// withCode returns a step that does something with one of the codes that fit. Without
// such a code the step does nothing.
func (m *faultModel) withCode(fits func(*codeModel) bool, do func(*rapid.T, *codeModel)) func(*rapid.T) {
	return func(rt *rapid.T) {
		var fitting []*codeModel
		for _, c := range m.codes {
			if fits(c) {
				fitting = append(fitting, c)
			}
		}
		if len(fitting) > 0 {
			do(rt, rapid.SampledFrom(fitting).Draw(rt, "code"))
		}
	}
}

func drawCaller(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "2001:db8::/64"}).Draw(rt, "caller")
}
