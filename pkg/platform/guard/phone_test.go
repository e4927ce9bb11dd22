package guard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// telling is a scripted platform that also returns phone numbers; its log-ins always
// succeed.
type telling struct {
	scripted
	phones scripted
}

func (p *telling) ExchangePhoneCode(ctx context.Context, app platform.Credentials, user auth.PlatformAccount, code string) (string, error) {
	p.phones.calls.Add(1)
	if err := p.phones.answer(app.AppID, platform.CallerOf(ctx)); err != nil {
		return "", err
	}
	return "number of " + user.Subject + " for " + code, nil
}

func newTelling(answer error) *telling {
	return &telling{scripted: scripted{answer: always(nil)}, phones: scripted{answer: always(answer)}}
}

func phone(g *Guard, appID, caller, code string) error {
	_, err := g.ExchangePhoneCode(platform.WithCaller(context.Background(), caller), platform.Credentials{AppID: appID}, auth.OpenIDAccount("o"), code)
	return err
}

// newPhone is phone with a new code.
func newPhone(g *Guard, appID, caller string) error {
	return phone(g, appID, caller, fmt.Sprint("phone", codes.Add(1)))
}

func TestPhoneNumbers(t *testing.T) {
	t.Run("pass through", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := New(newTelling(nil), Config{})
			number, err := g.ExchangePhoneCode(t.Context(), platform.Credentials{AppID: "wx1"}, auth.OpenIDAccount("alice"), "c")
			if err != nil || number != "number of alice for c" {
				t.Errorf("ExchangePhoneCode() = %q, %v", number, err)
			}
		})
	})
	t.Run("phone calls of a platform without them are misconfigured", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := New(&scripted{answer: always(nil)}, Config{})
			// Nothing is sent, so each attempt with the code gets the same answer.
			for range 50 {
				err := phone(g, "wx1", "a", "c")
				wantCode(t, err, auth.PlatformMisconfigured)
				if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, platform.ErrNotSent) {
					t.Fatalf("ExchangePhoneCode() error = %v, want ErrUnsupported and ErrNotSent among the causes", err)
				}
			}
			wantCode(t, attempt(g, "wx1", "a"), "")
		})
	})
	t.Run("phone codes are not sent twice, regardless of the answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, answer := range []error{nil, auth.PhoneCodeInvalid, auth.PlatformUnavailable, auth.PlatformQuota, context.Canceled} {
				p := newTelling(answer)
				g := New(p, Config{})
				_ = phone(g, "wx1", "a", "c")
				wantCode(t, phone(g, "wx1", "b", "c"), auth.PhoneCodeInvalid)
				if got := p.phones.calls.Load(); got != 1 {
					t.Errorf("after answer %v: code sent %d times", answer, got)
				}
			}
		})
	})
	t.Run("phone codes may be sent again if the provider reports them as unspent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, answer := range []error{
				&auth.Error{Code: auth.PlatformUnavailable, Err: platform.ErrCodeUnspent},
				&auth.Error{Code: auth.StorageUnavailable, Err: platform.ErrCodeUnspent},
				&auth.Error{Code: auth.PhoneCodeInvalid, Err: platform.ErrNotSent},
				fmt.Errorf("%w, %w", platform.ErrCodeUnspent, context.DeadlineExceeded),
				&auth.Error{Code: auth.PlatformQuota, Err: platform.ErrCodeUnspent},
			} {
				p := newTelling(answer)
				g := New(p, Config{})
				_ = phone(g, "wx1", "a", "c")
				p.phones.answer = always(nil)
				wantCode(t, phone(g, "wx1", "b", "c"), "")
				wantCode(t, phone(g, "wx1", "b", "c"), auth.PhoneCodeInvalid)
				if got := p.phones.calls.Load(); got != 2 {
					t.Errorf("after answer %v: code sent %d times", answer, got)
				}
			}
		})
	})
	t.Run("phone calls have separate codes: a log-in code with the same text is another code", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := New(newTelling(nil), Config{})
			wantCode(t, phone(g, "wx1", "a", "c"), "")
			_, err := g.ExchangeCode(t.Context(), platform.Credentials{AppID: "wx1"}, "c")
			wantCode(t, err, "")
			wantCode(t, phone(g, "wx2", "a", "c"), "")
		})
	})
	t.Run("open only their own breaker, so log-ins still work", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, failure := range []error{auth.PlatformUnavailable, &auth.Error{Code: auth.PlatformUnavailable, Err: platform.ErrCodeUnspent}} {
				p := newTelling(failure)
				g := New(p, Config{})
				for range consecutiveFailures {
					wantCode(t, newPhone(g, "wx1", "a"), auth.PlatformUnavailable)
				}
				if e := wantCode(t, phone(g, "wx1", "a", "c"), auth.PlatformUnavailable); e.RetryAfter != openFor {
					t.Errorf("Retry-After %s, want %s", e.RetryAfter, openFor)
				}
				if got := p.phones.calls.Load(); got != consecutiveFailures {
					t.Errorf("%d calls, want %d", got, consecutiveFailures)
				}
				for range minCalls {
					wantCode(t, attempt(g, "wx1", "a"), "")
				}
				p.phones.answer = always(nil)
				wantCode(t, newPhone(g, "wx2", "a"), "")
				time.Sleep(openFor + time.Millisecond)
				// The code that the breaker refused was not sent and is still valid.
				wantCode(t, phone(g, "wx1", "a", "c"), "")
			}
		})
	})
	t.Run("do not open the breaker when our own database fails or a code is wrong", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, answer := range []error{auth.StorageUnavailable, auth.PhoneCodeInvalid, auth.PlatformMisconfigured} {
				p := newTelling(answer)
				g := New(p, Config{})
				for range 5 * minCalls {
					_ = newPhone(g, "wx1", "a")
				}
				if got := p.phones.calls.Load(); got != 5*minCalls {
					t.Errorf("%v: %d calls, want all %d", answer, got, 5*minCalls)
				}
			}
		})
	})
	t.Run("phone calls have their own quota", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newTelling(auth.PlatformQuota)
			g := New(p, Config{})
			for i := range 2 * quotaCallers {
				wantCode(t, newPhone(g, "wx1", fmt.Sprint(i)), auth.PlatformQuota)
			}
			if got := p.phones.calls.Load(); got != quotaCallers {
				t.Errorf("%d calls, want %d", got, quotaCallers)
			}
			wantCode(t, attempt(g, "wx1", "0"), "")
		})
	})
	t.Run("share the concurrency limit with log-ins", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &slowLogIn{telling: newTelling(nil), takes: 3 * time.Second}
			g := New(p, Config{Concurrency: 1})
			go func() { _ = attempt(g, "wx1", "a") }()
			synctest.Wait()
			wantCode(t, phone(g, "wx1", "a", "c"), auth.PlatformUnavailable)
			time.Sleep(p.takes)
			wantCode(t, phone(g, "wx1", "a", "c"), "")
		})
	})
}

// slowLogIn is a platform with slow log-ins.
type slowLogIn struct {
	*telling
	takes time.Duration
}

func (p *slowLogIn) ExchangeCode(ctx context.Context, app platform.Credentials, code string) (platform.Account, error) {
	time.Sleep(p.takes)
	return p.telling.ExchangeCode(ctx, app, code)
}
