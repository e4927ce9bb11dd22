package guard_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/guard"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

const (
	appA = "wxaaaaaaaaaaaaaaaa"
	appB = "wxbbbbbbbbbbbbbbbb"
)

// wire is the guard before the real client, which speaks HTTP with a simulated
// WeChat. It lives in a bubble, where waiting takes no time.
type wire struct {
	t     *testing.T
	guard *guard.Guard
	sim   *wechatsim.Simulator
}

func inBubble(t *testing.T, c guard.Config, test func(t *testing.T, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sim := wechatsim.New(wechatsim.Config{MaxCalls: 1 << 16})
		dial, stop := sim.ServeInMemory()
		transport := wechat.NewTransport()
		transport.DialContext = dial
		client, err := wechat.New(wechat.Config{BaseURL: "http://wechat.test", Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		defer client.CloseIdleConnections()
		test(t, &wire{t, guard.New(client, c), sim})
	})
}

func (w *wire) exchange(app, caller, code string) error {
	ctx := platform.WithCaller(w.t.Context(), caller)
	_, err := w.guard.ExchangeCode(ctx, platform.Credentials{AppID: app, Secret: "secret"}, code)
	return err
}

// logIn logs somebody in with a code of his own.
func (w *wire) logIn(app, caller string) error {
	return w.exchange(app, caller, w.sim.NewCode("alice"))
}

func (w *wire) fault(f wechatsim.Fault) {
	w.t.Helper()
	if err := w.sim.AddFault(f); err != nil {
		w.t.Fatal(err)
	}
}

// sent is how many calls reached WeChat. It also holds that no code was sent
// twice.
func (w *wire) sent() int {
	w.t.Helper()
	calls := w.sim.Calls()
	codes := map[string]bool{}
	for _, c := range calls {
		if codes[c.AppID+" "+c.Code] {
			w.t.Errorf("the code %s was sent twice", c.Code)
		}
		codes[c.AppID+" "+c.Code] = true
	}
	return len(calls)
}

// want holds that what do does ends with the code and costs so many calls. A
// refusal that costs none must say how long to wait. It returns how long.
func (w *wire) want(what string, code auth.Code, calls int, do func() error) time.Duration {
	w.t.Helper()
	before := w.sent()
	err := do()
	if got := auth.CodeOf(err); got != code {
		w.t.Errorf("%s: %v, want %q", what, err, code)
	}
	if got := w.sent() - before; got != calls {
		w.t.Errorf("%s: %d calls reached WeChat, want %d", what, got, calls)
	}
	var e *auth.Error
	if errors.As(err, &e) {
		if calls == 0 && (code == auth.PlatformUnavailable || code == auth.PlatformQuota) && e.RetryAfter <= 0 {
			w.t.Errorf("%s: it does not say how long to wait", what)
		}
		return e.RetryAfter
	}
	return 0
}

func TestWireBreaker(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]wechatsim.Fault{
		"WeChat is busy":      {Errcode: -1},
		"WeChat hangs up":     {Drop: true},
		"answers are empty":   {Empty: true},
		"answers are cut off": {Malformed: true},
		"the proxy is broken": {Status: 502},
		"WeChat is silent":    {Delay: 10 * time.Second},
	} {
		t.Run(name+", and calls stop until it is over", func(t *testing.T) {
			t.Parallel()
			inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
				fault.AppID, fault.Count = appA, 1000
				w.fault(fault)
				for i := range 5 {
					w.want("a call", auth.PlatformUnavailable, 1, func() error { return w.logIn(appA, fmt.Sprint(i)) })
				}
				for i := range 20 {
					if wait := w.want("the breaker is open", auth.PlatformUnavailable, 0, func() error { return w.logIn(appA, fmt.Sprint(i)) }); wait > 5*time.Second {
						t.Errorf("it says to wait for %s", wait)
					}
				}
				w.want("another app", "", 1, func() error { return w.logIn(appB, "1") })

				time.Sleep(5*time.Second + time.Millisecond)
				w.want("a probe", auth.PlatformUnavailable, 1, func() error { return w.logIn(appA, "1") })
				w.want("it failed", auth.PlatformUnavailable, 0, func() error { return w.logIn(appA, "1") })

				w.sim.ClearFaults()
				time.Sleep(5*time.Second + time.Millisecond)
				for range 20 {
					w.want("it is over", "", 1, func() error { return w.logIn(appA, "1") })
				}
			})
		})
	}

	t.Run("one caller cannot open it with what he sends", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			used := w.sim.NewCode("mallory")
			w.want("a log-in", "", 1, func() error { return w.exchange(appA, "mallory", used) })
			for i := range 200 {
				w.want("a guess", auth.CodeInvalid, 1, func() error { return w.exchange(appA, "mallory", fmt.Sprintf("guess%d", i)) })
				w.want("a used code", auth.CodeUsed, 0, func() error { return w.exchange(appA, "mallory", used) })
				for _, bad := range []string{"", "the code is a mock one", "a\x00b", fmt.Sprintf("%0200d", i)} {
					w.want("what is no code", auth.CodeInvalid, 0, func() error { return w.exchange(appA, "mallory", bad) })
				}
			}
			w.fault(wechatsim.Fault{Errcode: 98765, Count: 100})
			for range 100 {
				w.want("an errcode that nobody knows", auth.PlatformUnavailable, 1, func() error { return w.logIn(appA, "mallory") })
			}
			w.want("somebody else", "", 1, func() error { return w.logIn(appA, "alice") })
		})
	})

	t.Run("one caller cannot open it, or keep it open, by hanging up", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			hangUp := func() error {
				ctx, cancel := context.WithCancel(platform.WithCaller(t.Context(), "mallory"))
				defer cancel()
				time.AfterFunc(time.Second, cancel)
				w.fault(wechatsim.Fault{Delay: 2 * time.Second})
				_, err := w.guard.ExchangeCode(ctx, platform.Credentials{AppID: appA, Secret: "secret"}, fmt.Sprintf("guess%d", w.sent()))
				return err
			}
			for range 50 {
				w.want("a guess whose caller hung up", auth.CodeInvalid, 1, hangUp)
			}
			w.want("somebody else", "", 1, func() error { return w.logIn(appA, "alice") })

			w.fault(wechatsim.Fault{Errcode: -1, Count: 5})
			for range 5 {
				w.want("WeChat is busy", auth.PlatformUnavailable, 1, func() error { return w.logIn(appA, "alice") })
			}
			time.Sleep(5*time.Second + time.Millisecond)
			for range 3 {
				w.want("a probe whose caller hung up", auth.CodeInvalid, 1, hangUp)
			}
			for range 10 {
				w.want("the breaker is closed", "", 1, func() error { return w.logIn(appA, "alice") })
			}
		})
	})
}

func TestWireQuota(t *testing.T) {
	t.Parallel()
	t.Run("of one caller is his alone", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			w.fault(wechatsim.Fault{Errcode: 45011})
			if wait := w.want("told so", auth.PlatformQuota, 1, func() error { return w.logIn(appA, "greedy") }); wait != time.Minute {
				t.Errorf("told to wait for %s", wait)
			}
			for range 100 {
				if wait := w.want("held back", auth.PlatformQuota, 0, func() error { return w.logIn(appA, "greedy") }); wait != time.Minute {
					t.Errorf("told to wait for %s", wait)
				}
			}
			w.want("somebody else", "", 1, func() error { return w.logIn(appA, "honest") })
			w.want("another app", "", 1, func() error { return w.logIn(appB, "greedy") })
			time.Sleep(time.Second)
			w.want("one a second", "", 1, func() error { return w.logIn(appA, "greedy") })
		})
	})
	t.Run("of several callers is the app's", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			w.fault(wechatsim.Fault{Errcode: 45011, Count: 3})
			for i := range 3 {
				w.want("told so", auth.PlatformQuota, 1, func() error { return w.logIn(appA, fmt.Sprint(i)) })
			}
			w.want("somebody else", auth.PlatformQuota, 0, func() error { return w.logIn(appA, "honest") })
			w.want("another app", "", 1, func() error { return w.logIn(appB, "honest") })
			time.Sleep(time.Minute)
			w.want("a minute later", "", 1, func() error { return w.logIn(appA, "honest") })
		})
	})
}

func TestWireConcurrency(t *testing.T) {
	t.Parallel()
	const bound = 8
	inBubble(t, guard.Config{Concurrency: bound}, func(t *testing.T, w *wire) {
		w.fault(wechatsim.Fault{Delay: 3 * time.Second, Count: 10 * bound})
		var (
			logIns sync.WaitGroup
			mu     sync.Mutex
			by     = map[auth.Code]int{}
		)
		for range 4 * bound {
			logIns.Go(func() {
				err := w.logIn(appA, "somebody")
				var e *auth.Error
				if errors.As(err, &e) && e.RetryAfter <= 0 {
					t.Errorf("%v does not say how long to wait", err)
				}
				mu.Lock()
				by[auth.CodeOf(err)]++
				mu.Unlock()
			})
		}
		logIns.Wait()
		if by[""] != bound || by[auth.PlatformUnavailable] != 3*bound || w.sent() != bound {
			t.Errorf("%v, and %d calls reached WeChat; want %d log-ins and as many calls", by, w.sent(), bound)
		}
		w.sim.ClearFaults()
		w.want("when they are through", "", 1, func() error { return w.logIn(appA, "somebody") })
	})
}
