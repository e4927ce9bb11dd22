package wechatsim

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestCode2Session(t *testing.T) {
	t.Parallel()

	t.Run("answers as WeChat does", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		code := s.NewCode("alice")
		if !regexp.MustCompile(`^[0-9A-Za-z]{32}$`).MatchString(code) {
			t.Errorf("code = %q", code)
		}
		a := s.login(appA, code).fine(t)
		if a.header.Get("Content-Type") != "text/plain" || a.header.Get(Header) != "wechat" {
			t.Errorf("header = %v", a.header)
		}
		if !regexp.MustCompile(`^\{"session_key":"[^"]{24}","openid":"o[0-9A-Za-z_-]{27}"\}$`).MatchString(a.body) {
			t.Errorf("body = %s", a.body)
		}
		if key, err := base64.StdEncoding.DecodeString(a.SessionKey); err != nil || len(key) != 16 {
			t.Errorf("session_key has %d bytes, error %v", len(key), err)
		}
	})

	t.Run("returns the same openid and a new session key at the next log-in", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{UnionID: true})
		first := s.login(appA, s.NewCode("alice")).fine(t)
		again := s.login(appA, s.NewCode("alice")).fine(t)
		elsewhere := s.login(appB, s.NewCode("alice")).fine(t)
		bob := s.login(appA, s.NewCode("bob")).fine(t)
		if first.OpenID != again.OpenID || first.OpenID != OpenID(appA, "alice") {
			t.Errorf("openid changed: %s, %s", first.OpenID, again.OpenID)
		}
		if first.OpenID == elsewhere.OpenID || first.OpenID == bob.OpenID {
			t.Error("different users or apps have the same openid")
		}
		if first.UnionID == "" || first.UnionID != elsewhere.UnionID || first.UnionID == bob.UnionID || first.UnionID != UnionID("alice") {
			t.Errorf("unionids: %q, %q, %q", first.UnionID, elsewhere.UnionID, bob.UnionID)
		}
		if first.SessionKey == again.SessionKey {
			t.Error("session_key did not rotate")
		}
	})

	t.Run("accepts a code once within five minutes", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		used, late, inTime := s.NewCode("alice"), s.NewCode("alice"), s.NewCode("alice")
		s.login(appA, used).fine(t)
		used2 := s.login(appA, used)
		used2.refused(t, 40163)
		if !regexp.MustCompile(`^code been used, rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`).MatchString(used2.Errmsg) {
			t.Errorf("errmsg = %q", used2.Errmsg)
		}
		s.advance(5*time.Minute - time.Nanosecond)
		s.login(appA, inTime).fine(t)
		s.advance(time.Nanosecond)
		s.login(appA, late).refused(t, 40029)
		s.login(appA, used).refused(t, 40029)
		s.login(appA, "0c1dEFGH2ijKLmN3opQRst4UvwXYz567").refused(t, 40029)
	})

	t.Run("an expired code works again when the clock is set back", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		code := s.NewCode("alice")
		s.advance(6 * time.Minute)
		s.login(appA, s.NewCode("bob")).fine(t)
		s.advance(-2 * time.Minute)
		s.login(appA, code).fine(t)
	})

	t.Run("accepts a code for one app only from that app", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		code := s.NewAppCode(appA, "alice")
		s.login(appB, code).refused(t, 40029)
		s.login(appA, code).fine(t)
	})

	t.Run("accepts only the registered apps", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{Apps: map[string]string{appA: secret, appB: "another"}})
		s.login("wxunknown", s.NewCode("alice")).refused(t, 40013)
		code := s.NewCode("alice")
		s.login(appB, code).refused(t, 40125)
		s.login(appA, code).fine(t)
	})

	for query, errcode := range map[string]int{
		"?secret=s&js_code=c&grant_type=authorization_code":            41002,
		"?appid=wx1&js_code=c&grant_type=authorization_code":           41004,
		"?appid=wx1&secret=s&grant_type=authorization_code":            41008,
		"?appid=wx1&secret=s&js_code=c":                                40002,
		"?appid=wx1&secret=s&js_code=c&grant_type=client_credential":   40002,
		"?appid=wx.1&secret=s&js_code=c&grant_type=authorization_code": 40013,
	} {
		t.Run("refuses "+query, func(t *testing.T) {
			t.Parallel()
			start(t, Config{}).send(http.MethodGet, "/sns/jscode2session"+query, "").refused(t, errcode)
		})
	}

	t.Run("requires GET", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		code := s.NewCode("alice")
		s.send(http.MethodPost, loginPath(appA, code), "").refused(t, 43001)
		s.login(appA, code).fine(t)
	})

	t.Run("an unknown path is an invalid url", func(t *testing.T) {
		t.Parallel()
		start(t, Config{}).send(http.MethodGet, "/sns/nothing", "").refused(t, 40066)
	})
}

func TestStableToken(t *testing.T) {
	t.Parallel()

	t.Run("returns the same token until five minutes before its end", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		first := s.token(appA, false).fine(t)
		if first.ExpiresIn != 7200 || strings.Contains(first.body, "errcode") {
			t.Errorf("first: %s", first.body)
		}
		s.advance(time.Hour + 54*time.Minute)
		again := s.token(appA, false).fine(t)
		if again.AccessToken != first.AccessToken || again.ExpiresIn != 360 {
			t.Errorf("again: same %v, %d s", again.AccessToken == first.AccessToken, again.ExpiresIn)
		}
		s.advance(time.Minute)
		next := s.token(appA, false).fine(t)
		if next.AccessToken == first.AccessToken || next.ExpiresIn != 7200 {
			t.Errorf("next: same %v, %d s", next.AccessToken == first.AccessToken, next.ExpiresIn)
		}
		for _, token := range []string{first.AccessToken, next.AccessToken} {
			s.phone(token, s.NewPhoneCode("alice", "13800001002"), "").fine(t)
		}
		s.advance(5 * time.Minute)
		s.phone(first.AccessToken, "", "").refused(t, 42001)
		if other := s.token(appB, false).fine(t); other.AccessToken == next.AccessToken {
			t.Error("two apps share a token")
		}
	})

	t.Run("a forced refresh replaces the token, at most once in 30 seconds and 20 times a day", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		first := s.token(appA, false).fine(t)
		forced := s.token(appA, true).fine(t)
		if forced.AccessToken == first.AccessToken {
			t.Fatal("the forced refresh returned the same token")
		}
		s.phone(first.AccessToken, "", "").refused(t, 40001)
		s.advance(29 * time.Second)
		if tooSoon := s.token(appA, true).fine(t); tooSoon.AccessToken != forced.AccessToken || tooSoon.ExpiresIn != 7171 {
			t.Errorf("refreshed after 29 s: %s", tooSoon.body)
		}
		for range 19 {
			s.advance(30 * time.Second)
			s.token(appA, true).fine(t)
		}
		s.advance(30 * time.Second)
		last := s.token(appA, false).fine(t)
		s.token(appA, true).refused(t, 45009)
		if after := s.token(appA, false).fine(t); after.AccessToken != last.AccessToken {
			t.Error("the refused refresh revoked the token")
		}
		s.advance(24 * time.Hour)
		s.token(appA, true).fine(t)
	})

	for name, tc := range map[string]struct {
		body    string
		errcode int
	}{
		"no JSON":         {"appid=wx1", 47001},
		"no grant":        {`{"appid":"wx1","secret":"s"}`, 40002},
		"no appid":        {`{"grant_type":"client_credential","secret":"s"}`, 41002},
		"no secret":       {`{"grant_type":"client_credential","appid":"wx1"}`, 41004},
		"an unknown app":  {`{"grant_type":"client_credential","appid":"wx1","secret":"s"}`, 40013},
		"a wrong secret":  {`{"grant_type":"client_credential","appid":"` + appA + `","secret":"s"}`, 40125},
		"a query instead": {"", 47001},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Apps: map[string]string{appA: secret}})
			s.send(http.MethodPost, "/cgi-bin/stable_token?grant_type=client_credential&appid="+appA+"&secret="+secret, tc.body).
				refused(t, tc.errcode)
		})
	}

	t.Run("requires POST", func(t *testing.T) {
		t.Parallel()
		start(t, Config{}).send(http.MethodGet, "/cgi-bin/stable_token", "").refused(t, 43002)
	})
}

func TestPhoneNumber(t *testing.T) {
	t.Parallel()

	t.Run("a phone code returns the number once", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		token := s.token(appA, false).AccessToken
		code := s.NewPhoneCode("alice", "13800001002")
		minted := s.clock.now()
		s.advance(time.Minute)
		a := s.phone(token, code, OpenID(appA, "alice")).fine(t)
		want := phoneInfo{"13800001002", "13800001002", "86", watermark{minted.Unix(), appA}}
		if a.PhoneInfo != want || !strings.HasPrefix(a.body, `{"errcode":0,"errmsg":"ok",`) {
			t.Errorf("body = %s", a.body)
		}
		s.phone(token, code, OpenID(appA, "alice")).refused(t, 40029)
	})

	t.Run("a number from abroad has its country code", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		a := s.phone(s.token(appA, false).AccessToken, s.NewPhoneCode("alice", "+852 61234567"), "").fine(t)
		if p := a.PhoneInfo; p.PhoneNumber != "+85261234567" || p.PurePhoneNumber != "61234567" || p.CountryCode != "852" {
			t.Errorf("phone_info = %+v", p)
		}
	})

	t.Run("another user's phone code is refused and stays fresh", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		token := s.token(appA, false).AccessToken
		code := s.NewPhoneCode("alice", "13800001002")
		s.phone(token, code, OpenID(appA, "mallory")).refused(t, 40029)
		s.phone(token, code, OpenID(appB, "alice")).refused(t, 40029)
		s.phone(token, code, OpenID(appA, "alice")).fine(t)
	})

	t.Run("phone codes and log-in codes are not interchangeable", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.phone(s.token(appA, false).AccessToken, s.NewCode("alice"), "").refused(t, 40029)
		s.login(appA, s.NewPhoneCode("alice", "13800001002")).refused(t, 40029)
	})

	t.Run("a phone code lives five minutes", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		token := s.token(appA, false).AccessToken
		code := s.NewPhoneCode("alice", "13800001002")
		s.advance(5 * time.Minute)
		s.phone(token, code, "").refused(t, 40029)
	})

	for token, errcode := range map[string]int{
		"":                              41001,
		"short":                         40014,
		strings.Repeat("a", 31) + "%20": 40014,
		strings.Repeat("a", 136):        40001,
	} {
		t.Run("refuses the access token "+token, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{})
			s.phone(token, s.NewPhoneCode("alice", "13800001002"), "").refused(t, errcode)
		})
	}
}

func TestSessionKey(t *testing.T) {
	t.Parallel()

	t.Run("only the latest key passes", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		token := s.token(appA, false).AccessToken
		old := s.login(appA, s.NewCode("alice")).fine(t)
		s.signed("/wxa/checksession", token, old.OpenID, hmacSignature(old.SessionKey, "")).fine(t)
		current := s.login(appA, s.NewCode("alice")).fine(t)
		s.signed("/wxa/checksession", token, old.OpenID, hmacSignature(old.SessionKey, "")).refused(t, 87009)
		a := s.signed("/wxa/checksession", token, old.OpenID, hmacSignature(current.SessionKey, "")).fine(t)
		if a.body != `{"errcode":0,"errmsg":"ok"}` {
			t.Errorf("body = %s", a.body)
		}
		s.signed("/wxa/checksession", token, OpenID(appA, "unknown"), "").refused(t, 87009)
		s.signed("/wxa/checksession", token, "", "").refused(t, 40003)
		s.signed("/wxa/checksession", "", old.OpenID, "").refused(t, 41001)
	})

	t.Run("a reset needs the key and replaces it", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		token := s.token(appA, false).AccessToken
		old := s.login(appA, s.NewCode("alice")).fine(t)
		s.signed("/wxa/resetusersessionkey", token, OpenID(appA, "unknown"), "").refused(t, 87007)
		s.signed("/wxa/resetusersessionkey", token, old.OpenID, hmacSignature("wrong", "")).refused(t, 87009)
		fresh := s.signed("/wxa/resetusersessionkey", token, old.OpenID, hmacSignature(old.SessionKey, "")).fine(t)
		if fresh.SessionKey == "" || fresh.SessionKey == old.SessionKey || fresh.OpenID != old.OpenID {
			t.Errorf("body = %s", fresh.body)
		}
		s.signed("/wxa/resetusersessionkey", token, old.OpenID, hmacSignature(old.SessionKey, "")).refused(t, 87009)
		s.signed("/wxa/checksession", token, old.OpenID, hmacSignature(fresh.SessionKey, "")).fine(t)
	})

	t.Run("another app's token is refused", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		a := s.login(appA, s.NewCode("alice")).fine(t)
		token := s.token(appB, false).AccessToken
		s.signed("/wxa/checksession", token, a.OpenID, hmacSignature(a.SessionKey, "")).refused(t, 87009)
	})

	t.Run("another signature method is refused", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		token := s.token(appA, false).AccessToken
		s.send(http.MethodGet, "/wxa/checksession?access_token="+token+"&openid=o&signature=s&sig_method=md5", "").refused(t, 87008)
	})
}
