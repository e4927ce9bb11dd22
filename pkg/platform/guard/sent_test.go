package guard

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

func TestCodes(t *testing.T) {
	app, code := platform.Credentials{AppID: "wx1"}, "the same code"
	t.Run("codes that were sent are not sent again, regardless of the answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, answer := range []error{nil, auth.CodeInvalid, auth.PlatformUnavailable, context.Canceled} {
				p := &scripted{answer: always(answer)}
				g := New(p, Config{})
				_, _ = g.ExchangeCode(t.Context(), app, code)
				_, err := g.ExchangeCode(t.Context(), app, code)
				wantCode(t, err, auth.CodeUsed)
				if got := p.calls.Load(); got != 1 {
					t.Errorf("after answer %v: code sent %d times", answer, got)
				}
			}
		})
	})
	t.Run("a code with many concurrent senders is sent once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &hesitant{scripted: scripted{answer: always(nil)}, takes: queueTimeout / 2}
			// The only slot is taken: all callers find the code unknown before the first
			// of them may send it.
			g := New(p, Config{Concurrency: 1})
			go func() { _ = attempt(g, "wx2", "somebody") }()
			synctest.Wait()
			p.takes = time.Millisecond
			var wg sync.WaitGroup
			var good atomic.Int64
			for range 100 {
				wg.Go(func() {
					if _, err := g.ExchangeCode(t.Context(), app, code); err == nil {
						good.Add(1)
					}
				})
			}
			wg.Wait()
			if sent := p.calls.Load() - 1; good.Load() != 1 || sent != 1 {
				t.Errorf("%d log-ins succeeded, %d codes were sent, want 1 and 1", good.Load(), sent)
			}
		})
	})
	t.Run("codes that were refused before sending may be sent later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(auth.PlatformUnavailable)}
			g := New(p, Config{})
			for range consecutiveFailures {
				_ = attempt(g, "wx1", "a")
			}
			_, err := g.ExchangeCode(t.Context(), app, code)
			wantCode(t, err, auth.PlatformUnavailable)
			p.answer = always(nil)
			time.Sleep(openFor + time.Millisecond)
			_, err = g.ExchangeCode(t.Context(), app, code)
			wantCode(t, err, "")
		})
	})
	t.Run("codes that were sent get their answer even if the caller hung up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, answer := range []auth.Code{auth.CodeInvalid, auth.PlatformQuota} {
				p := &hesitant{scripted: scripted{answer: always(answer)}, takes: time.Second}
				g := New(p, Config{})
				ctx, hangUp := context.WithCancel(platform.WithCaller(t.Context(), "a"))
				time.AfterFunc(time.Millisecond, hangUp)
				_, err := g.ExchangeCode(ctx, app, code)
				wantCode(t, err, answer)
				if _, err = g.ExchangeCode(ctx, app, "another code"); answer == auth.PlatformQuota {
					wantCode(t, err, auth.PlatformQuota)
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("error for a caller that had given up = %v", err)
				}
				if n := p.calls.Load(); n != 1 {
					t.Errorf("%d calls reached the platform, want 1", n)
				}
			}
		})
	})
	t.Run("codes that were sent are awaited only until the caller's deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := New(&hesitant{scripted: scripted{answer: always(nil)}, takes: time.Hour}, Config{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := g.ExchangeCode(ctx, app, code); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("ExchangeCode() error = %v", err)
			}
		})
	})
	t.Run("a code that the last check stops is not sent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(nil)}
			g := New(p, Config{})
			stopped := platform.WithCheck(t.Context(), func() error { return &auth.Error{Code: auth.RateLimited} })
			for range 5 * minCalls {
				_, err := g.ExchangeCode(stopped, app, code)
				wantCode(t, err, auth.RateLimited)
			}
			if n := p.calls.Load(); n != 0 {
				t.Errorf("%d calls reached the platform, want 0", n)
			}
			_, err := g.ExchangeCode(platform.WithCheck(t.Context(), func() error { return nil }), app, code)
			wantCode(t, err, "")
		})
	})
	t.Run("codes that are malformed are not remembered, because they were not sent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{answer: always(&auth.Error{Code: auth.CodeInvalid, Err: platform.ErrNotSent})}
			g := New(p, Config{})
			for range 3 {
				_, err := g.ExchangeCode(t.Context(), app, code)
				wantCode(t, err, auth.CodeInvalid)
			}
			if n := len(g.codes.current); n != 0 {
				t.Errorf("%d codes are remembered", n)
			}
		})
	})
	t.Run("equal texts of different apps are different codes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := New(&scripted{answer: always(nil)}, Config{})
			_, _ = g.ExchangeCode(t.Context(), app, code)
			_, err := g.ExchangeCode(t.Context(), platform.Credentials{AppID: "wx2"}, code)
			wantCode(t, err, "")
		})
	})
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu          sync.Mutex
			under, most int
		)
		release := make(chan struct{})
		p := &scripted{answer: func(appID, caller string) error {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			<-release
			mu.Lock()
			defer mu.Unlock()
			under--
			return nil
		}}
		const bound = 4
		g := New(p, Config{Concurrency: bound})
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range 3 * bound {
			wg.Go(func() {
				if errors.Is(attempt(g, "wx1", "a"), auth.PlatformUnavailable) {
					refused.Add(1)
				}
			})
		}
		time.Sleep(queueTimeout + time.Millisecond)
		synctest.Wait()
		if most != bound || refused.Load() != 2*bound {
			t.Errorf("%d concurrent calls, %d refused; want %d and %d", most, refused.Load(), bound, 2*bound)
		}
		close(release)
		wg.Wait()
		// Our own refusals do not open the breaker.
		wantCode(t, attempt(g, "wx1", "a"), "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g.slots = make(chan struct{}) // full for ever
		_, err := g.ExchangeCode(ctx, platform.Credentials{}, "x")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error for a caller that gave up = %v", err)
		}
	})
}
