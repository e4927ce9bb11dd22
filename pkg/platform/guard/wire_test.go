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

// wire is the guard with the real client, over HTTP to a simulated WeChat. It lives in a
// bubble, where waiting takes no real time.
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
	_, err := w.guard.ExchangeCode(ctx, platform.Credentials{AppID: app, Secrets: map[string]auth.Secret{auth.CredentialAppSecret: "secret"}}, code)
	return err
}

// logIn logs a user in with a new code.
func (w *wire) logIn(app, caller string) error {
	return w.exchange(app, caller, w.sim.NewCode("alice"))
}

func (w *wire) fault(f wechatsim.Fault) {
	w.t.Helper()
	if err := w.sim.AddFault(f); err != nil {
		w.t.Fatal(err)
	}
}

// sent returns the number of calls that reached WeChat. It also checks that no code was
// sent twice.
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

// want checks that do ends with the code and makes this number of calls. A refusal
// without a call must have the time to wait, which is returned.
func (w *wire) want(what string, code auth.Code, calls int, do func() error) time.Duration {
	w.t.Helper()
	before := w.sent()
	err := do()
	if got := auth.CodeOf(err); got != code {
		w.t.Errorf("%s: error = %v, want code %q", what, err, code)
	}
	if got := w.sent() - before; got != calls {
		w.t.Errorf("%s: %d calls reached WeChat, want %d", what, got, calls)
	}
	var e *auth.Error
	if errors.As(err, &e) {
		if calls == 0 && (code == auth.PlatformUnavailable || code == auth.PlatformQuota) && e.RetryAfter <= 0 {
			w.t.Errorf("%s: the error has no RetryAfter", what)
		}
		return e.RetryAfter
	}
	return 0
}

func TestWireBreaker(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]wechatsim.Fault{
		"WeChat is busy":        {Errcode: -1},
		"WeChat disconnects":    {Drop: true},
		"answers are empty":     {Empty: true},
		"answers are truncated": {Malformed: true},
		"the proxy is broken":   {Status: 502},
		"WeChat is silent":      {Delay: 10 * time.Second},
	} {
		t.Run("calls stop while "+name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
				fault.AppID, fault.Count = appA, 1000
				w.fault(fault)
				for i := range 5 {
					w.want("a call", auth.PlatformUnavailable, 1, func() error { return w.logIn(appA, fmt.Sprint(i)) })
				}
				for i := range 20 {
					if wait := w.want("the breaker is open", auth.PlatformUnavailable, 0, func() error { return w.logIn(appA, fmt.Sprint(i)) }); wait > 5*time.Second {
						t.Errorf("RetryAfter = %s", wait)
					}
				}
				w.want("another app", "", 1, func() error { return w.logIn(appB, "1") })

				time.Sleep(5*time.Second + time.Millisecond)
				w.want("a probe", auth.PlatformUnavailable, 1, func() error { return w.logIn(appA, "1") })
				w.want("a call after the failed probe", auth.PlatformUnavailable, 0, func() error { return w.logIn(appA, "1") })

				w.sim.ClearFaults()
				time.Sleep(5*time.Second + time.Millisecond)
				for range 20 {
					w.want("a call after the recovery", "", 1, func() error { return w.logIn(appA, "1") })
				}
			})
		})
	}

	t.Run("one caller cannot open it with bad input", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			used := w.sim.NewCode("mallory")
			w.want("a log-in", "", 1, func() error { return w.exchange(appA, "mallory", used) })
			for i := range 200 {
				w.want("a guess", auth.CodeInvalid, 1, func() error { return w.exchange(appA, "mallory", fmt.Sprintf("guess%d", i)) })
				w.want("a used code", auth.CodeUsed, 0, func() error { return w.exchange(appA, "mallory", used) })
				for _, bad := range []string{"", "the code is a mock one", "a\x00b", fmt.Sprintf("%0200d", i)} {
					w.want("a malformed code", auth.CodeInvalid, 0, func() error { return w.exchange(appA, "mallory", bad) })
				}
			}
			w.fault(wechatsim.Fault{Errcode: 98765, Count: 100})
			for range 100 {
				w.want("an unknown errcode", auth.PlatformUnavailable, 1, func() error { return w.logIn(appA, "mallory") })
			}
			w.want("another caller", "", 1, func() error { return w.logIn(appA, "alice") })
		})
	})

	t.Run("one caller cannot open it or keep it open by hanging up", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			hangUp := func() error {
				ctx, cancel := context.WithCancel(platform.WithCaller(t.Context(), "mallory"))
				defer cancel()
				time.AfterFunc(time.Second, cancel)
				w.fault(wechatsim.Fault{Delay: 2 * time.Second})
				_, err := w.guard.ExchangeCode(ctx, platform.Credentials{AppID: appA, Secrets: map[string]auth.Secret{auth.CredentialAppSecret: "secret"}}, fmt.Sprintf("guess%d", w.sent()))
				return err
			}
			for range 50 {
				w.want("a guess whose caller hung up", auth.CodeInvalid, 1, hangUp)
			}
			w.want("another caller", "", 1, func() error { return w.logIn(appA, "alice") })

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
	t.Run("the quota error of one caller affects only that caller", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			w.fault(wechatsim.Fault{Errcode: 45011})
			if wait := w.want("a call over the quota", auth.PlatformQuota, 1, func() error { return w.logIn(appA, "greedy") }); wait != time.Minute {
				t.Errorf("RetryAfter = %s", wait)
			}
			for range 100 {
				if wait := w.want("held back", auth.PlatformQuota, 0, func() error { return w.logIn(appA, "greedy") }); wait != time.Minute {
					t.Errorf("RetryAfter = %s", wait)
				}
			}
			w.want("another caller", "", 1, func() error { return w.logIn(appA, "honest") })
			w.want("another app", "", 1, func() error { return w.logIn(appB, "greedy") })
			time.Sleep(time.Second)
			w.want("one call after a second", "", 1, func() error { return w.logIn(appA, "greedy") })
		})
	})
	t.Run("the quota error of several callers affects the app", func(t *testing.T) {
		t.Parallel()
		inBubble(t, guard.Config{}, func(t *testing.T, w *wire) {
			w.fault(wechatsim.Fault{Errcode: 45011, Count: 3})
			for i := range 3 {
				w.want("a call over the quota", auth.PlatformQuota, 1, func() error { return w.logIn(appA, fmt.Sprint(i)) })
			}
			w.want("another caller", auth.PlatformQuota, 0, func() error { return w.logIn(appA, "honest") })
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
					t.Errorf("error %v has no RetryAfter", err)
				}
				mu.Lock()
				by[auth.CodeOf(err)]++
				mu.Unlock()
			})
		}
		logIns.Wait()
		if by[""] != bound || by[auth.PlatformUnavailable] != 3*bound || w.sent() != bound {
			t.Errorf("results %v, and %d calls reached WeChat; want %d log-ins and as many calls", by, w.sent(), bound)
		}
		w.sim.ClearFaults()
		w.want("after the calls", "", 1, func() error { return w.logIn(appA, "somebody") })
	})
}
