package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// scripted is a platform whose next answer the test sets.
type scripted struct {
	answer func(appID, caller string) error
	calls  atomic.Int64
}

func (s *scripted) ExchangeCode(ctx context.Context, app platform.Credentials, code string) (platform.Account, error) {
	s.calls.Add(1)
	if err := s.answer(app.AppID, platform.CallerOf(ctx)); err != nil {
		return platform.Account{}, err
	}
	return platform.Account{PlatformAccount: auth.OpenIDAccount("o" + code)}, nil
}

func (s *scripted) ExchangePhoneCode(context.Context, platform.Credentials, auth.PlatformAccount, string) (string, error) {
	s.calls.Add(1)
	return "", platform.Unsupported("phone numbers")
}

// hesitant is a slow platform that gives up with its caller.
type hesitant struct {
	scripted
	takes time.Duration
}

func (h *hesitant) ExchangeCode(ctx context.Context, app platform.Credentials, code string) (platform.Account, error) {
	select {
	case <-time.After(h.takes):
		return h.scripted.ExchangeCode(ctx, app, code)
	case <-ctx.Done():
		return platform.Account{}, ctx.Err()
	}
}

func always(err error) func(appID, caller string) error {
	return func(string, string) error { return err }
}

// attempt is one log-in with a new code.
var codes atomic.Int64

func attempt(g *Guard, appID, caller string) error {
	ctx := platform.WithCaller(context.Background(), caller)
	_, err := g.ExchangeCode(ctx, platform.Credentials{AppID: appID}, fmt.Sprint("code", codes.Add(1)))
	return err
}

func wantCode(t *testing.T, err error, want auth.Code) *auth.Error {
	t.Helper()
	if auth.CodeOf(err) != want {
		t.Fatalf("error = %v, want code %q", err, want)
	}
	var e *auth.Error
	if want != "" && !errors.As(err, &e) {
		return &auth.Error{Code: want}
	}
	return e
}

func TestBreaker(t *testing.T) {
	t.Run("opens after failures in a row, returns the time to wait, and closes when the platform recovers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformUnavailable)}
			g := New(p, Config{})
			for range consecutiveFailures {
				wantCode(t, attempt(g, "wx1", "a"), auth.PlatformUnavailable)
			}
			e := wantCode(t, attempt(g, "wx1", "a"), auth.PlatformUnavailable)
			if n := p.calls.Load(); n != consecutiveFailures {
				t.Errorf("%d calls reached the platform, want %d", n, consecutiveFailures)
			}
			if e.RetryAfter != openFor {
				t.Errorf("RetryAfter = %s, want %s", e.RetryAfter, openFor)
			}
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "a"), auth.PlatformUnavailable)
			time.Sleep(openFor + time.Millisecond)
			for range probes + 1 {
				wantCode(t, attempt(g, "wx1", "a"), "")
			}
		})
	})
	t.Run("opens when half of many calls fail", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var n int
			p := &scripted{answer: func(appID, caller string) error {
				if n++; n%2 == 0 {
					return auth.PlatformUnavailable
				}
				return nil
			}}
			g := New(p, Config{})
			for range 2 * minCalls {
				_ = attempt(g, "wx1", "a")
			}
			if got := p.calls.Load(); got != minCalls {
				t.Errorf("%d calls reached the platform, want %d", got, minCalls)
			}
		})
	})
	t.Run("ignores inconclusive outcomes in the failure ratio", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{}
			g := New(p, Config{})
			down, neutral := auth.PlatformUnavailable, &auth.Error{Code: auth.PlatformUnavailable, Err: platform.ErrUnknownAnswer}
			// Ten failures, which would be half of twenty calls.
			for i := range minCalls {
				switch {
				case i < minCalls/2-2:
					p.answer = always(neutral)
				case i%5 == 0:
					p.answer = always(nil)
				default:
					p.answer = always(down)
				}
				_ = attempt(g, "wx1", "a")
			}
			_ = attempt(g, "wx1", "a")
			if got := p.calls.Load(); got != minCalls+1 {
				t.Errorf("%d calls passed, want all %d", got, minCalls+1)
			}
		})
	})
	t.Run("ignores answers about codes, users and our configuration", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, answer := range []error{auth.CodeInvalid, auth.CodeUsed, auth.UserBlocked, auth.PlatformMisconfigured, context.Canceled} {
				p := &scripted{answer: always(answer)}
				g := New(p, Config{})
				for range 5 * minCalls {
					_ = attempt(g, "wx1", "a")
				}
				if got := p.calls.Load(); got != 5*minCalls {
					t.Errorf("%v: %d calls reached the platform, want all %d", answer, got, 5*minCalls)
				}
			}
		})
	})
	t.Run("is neither opened nor closed by unsent calls and unknown answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, neutral := range []error{
				&auth.Error{Code: auth.CodeInvalid, Err: platform.ErrNotSent},
				&auth.Error{Code: auth.PlatformUnavailable, Err: platform.ErrUnknownAnswer},
				&auth.Error{Code: auth.RateLimited},
				&auth.Error{Code: auth.StorageUnavailable},
				context.Canceled,
				context.DeadlineExceeded,
			} {
				p := &scripted{answer: always(neutral)}
				g := New(p, Config{})
				for range 5 * minCalls {
					wantCode(t, attempt(g, "wx1", "a"), auth.CodeOf(neutral))
				}
				if got := p.calls.Load(); got != 5*minCalls {
					t.Errorf("%v: %d calls passed, want all %d", neutral, got, 5*minCalls)
				}
				// They do not interrupt failures in a row.
				for i := range 2 * consecutiveFailures {
					p.answer = always(auth.PlatformUnavailable)
					if i%2 != 0 {
						p.answer = always(neutral)
					}
					_ = attempt(g, "wx1", "a")
				}
				calls := p.calls.Load()
				wantCode(t, attempt(g, "wx1", "a"), auth.PlatformUnavailable)
				if p.calls.Load() != calls {
					t.Errorf("%v: %d failures did not open the breaker", neutral, consecutiveFailures)
				}
				// While it is half-open, they prove nothing and use up no probe.
				time.Sleep(openFor + time.Millisecond)
				p.answer = always(neutral)
				for range 5 * probes {
					wantCode(t, attempt(g, "wx1", "a"), auth.CodeOf(neutral))
				}
				if got := p.calls.Load() - calls; got != 5*probes {
					t.Errorf("%v: %d calls passed the half-open breaker, want %d", neutral, got, 5*probes)
				}
				calls = p.calls.Load()
				p.answer = always(auth.PlatformUnavailable)
				for range 2 {
					wantCode(t, attempt(g, "wx1", "a"), auth.PlatformUnavailable)
				}
				if got := p.calls.Load() - calls; got != 1 {
					t.Errorf("%v: the breaker had closed: %d calls passed after a failed probe, want 1", neutral, got)
				}
			}
		})
	})
	t.Run("half-open lets only a few concurrent calls through, even slow ones", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &hesitant{scripted: scripted{answer: always(auth.PlatformUnavailable)}}
			g := New(p, Config{})
			for range consecutiveFailures {
				_ = attempt(g, "wx1", "a")
			}
			time.Sleep(openFor + time.Millisecond)
			p.answer, p.takes = always(nil), 2*time.Second
			calls := p.calls.Load()
			var wg sync.WaitGroup
			var refused atomic.Int64
			for range 10 {
				wg.Go(func() {
					if e := new(auth.Error); errors.As(attempt(g, "wx1", "a"), &e) && e.RetryAfter > 0 {
						refused.Add(1)
					}
				})
			}
			wg.Wait()
			if got := p.calls.Load() - calls; got != probes || refused.Load() != 10-probes {
				t.Errorf("%d calls passed and %d were refused, want %d and %d", got, refused.Load(), probes, 10-probes)
			}
			wantCode(t, attempt(g, "wx1", "a"), "")
		})
	})
	t.Run("the breaker of one app does not affect other apps", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: func(appID, caller string) error {
				if appID == "wx1" {
					return auth.PlatformUnavailable
				}
				return nil
			}}
			g := New(p, Config{})
			for range 10 {
				_ = attempt(g, "wx1", "a")
			}
			wantCode(t, attempt(g, "wx2", "a"), "")
		})
	})
	t.Run("survives a provider that panics", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: func(appID, caller string) error { panic("boom") }}
			g := New(p, Config{Concurrency: 1})
			func() {
				defer func() { _ = recover() }()
				_ = attempt(g, "wx1", "a")
			}()
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "a"), "")
		})
	})
}

func TestQuota(t *testing.T) {
	t.Run("holds back only the caller that was refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: func(appID, caller string) error {
				if caller == "greedy" {
					return auth.PlatformQuota
				}
				return nil
			}}
			g := New(p, Config{})
			for range 100 {
				wantCode(t, attempt(g, "wx1", "greedy"), auth.PlatformQuota)
			}
			if got := p.calls.Load(); got != 1 {
				t.Errorf("%d calls reached the platform, want 1", got)
			}
			wantCode(t, attempt(g, "wx1", "honest"), "")
			wantCode(t, attempt(g, "wx2", "greedy"), auth.PlatformQuota) // another app has its own quota
			if got := p.calls.Load(); got != 3 {
				t.Errorf("%d calls reached the platform, want 3", got)
			}
			if e := wantCode(t, attempt(g, "wx1", "greedy"), auth.PlatformQuota); e.RetryAfter != quotaPause {
				t.Errorf("RetryAfter = %s, want %s", e.RetryAfter, quotaPause)
			}
		})
	})
	t.Run("lets one call a second of a held-back caller through, until one succeeds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformQuota)}
			g := New(p, Config{})
			wantCode(t, attempt(g, "wx1", "shared"), auth.PlatformQuota)
			for range 10 {
				time.Sleep(time.Second)
				for range 10 {
					wantCode(t, attempt(g, "wx1", "shared"), auth.PlatformQuota)
				}
			}
			if got := p.calls.Load(); got != 11 {
				t.Errorf("%d calls reached the platform in 10 s, want 11", got)
			}
			// Ten more refusals still count as one caller.
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "honest"), "")
			time.Sleep(time.Second)
			for range 10 {
				wantCode(t, attempt(g, "wx1", "shared"), "")
			}
		})
	})
	t.Run("uses up a turn only for a call that goes out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformQuota)}
			g := New(p, Config{})
			used := "used"
			cheap := func() {
				ctx := platform.WithCaller(t.Context(), "shared")
				_, err := g.ExchangeCode(ctx, platform.Credentials{AppID: "wx1"}, used)
				wantCode(t, err, auth.CodeUsed)
				p.answer = always(&auth.Error{Code: auth.CodeInvalid, Err: platform.ErrNotSent})
				wantCode(t, attempt(g, "wx1", "shared"), auth.CodeInvalid)
				ctx = platform.WithCheck(ctx, func() error { return auth.RateLimited })
				_, err = g.ExchangeCode(ctx, platform.Credentials{AppID: "wx1"}, "unsent")
				wantCode(t, err, auth.RateLimited)
			}
			ctx := platform.WithCaller(t.Context(), "shared")
			_, err := g.ExchangeCode(ctx, platform.Credentials{AppID: "wx1"}, used)
			wantCode(t, err, auth.PlatformQuota)
			time.Sleep(time.Second)
			for range 10 {
				cheap()
			}
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "shared"), "")
			// The same while the whole app is held back.
			p.answer = always(auth.PlatformQuota)
			for i := range quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint(i)), auth.PlatformQuota)
			}
			time.Sleep(time.Second)
			for range 10 {
				cheap()
			}
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "shared"), "")
		})
	})
	t.Run("an app that is held back gives turns to callers that had none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformQuota)}
			g := New(p, Config{})
			for i := range quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint(i)), auth.PlatformQuota)
			}
			// The first caller in each second uses up the turn with a wrong code.
			p.answer = func(_, caller string) error {
				if caller == "honest" {
					return nil
				}
				return auth.CodeInvalid
			}
			time.Sleep(time.Second)
			wantCode(t, attempt(g, "wx1", "mallory"), auth.CodeInvalid)
			wantCode(t, attempt(g, "wx1", "honest"), auth.PlatformQuota)
			time.Sleep(time.Second)
			for range 5 {
				_ = attempt(g, "wx1", "mallory")
			}
			wantCode(t, attempt(g, "wx1", "honest"), "")
		})
	})
	t.Run("holds back the app once several callers were refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformQuota)}
			g := New(p, Config{})
			for i := range quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint(i)), auth.PlatformQuota)
			}
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "another caller"), auth.PlatformQuota)
			if got := p.calls.Load(); got != quotaCallers {
				t.Errorf("%d calls reached the platform, want %d", got, quotaCallers)
			}
			time.Sleep(quotaPause)
			wantCode(t, attempt(g, "wx1", "another caller"), "")
		})
	})
	t.Run("holds back the app only until a caller is let in", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: func(_, caller string) error {
				if strings.HasPrefix(caller, "greedy") {
					return auth.PlatformQuota
				}
				return nil
			}}
			g := New(p, Config{})
			for i := range quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint("greedy", i)), auth.PlatformQuota)
			}
			wantCode(t, attempt(g, "wx1", "honest"), auth.PlatformQuota)
			time.Sleep(time.Second)
			wantCode(t, attempt(g, "wx1", "greedy0"), auth.PlatformQuota) // has its own turn
			for range 10 {
				wantCode(t, attempt(g, "wx1", "honest"), "")
			}
			if got := p.calls.Load(); got != quotaCallers+11 {
				t.Errorf("%d calls reached the platform, want %d", got, quotaCallers+11)
			}
		})
	})
	t.Run("lets one call a second through while the app is held back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformQuota)}
			g := New(p, Config{})
			for i := range quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint(i)), auth.PlatformQuota)
			}
			for round := range 100 {
				time.Sleep(time.Second)
				for i := range 10 {
					wantCode(t, attempt(g, "wx1", fmt.Sprint("another", round, i)), auth.PlatformQuota)
				}
			}
			if got := p.calls.Load(); got != quotaCallers+100 {
				t.Errorf("%d calls reached the platform, want %d", got, quotaCallers+100)
			}
		})
	})
	t.Run("counts the networks of one IPv6 customer as one caller", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformQuota)}
			g := New(p, Config{})
			for i := range 10 * quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprintf("2001:db8:1:%x::/64", i)), auth.PlatformQuota)
			}
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "192.0.2.1/32"), "")
		})
	})
	t.Run("holds back only the refused callers while others are let in", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: func(appID, caller string) error {
				if caller == "honest" {
					return nil
				}
				return auth.PlatformQuota
			}}
			g := New(p, Config{})
			for i := range 10 * quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint("greedy", i)), auth.PlatformQuota)
				wantCode(t, attempt(g, "wx1", "honest"), "")
			}
			calls := p.calls.Load()
			for i := range 10 * quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint("greedy", i)), auth.PlatformQuota)
			}
			if p.calls.Load() != calls {
				t.Error("the refused callers are not held back")
			}
		})
	})
	t.Run("many concurrent refusals of one caller hold back only that caller", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &hesitant{scripted: scripted{answer: always(auth.PlatformQuota)}, takes: time.Second}
			g := New(p, Config{})
			var wg sync.WaitGroup
			for range 10 * quotaCallers {
				wg.Go(func() { _ = attempt(g, "wx1", "greedy") })
			}
			wg.Wait()
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "honest"), "")
		})
	})
	t.Run("remembers a limited number of callers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := New(&scripted{answer: always(nil)}, Config{})
			a := g.app(lane{kindLogIn, "wx1"})
			for i := range maxCallers + 100 {
				a.holdBack(fmt.Sprint(i), time.Now())
			}
			if len(a.callers) != maxCallers || len(a.refused) != maxCallers {
				t.Errorf("%d and %d callers are remembered, want %d", len(a.callers), len(a.refused), maxCallers)
			}
			time.Sleep(quotaPause)
			a.holdBack("another", time.Now())
			if len(a.callers) != 1 || len(a.refused) != 1 {
				t.Errorf("a minute later %d and %d callers are remembered, want 1", len(a.callers), len(a.refused))
			}
		})
	})
	t.Run("holds back only the refused callers when their refusals are far apart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformQuota)}
			g := New(p, Config{})
			for i := range 2 * quotaCallers {
				wantCode(t, attempt(g, "wx1", fmt.Sprint(i)), auth.PlatformQuota)
				time.Sleep(quotaPause)
			}
			p.answer = always(nil)
			wantCode(t, attempt(g, "wx1", "another caller"), "")
		})
	})
}
