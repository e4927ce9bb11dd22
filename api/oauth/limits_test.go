package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/guard"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// loopback is the trusted proxy of a test that is its own proxy.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// limited is a world with limits, the platform's guard, and trusted proxies.
type limited struct {
	*world
	// serve is called before each answer of the platform.
	serve atomic.Pointer[func(*http.Request)]
	// last is the context of the last request to the service.
	last atomic.Pointer[context.Context]
	// crowd is closed when the expected number of requests has come.
	expect atomic.Int64
	crowd  chan struct{}
}

const platformCalls = 4

func newLimited(t *testing.T, failures, successes int, proxies []netip.Prefix) *limited {
	t.Helper()
	l := &limited{world: newWorld(t), crowd: make(chan struct{})}
	sim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if serve := l.serve.Load(); serve != nil {
			(*serve)(r)
		}
		l.Simulator.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(sim.Close)
	weChat, err := wechat.New(wechat.Config{BaseURL: sim.URL, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(weChat.CloseIdleConnections)
	service, err := session.NewService(session.Config{
		Store:     l.Store,
		Platforms: map[string]platform.Provider{auth.PlatformWeChat: guard.New(weChat, guard.Config{Concurrency: platformCalls})},
		Sealer:    l.Sealer, Shards: l.Shards, Minter: l.Minter, Verifier: l.Verifier, Codec: l.Codec,
		Lifetimes: l.Lifetimes, Clock: l.Clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.mount(t, service, failures, successes, proxies)
	return l
}

// mount serves the sessions with limits.
func (l *limited) mount(t *testing.T, sessions oauth.Sessions, failures, successes int, proxies []netip.Prefix) {
	t.Helper()
	limits := oauth.NewExchangeLimits(failures, successes, l.Clock.Now)
	t.Cleanup(limits.Close)
	r := chi.NewRouter()
	r.Use(web.ClientIP(proxies, func(netip.Addr) {}), web.Events(slog.New(slog.NewJSONHandler(l.log, nil)), func(web.Observation) {}, l.Clock.Now))
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			l.last.Store(&ctx)
			if l.expect.Add(-1) == 0 {
				close(l.crowd)
			}
			next.ServeHTTP(w, r)
		})
	})
	oauth.New(sessiontest.Issuer, sessions, l.Keys, limits, 5*time.Minute).Mount(r)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	l.url = srv.URL
	transport := apitest.NewTransport(t, nil)
	transport.Watch(l.url, apitest.Public)
	l.client = &http.Client{Transport: transport}
}

// from sets the client's address in X-Forwarded-For.
func from(client string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-Forwarded-For", client) }
}

func (l *limited) present(t *testing.T, client, code string) answer {
	t.Helper()
	return l.do(t, http.MethodPost, "/oauth2/token",
		form("grant_type", codeGrant, "client_id", sessiontest.AppID, "code", code), from(client))
}

var guesses atomic.Int64

// guess presents a code that the platform never issued.
func (l *limited) guess(t *testing.T, client string) answer {
	t.Helper()
	return l.present(t, client, fmt.Sprintf("guess%d", guesses.Add(1)))
}

func (l *limited) logIn(t *testing.T, client string) answer {
	t.Helper()
	return l.present(t, client, l.Simulator.NewCode("alice"))
}

func wantLimited(t *testing.T, a answer) {
	t.Helper()
	wantError(t, a, http.StatusTooManyRequests, "temporarily_unavailable", "rate_limited")
	if got := a.Header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After = %q, want 1", got)
	}
}

func wantLoggedIn(t *testing.T, a answer) {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Errorf("POST /oauth2/token: status and body = %d %s, want 200", a.Status, a.Body)
	}
}

func TestExchangeLimits(t *testing.T) {
	t.Parallel()
	const alice, mallory = "192.0.2.1", "198.51.100.66"

	t.Run("one address may have 120 failures a minute, and other addresses are not affected", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 120, 6000, loopback)
		for range 120 {
			wantError(t, l.guess(t, mallory), http.StatusBadRequest, "invalid_grant", "code_invalid")
		}
		calls := len(l.Simulator.Calls())
		code := l.Simulator.NewCode("mallory")
		for range 10 {
			wantLimited(t, l.guess(t, mallory))
			wantLimited(t, l.present(t, mallory, code))
		}
		if got := len(l.Simulator.Calls()); got != calls {
			t.Errorf("refused requests made %d calls to the platform, want 0", got-calls)
		}
		for range 10 {
			wantLoggedIn(t, l.logIn(t, alice))
		}
		// The allowance refills steadily: one event each half second.
		l.Clock.Advance(500 * time.Millisecond)
		wantLoggedIn(t, l.present(t, mallory, code)) // a success does not use up the allowance of failures
		wantError(t, l.guess(t, mallory), http.StatusBadRequest, "invalid_grant", "code_invalid")
		wantLimited(t, l.guess(t, mallory))
	})

	t.Run("one login a second succeeds whatever others behind the address do", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 6, 6000, loopback)
		for range 6 {
			l.guess(t, mallory)
		}
		for range 30 {
			l.Clock.Advance(time.Second)
			code := l.Simulator.NewCode("alice")
			// Requests that do not reach the platform do not count.
			for range 3 {
				wantError(t, l.do(t, http.MethodPost, "/oauth2/token",
					form("grant_type", codeGrant, "client_id", "wxunknown", "code", "x"), from(mallory)), http.StatusUnauthorized, "invalid_client", "app_unknown")
				wantError(t, l.present(t, mallory, "not a code"), http.StatusBadRequest, "invalid_grant", "code_invalid")
			}
			wantLoggedIn(t, l.present(t, mallory, code))
			l.Clock.Advance(time.Second)
			wantError(t, l.guess(t, mallory), http.StatusBadRequest, "invalid_grant", "code_invalid")
			wantLimited(t, l.guess(t, mallory))
		}
	})

	t.Run("requests that do not reach the platform do not count", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 5, 5, loopback)
		used := l.Simulator.NewCode("alice")
		wantLoggedIn(t, l.present(t, alice, used))
		calls := len(l.Simulator.Calls())
		for range 200 {
			wantError(t, l.do(t, http.MethodPost, "/oauth2/token",
				form("grant_type", codeGrant, "client_id", "wxunknown", "code", "x"), from(alice)), http.StatusUnauthorized, "invalid_client", "app_unknown")
			wantError(t, l.present(t, alice, used), http.StatusBadRequest, "invalid_grant", "code_used")
			wantError(t, l.present(t, alice, "not a code"), http.StatusBadRequest, "invalid_grant", "code_invalid")
		}
		if got := len(l.Simulator.Calls()); got != calls {
			t.Errorf("%d calls reached the platform, want 0", got-calls)
		}
		for range 4 {
			wantLoggedIn(t, l.logIn(t, alice))
		}
		wantLimited(t, l.logIn(t, alice))
	})

	t.Run("apps behind one address are counted separately", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 5, 5, loopback)
		for range 5 {
			l.guess(t, mallory)
		}
		wantLimited(t, l.guess(t, mallory))
		a := l.do(t, http.MethodPost, "/oauth2/token",
			form("grant_type", codeGrant, "client_id", sessiontest.OtherAppID, "code", "guess"), from(mallory))
		wantError(t, a, http.StatusBadRequest, "invalid_grant", "code_invalid")
	})

	t.Run("successes have their own limit", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 120, 6, loopback)
		for range 6 {
			wantLoggedIn(t, l.logIn(t, alice))
		}
		wantLimited(t, l.logIn(t, alice))
		wantLoggedIn(t, l.logIn(t, mallory))
	})

	t.Run("refreshes are not limited", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 1, 1, loopback)
		token := l.logIn(t, alice).text(t, "refresh_token")
		l.guess(t, alice)
		wantLimited(t, l.logIn(t, alice))
		for range 20 {
			a := l.do(t, http.MethodPost, "/oauth2/token",
				form("grant_type", "refresh_token", "client_id", sessiontest.AppID, "refresh_token", token), from(alice))
			token = a.text(t, "refresh_token")
		}
		for range 20 {
			a := l.do(t, http.MethodPost, "/oauth2/token",
				form("grant_type", "refresh_token", "client_id", sessiontest.AppID, "refresh_token", "yfr_x"), from(alice))
			wantError(t, a, http.StatusBadRequest, "invalid_grant", "refresh_invalid")
		}
	})

	t.Run("malformed requests do not count and do not reach the platform", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 1, 1, loopback)
		for range 20 {
			a := l.do(t, http.MethodPost, "/oauth2/token", form("grant_type", codeGrant, "client_id", sessiontest.AppID), from(alice))
			wantError(t, a, http.StatusBadRequest, "invalid_request", "invalid_request")
		}
		wantLoggedIn(t, l.logIn(t, alice))
	})

	t.Run("failures of the platform do not count", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 3, 3, loopback)
		for _, f := range []wechatsim.Fault{
			{Errcode: -1}, {Drop: true}, {Empty: true}, {Status: 502},
			{Errcode: 98765, Count: 10}, {Errcode: 40125, Count: 10},
		} {
			if err := l.Simulator.AddFault(f); err != nil {
				t.Fatal(err)
			}
		}
		for range 24 {
			if a := l.logIn(t, alice); a.Status/100 != 5 {
				t.Errorf("POST /oauth2/token: status and body = %d %s, want 5xx", a.Status, a.Body)
			}
		}
		for range 3 {
			wantLoggedIn(t, l.logIn(t, alice))
		}
	})

	t.Run("failures of the database do not count", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 1, 1, loopback)
		exec := func(query string) {
			if _, err := l.db.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		}
		exec(`create trigger broken before insert on sessions begin select raise(abort, 'disk I/O error'); end`)
		for range 5 {
			if a := l.logIn(t, alice); a.Status/100 != 5 {
				t.Errorf("POST /oauth2/token: status and body = %d %s, want 5xx", a.Status, a.Body)
			}
		}
		exec(`drop trigger broken`)
		wantLoggedIn(t, l.logIn(t, alice))
	})

	t.Run("an IPv6 /64 is one client", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 10, 10, loopback)
		for i := range 10 {
			wantError(t, l.guess(t, fmt.Sprintf("2001:db8:1:2:%x::%x", i, i)), http.StatusBadRequest, "invalid_grant", "code_invalid")
		}
		wantLimited(t, l.guess(t, "2001:db8:1:2:ffff::1"))
		wantLoggedIn(t, l.logIn(t, "2001:db8:1:3::1"))
		for range 10 { // an IPv4-mapped address counts as its IPv4 address
			l.guess(t, "::ffff:"+mallory)
		}
		wantLimited(t, l.guess(t, mallory))
		wantLoggedIn(t, l.logIn(t, "::ffff:"+alice))
	})

	t.Run("only a trusted proxy can set the client's address", func(t *testing.T) {
		t.Parallel()
		for _, proxies := range [][]netip.Prefix{nil, {netip.MustParsePrefix("10.0.0.0/8")}} {
			l := newLimited(t, 5, 5, proxies)
			for i := range 5 {
				l.guess(t, fmt.Sprintf("203.0.113.%d", i))
			}
			for i := range 5 {
				wantLimited(t, l.guess(t, fmt.Sprintf("203.0.113.%d, 10.0.0.1", 100+i)))
			}
		}
		l := newLimited(t, 5, 5, loopback)
		for i := range 5 { // the client's own entries are on the left
			l.guess(t, fmt.Sprintf("203.0.113.%d, %s, 127.0.0.2", i, mallory))
		}
		wantLimited(t, l.guess(t, mallory))
	})

	t.Run("zero means no limit", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 0, 0, loopback)
		for range 150 {
			wantError(t, l.guess(t, mallory), http.StatusBadRequest, "invalid_grant", "code_invalid")
		}
	})

	t.Run("concurrent guesses are limited", func(t *testing.T) {
		t.Parallel()
		const limit = 10
		l := newLimited(t, limit, 6000, loopback)
		const crowd = 300
		// The platform's first answers wait until the whole crowd has come, so that
		// every request sees a full allowance. A later answer waits until
		// the guesses before it are answered, except the platformCalls last ones.
		// Without that, a busy machine could leave any number of guesses between the
		// platform's answer and their charge.
		var guessed, refused, busy, asked atomic.Int64
		settled := sync.NewCond(&sync.Mutex{})
		serve := func(*http.Request) {
			n := asked.Add(1)
			<-l.crowd
			settled.L.Lock()
			defer settled.L.Unlock()
			for guessed.Load() < n-platformCalls {
				settled.Wait()
			}
		}
		l.serve.Store(&serve)
		l.expect.Store(crowd)
		var under sync.WaitGroup
		for range crowd {
			under.Go(func() {
				switch a := l.guess(t, mallory); a.Status {
				case http.StatusBadRequest:
					settled.L.Lock()
					guessed.Add(1)
					settled.L.Unlock()
					settled.Broadcast()
				case http.StatusTooManyRequests:
					refused.Add(1)
				case http.StatusServiceUnavailable: // too many concurrent calls
					busy.Add(1)
				default:
					t.Errorf("POST /oauth2/token: status and body = %d %s, want a success, a limit or 503", a.Status, a.Body)
				}
			})
		}
		under.Wait()
		calls := len(l.Simulator.Calls())
		t.Logf("%d guesses reached the platform, %d were limited, %d found too many concurrent calls", calls, refused.Load(), busy.Load())
		if calls > limit+2*platformCalls || int64(calls) != guessed.Load() {
			t.Errorf("%d guesses reached the platform and %d were answered; the limit is %d, and %d may be concurrent",
				calls, guessed.Load(), limit, platformCalls)
		}
		if l.guess(t, mallory).Status != http.StatusTooManyRequests && calls >= limit {
			t.Error("after the guesses the client is not limited")
		}
	})

	t.Run("hanging up does not evade the limit, and does not count for honest clients", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 1, 1, loopback)
		hangUp := func(code string) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			before := strings.Count(l.log.String(), `"level"`)
			serve := func(*http.Request) {
				// The answer waits until the service notices that the client is gone.
				cancel()
				<-(*l.last.Load()).Done()
			}
			l.serve.Store(&serve)
			defer l.serve.Store(nil)
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/oauth2/token",
				strings.NewReader(form("grant_type", codeGrant, "client_id", sessiontest.AppID, "code", code)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("X-Forwarded-For", alice)
			if resp, err := http.DefaultClient.Do(r); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, error %v", resp, err)
			}
			poll := time.NewTicker(time.Millisecond)
			defer poll.Stop()
			for strings.Count(l.log.String(), `"level"`) == before {
				select {
				case <-poll.C:
				case <-t.Context().Done():
					t.Fatal("the request does not end")
				}
			}
		}
		hangUp(l.Simulator.NewCode("alice"))
		wantLoggedIn(t, l.logIn(t, alice))
		l.Clock.Advance(time.Minute)
		hangUp("guess")
		wantLimited(t, l.logIn(t, alice))
	})
}

// fixedOutcome is a service in which every exchange has the same result, with or
// without a call to the platform.
type fixedOutcome struct {
	oauth.Sessions
	err     error
	unasked bool
	caller  string
}

func (s *fixedOutcome) Exchange(ctx context.Context, _ session.ExchangeRequest) (session.Grant, error) {
	s.caller = platform.CallerOf(ctx)
	if !s.unasked {
		if err := platform.Check(ctx); err != nil {
			return session.Grant{}, err
		}
	}
	return session.Grant{}, s.err
}

func TestExchangeLimitsCount(t *testing.T) {
	t.Parallel()
	counted := []auth.Code{
		auth.InvalidRequest, auth.AppUnknown, auth.AppDisabled,
		auth.CodeInvalid, auth.CodeUsed, auth.UserBlocked, auth.IdentityDisabled, auth.PersonDisabled,
	}
	free := []error{
		auth.PlatformQuota, auth.PlatformUnavailable, auth.PlatformMisconfigured,
		auth.RateLimited, auth.StorageUnavailable, auth.Internal,
		context.DeadlineExceeded, errors.New("a defect"),
		&auth.Error{Code: auth.StorageUnavailable, Err: context.Canceled},
	}
	l := &limited{world: newWorld(t)}
	try := func(t *testing.T, err error, unasked bool) (limitedAfter bool) {
		t.Helper()
		s := &fixedOutcome{err: err, unasked: unasked}
		l.mount(t, s, 3, 3, loopback)
		for range 3 {
			if a := l.guess(t, "2001:db8:1:2:3::4"); strings.Contains(string(a.Body), "rate_limited") != errors.Is(err, auth.RateLimited) {
				t.Fatalf("POST /oauth2/token: status and body = %d %s, want rate_limited = %t", a.Status, a.Body, errors.Is(err, auth.RateLimited))
			}
		}
		if s.caller != "2001:db8:1:2::/64" {
			t.Errorf("the caller given to the platform is %q", s.caller)
		}
		s.caller = ""
		l.guess(t, "2001:db8:1:2:5::6")
		return s.caller == ""
	}
	for _, code := range counted {
		if !try(t, code, false) || !try(t, &auth.Error{Code: code, Err: errors.New("a cause")}, false) {
			t.Errorf("%s does not count as a failure", code)
		}
		if try(t, code, true) {
			t.Errorf("%s counts although the platform was not asked", code)
		}
		if try(t, &auth.Error{Code: code, Err: platform.ErrNotSent}, false) {
			t.Errorf("%s counts although nothing was sent", code)
		}
	}
	for _, err := range free {
		if try(t, err, false) {
			t.Errorf("the error %v counts as a failure", err)
		}
	}
}
