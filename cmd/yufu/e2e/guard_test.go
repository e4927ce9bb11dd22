package e2e

import (
	"fmt"
	"strconv"
	"testing"
)

// caller returns the service with requests from the given address.
func (s *service) caller(address string) *service {
	sub, h := *s, *s.harness
	h.client = address
	sub.harness = &h
	return &sub
}

// tellsToWait fails the test unless the answer has a Retry-After of at most maxSeconds.
func (a *answer) tellsToWait(s *service, maxSeconds int) {
	s.t.Helper()
	if n, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || n < 1 || n > maxSeconds {
		s.t.Errorf("Retry-After is %q, want 1 to %d", a.Header.Get("Retry-After"), maxSeconds)
	}
}

func TestPlatformGuard(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	d.env["YUFU_TRUSTED_PROXIES"] = "127.0.0.1"
	_, s := d.serve("yufu", "--migrate")
	// Each case has its own app.
	start := func(t *testing.T, app string) *service {
		s := s.in(t)
		s.app = app
		h.in(t).mustRun(d.env, h.appSecret(), "app", "add", app, "--secret-file", "-")
		return s
	}
	// refused presents a fresh code, which must not reach WeChat.
	refused := func(s *service, status int, code string, wait int) {
		s.t.Helper()
		fresh := d.sim.mustCode("somebody")
		s.must(s.exchangeCode(fresh)).want(s, status, code).tellsToWait(s, wait)
		if d.sim.timesSent(fresh) != 0 {
			s.t.Error("a refused code was sent to WeChat")
		}
	}

	// refusedSoon presents fresh codes until one is refused without reaching WeChat: one
	// a second does reach it.
	refusedSoon := func(s *service, caller func(i int) *service) {
		s.t.Helper()
		for i := 0; ; i++ {
			fresh := d.sim.mustCode("somebody")
			c := caller(i)
			c.must(c.exchangeCode(fresh)).want(s, 429, "platform_quota").tellsToWait(s, 60)
			switch {
			case d.sim.timesSent(fresh) == 0:
				return
			case i == 100:
				s.t.Fatal("100 codes reached WeChat")
			}
		}
	}

	t.Run("a repeated code causes no call", func(t *testing.T) {
		s := start(t, "wxrepeated")
		code := d.sim.mustCode("alice")
		s.must(s.exchangeCode(code)).want(s, 200, "")
		for i := range 20 {
			s := s.caller(fmt.Sprintf("192.0.2.%d", i))
			s.must(s.exchangeCode(code)).want(s, 400, "code_used")
		}
		if n := d.sim.timesSent(code); n != 1 {
			t.Errorf("the code was sent to WeChat %d times", n)
		}
	})

	t.Run("a busy platform is not called for a while", func(t *testing.T) {
		s := start(t, "wxbusy")
		d.sim.fault(map[string]any{"errcode": -1, "count": 5, "appid": s.app})
		for i := range 5 {
			s := s.caller(fmt.Sprintf("192.0.2.%d", i))
			s.must(s.tryExchange("alice")).want(s, 503, "platform_unavailable").tellsToWait(s, 60)
		}
		refused(s.caller("192.0.2.99"), 503, "platform_unavailable", 5)
		start(t, "wxwell").caller("192.0.2.99").logIn("bob")
		s.eventually("logins are accepted again", func() bool {
			return s.must(s.tryExchange("alice")).Status == 200
		})
		for range 5 {
			s.logIn("alice")
		}
	})

	t.Run("one caller's quota does not affect others", func(t *testing.T) {
		s := start(t, "wxonecaller")
		greedy, honest := s.caller("2001:db8:1:2::3"), s.caller("2001:db8:1:3::3")
		d.sim.fault(map[string]any{"errcode": 45011, "count": 1000, "appid": s.app})
		refusedSoon(s, func(int) *service { return greedy })
		refusedSoon(s, func(int) *service { return s.caller("2001:db8:1:2:ffff::1") }) // the same /64
		code := d.sim.mustCode("alice")
		honest.must(honest.exchangeCode(code)).want(s, 429, "platform_quota")
		if d.sim.timesSent(code) != 1 {
			t.Error("another caller is limited")
		}
		start(t, "wxotherapp").caller("2001:db8:1:2::3").logIn("mallory")
	})

	t.Run("the quota error of several callers counts for the app", func(t *testing.T) {
		s := start(t, "wxallcallers")
		d.sim.fault(map[string]any{"errcode": 45011, "count": 1000, "appid": s.app})
		for i := range 3 {
			s := s.caller(fmt.Sprintf("192.0.2.%d", i))
			s.must(s.tryExchange("alice")).want(s, 429, "platform_quota").tellsToWait(s, 60)
		}
		refusedSoon(s, func(i int) *service { return s.caller(fmt.Sprintf("192.0.2.%d", 100+i)) })
		start(t, "wxanother").caller("192.0.2.99").logIn("alice")
	})

	t.Run("an unknown client_id does not affect others", func(t *testing.T) {
		s := start(t, "wxhonest")
		unknown := *s.caller("198.51.100.70")
		unknown.app = "wxunknown"
		for i := range 300 {
			unknown.must(unknown.exchangeCode(fmt.Sprint("unknown", i))).want(s, 401, "app_unknown")
		}
		s.caller("198.51.100.70").logIn("alice")
	})

	t.Run("only the guessing client is limited", func(t *testing.T) {
		s := start(t, "wxguessed")
		mallory := s.caller("198.51.100.66")
		limited := 0
		// The limit is 120 and two a second: a slow machine needs more guesses.
		for i := 0; i < 200 || limited == 0 && i < 2000; i++ {
			switch a := mallory.must(mallory.exchangeCode(fmt.Sprintf("guess%d", i))); a.code() {
			case "code_invalid":
			case "rate_limited":
				limited++
				a.want(s, 429, "rate_limited").tellsToWait(s, 60)
			default:
				t.Errorf("guess %d: status and body = %d %s, want code_invalid or rate_limited", i, a.Status, a.Body)
			}
		}
		if limited == 0 {
			t.Error("2,000 guesses were not limited")
		}
		s.caller("198.51.100.67").logIn("alice")
	})
}
