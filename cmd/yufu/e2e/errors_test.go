package e2e

import (
	"fmt"
	"strconv"
	"testing"
)

func TestTokenErrors(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	d.env["YUFU_TRUSTED_PROXIES"] = "127.0.0.1"
	p, s := d.serve("yufu", "--migrate")
	d.addApp()

	// wants compares an error of the token endpoint with its row of the table.
	wants := func(s *service, a *answer, status int, oauth, code string, retryAfter bool) {
		s.t.Helper()
		a.want(s, status, code)
		if a.Doc.Error != oauth {
			s.t.Errorf("error is %q, want %q", a.Doc.Error, oauth)
		}
		if a.Doc.RequestID == "" || a.Doc.RequestID != a.Header.Get("X-Request-Id") {
			s.t.Errorf("request_id is %q, X-Request-Id is %q", a.Doc.RequestID, a.Header.Get("X-Request-Id"))
		}
		if got := a.Header.Get("Cache-Control"); got != "no-store" {
			s.t.Errorf("Cache-Control is %q, want no-store", got)
		}
		seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if has := err == nil && seconds > 0; has != retryAfter {
			s.t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
		}
	}

	for i, c := range []struct {
		name        string
		fault       map[string]any
		status      int
		oauth, code string
		retryAfter  bool
	}{
		{"WeChat is busy", map[string]any{"errcode": -1}, 503, "temporarily_unavailable", "platform_unavailable", true},
		{"WeChat does not know the code", map[string]any{"errcode": 40029}, 400, "invalid_grant", "code_invalid", false},
		{"WeChat says the code was used", map[string]any{"errcode": 40163}, 400, "invalid_grant", "code_used", false},
		{"WeChat has blocked the user", map[string]any{"errcode": 40226}, 403, "access_denied", "user_blocked", false},
		{"WeChat's quota is used up", map[string]any{"errcode": 45011}, 429, "temporarily_unavailable", "platform_quota", true},
		{"WeChat does not know the appid", map[string]any{"errcode": 40013}, 500, "server_error", "platform_misconfigured", false},
		{"WeChat sends an unknown errcode", map[string]any{"errcode": 98765}, 503, "temporarily_unavailable", "platform_unavailable", true},
		{"WeChat's answer is broken", map[string]any{"malformed": true}, 503, "temporarily_unavailable", "platform_unavailable", true},
		{"WeChat's answer is empty", map[string]any{"empty": true}, 503, "temporarily_unavailable", "platform_unavailable", true},
		{"WeChat hangs up after the call took effect", map[string]any{"drop": true}, 503, "temporarily_unavailable", "platform_unavailable", true},
		{"WeChat's proxy is broken", map[string]any{"status": 502}, 503, "temporarily_unavailable", "platform_unavailable", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t).from(fmt.Sprintf("192.0.2.%d", i))
			code := d.sim.mustCode("alice")
			d.sim.fault(c.fault)
			wants(s, s.must(s.exchangeCode(code)), c.status, c.oauth, c.code, c.retryAfter)
			if n := d.sim.timesSent(code); n != 1 {
				t.Errorf("the code was sent to WeChat %d times, want once", n)
			}
			// The fault has ended. The caller that met the quota is limited for a minute,
			// so another caller asks.
			s.from(fmt.Sprintf("198.51.100.%d", i)).logIn("alice")
		})
	}

	t.Run("only a misconfigured app is logged as an error", func(t *testing.T) {
		for _, l := range p.log() {
			if l.Level == "ERROR" && l.Code != "platform_misconfigured" {
				t.Errorf("the log has the error %+v", l)
			}
		}
	})

	t.Run("a code works once", func(t *testing.T) {
		s := s.in(t)
		code := d.sim.mustCode("alice")
		s.must(s.exchangeCode(code)).want(s, 200, "")
		wants(s, s.must(s.exchangeCode(code)), 400, "invalid_grant", "code_used", false)
	})

	t.Run("malformed requests do not reach WeChat", func(t *testing.T) {
		s := s.in(t)
		code := d.sim.mustCode("alice")
		for _, c := range []struct {
			pairs       []string
			status      int
			oauth, code string
		}{
			{[]string{"client_id", testApp, "code", code}, 400, "invalid_request", "invalid_request"},
			{[]string{"grant_type", "password", "client_id", testApp}, 400, "unsupported_grant_type", "unsupported_grant_type"},
			{[]string{"grant_type", codeGrant, "client_id", testApp}, 400, "invalid_request", "invalid_request"},
			{[]string{"grant_type", codeGrant, "code", code}, 400, "invalid_request", "invalid_request"},
			{[]string{"grant_type", codeGrant, "client_id", "wx404", "code", code}, 401, "invalid_client", "app_unknown"},
			{[]string{"grant_type", codeGrant, "client_id", testApp, "code", code, "client_secret", "x"}, 401, "invalid_client", "client_secret_unexpected"},
			{[]string{"grant_type", codeGrant, "client_id", testApp, "code", "the code is a mock one"}, 400, "invalid_grant", "code_invalid"},
			{[]string{"grant_type", "refresh_token", "client_id", testApp, "refresh_token", "yfr_AAAA"}, 400, "invalid_grant", "refresh_invalid"},
		} {
			wants(s, s.must(s.post(s.base+"/oauth2/token", c.pairs...)), c.status, c.oauth, c.code, false)
		}
		if n := d.sim.timesSent(code); n != 0 {
			t.Errorf("the code was sent to WeChat %d times", n)
		}
		s.must(s.exchangeCode(code)).want(s, 200, "")
	})
}
