package wechatsim

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestControl(t *testing.T) {
	t.Parallel()

	t.Run("the first page describes the simulator", func(t *testing.T) {
		t.Parallel()
		a := start(t, Config{}).send(http.MethodGet, "/", "")
		if a.header.Get(Header) != "wechat" || !strings.Contains(a.body, "It is not WeChat") {
			t.Errorf("header = %v, body = %s", a.header, a.body)
		}
		for path := range controls {
			if !strings.Contains(a.body, path) {
				t.Errorf("the page does not name %s", path)
			}
		}
		for path := range endpoints {
			if !strings.Contains(a.body, path) {
				t.Errorf("the page does not name %s", path)
			}
		}
	})

	t.Run("a code for a user", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		a := s.send(http.MethodPost, "/sim/codes", `{"user":"alice"}`)
		if a.status != http.StatusOK || a.ExpiresIn != 300 || a.header.Get(Header) != "wechat" {
			t.Fatalf("status = %d, body = %s", a.status, a.body)
		}
		if got := s.login(appA, a.Code).fine(t); got.OpenID != OpenID(appA, "alice") {
			t.Errorf("openid = %s", got.OpenID)
		}
	})

	t.Run("a code for a user of one app", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		a := s.send(http.MethodPost, "/sim/codes", `{"user":"爱丽丝","appid":"`+appA+`"}`)
		s.login(appB, a.Code).refused(t, 40029)
		s.login(appA, a.Code).fine(t)
	})

	t.Run("a web page whose name points here cannot use the controls", func(t *testing.T) {
		t.Parallel()
		h := New(Config{}).Handler()
		for host, want := range map[string]int{
			"127.0.0.1:8082":            http.StatusOK,
			"127.0.0.1":                 http.StatusOK,
			"[::1]:8082":                http.StatusOK,
			"[::1]":                     http.StatusOK,
			"localhost:8082":            http.StatusOK,
			"LocalHost.":                http.StatusOK,
			"dev.localhost:8082":        http.StatusOK,
			"wechatsim:8082":            http.StatusOK,
			"host.docker.internal:8082": http.StatusOK,
			"":                          http.StatusOK,
			"evil.example.com:8082":     http.StatusForbidden,
			"evil.example.com":          http.StatusForbidden,
			"127.0.0.1.nip.io:8082":     http.StatusForbidden,
			"localhost.example.com":     http.StatusForbidden,
			"evil.example.com.:8082":    http.StatusForbidden,
		} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/sim/codes", strings.NewReader(`{"user":"alice"}`))
			r.Host = host
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want || strings.Contains(w.Body.String(), `"code"`) != (want == http.StatusOK) {
				t.Errorf("Host %q: status %d, want %d: %s", host, w.Code, want, w.Body)
			}
		}
	})
	t.Run("refuses bodies that a web page can send without a preflight request", func(t *testing.T) {
		t.Parallel()
		h := New(Config{}).Handler()
		for contentType, want := range map[string]int{
			"application/json": http.StatusOK, "application/json; charset=utf-8": http.StatusOK,
			"": http.StatusUnsupportedMediaType, "text/plain": http.StatusUnsupportedMediaType, "application/x-www-form-urlencoded": http.StatusUnsupportedMediaType,
			"multipart/form-data": http.StatusUnsupportedMediaType, "text/plain; application/json": http.StatusUnsupportedMediaType,
		} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/sim/codes", strings.NewReader(`{"user":"alice"}`))
			r.Host = "localhost"
			if contentType != "" {
				r.Header.Set("Content-Type", contentType)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%q: status %d, want %d: %s", contentType, w.Code, want, w.Body)
			}
		}
	})

	t.Run("a phone code", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		a := s.send(http.MethodPost, "/sim/phone-codes", `{"user":"alice","phone":"13800001002"}`)
		got := s.phone(s.token(appA, false).AccessToken, a.Code, OpenID(appA, "alice")).fine(t)
		if got.PhoneInfo.PhoneNumber != "13800001002" {
			t.Errorf("body = %s", got.body)
		}
	})

	t.Run("faults are added, listed and removed", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		const body = `{"status":502,"delay_ms":5,"count":3,"probability":0.5,"path":"/sns/jscode2session","appid":"` + appA + `"}`
		want := `{"faults":[` + body + `]}` + "\n"
		if a := s.send(http.MethodPost, "/sim/faults", body); a.status != http.StatusOK || !sameJSON(t, a.body, want) {
			t.Errorf("POST: %s", a.body)
		}
		if a := s.send(http.MethodGet, "/sim/faults", ""); !sameJSON(t, a.body, want) {
			t.Errorf("GET: %s", a.body)
		}
		if a := s.send(http.MethodDelete, "/sim/faults", ""); !sameJSON(t, a.body, `{"faults":[]}`) {
			t.Errorf("DELETE: %s", a.body)
		}
		for _, fault := range []string{`{"errcode":-1}`, `{"drop":true}`, `{"empty":true}`, `{"malformed":true}`, `{"delay_ms":1}`} {
			if a := s.send(http.MethodPost, "/sim/faults", fault); a.status != http.StatusOK {
				t.Errorf("POST /sim/faults %s: body = %s, want 200", fault, a.body)
			}
		}
		if got := len(s.Faults()); got != 5 {
			t.Errorf("%d faults", got)
		}
	})

	t.Run("calls contain everything except secrets", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		code := s.NewCode("alice")
		openID := OpenID(appA, "alice")
		s.fault(Fault{Errcode: -1})
		s.login(appA, code)
		key := s.login(appA, code).fine(t).SessionKey
		s.fault(Fault{Empty: true})
		s.login(appA, code)
		token := s.token(appA, false).fine(t).AccessToken
		signature := hmacSignature(key, "")
		s.signed("/wxa/checksession", token, openID, signature).fine(t)

		a := s.send(http.MethodGet, "/sim/calls", "")
		const login = "/sns/jscode2session"
		want := []Call{
			{Seq: 1, Method: "GET", Path: login, AppID: appA, Code: code, Errcode: -1, Outcome: "refused", Fault: "errcode"},
			{Seq: 2, Method: "GET", Path: login, AppID: appA, Code: code, OpenID: openID, Outcome: "ok"},
			{Seq: 3, Method: "GET", Path: login, AppID: appA, Code: code, Errcode: 40163, Outcome: "refused", Fault: "empty"},
			{Seq: 4, Method: "POST", Path: "/cgi-bin/stable_token", AppID: appA, Outcome: "ok"},
			{Seq: 5, Method: "GET", Path: "/wxa/checksession", AppID: appA, OpenID: openID, Outcome: "ok"},
		}
		for i := range want {
			want[i].At = s.clock.now()
		}
		if diff := cmp.Diff(want, a.Calls); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for what, hidden := range map[string]string{"secret": secret, "session_key": key, "access token": token, "signature": signature} {
			if strings.Contains(a.body, hidden) {
				t.Errorf("the calls contain the %s: %s", what, a.body)
			}
		}
	})

	t.Run("only the last calls are kept", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{MaxCalls: 3})
		for range 5 {
			s.login(appA, "c")
		}
		calls := s.Calls()
		if len(calls) != 3 || calls[0].Seq != 3 || calls[2].Seq != 5 {
			t.Errorf("calls = %+v", calls)
		}
	})

	t.Run("encrypted data can be decrypted with the session key and has a watermark", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		key := s.login(appA, s.NewCode("alice")).fine(t).SessionKey
		for data, plain := range map[string]string{
			`{ "z": 1, "a": "<&>" }`:      fmt.Sprintf(`{"z":1,"a":"<&>","watermark":{"timestamp":%d,"appid":"%s"}}`, s.clock.now().Unix(), appA),
			`{}`:                          fmt.Sprintf(`{"watermark":{"timestamp":%d,"appid":"%s"}}`, s.clock.now().Unix(), appA),
			`{"watermark":{"appid":"x"}}`: `{"watermark":{"appid":"x"}}`,
		} {
			a := s.send(http.MethodPost, "/sim/encrypted-data", `{"user":"alice","appid":"`+appA+`","data":`+data+`}`)
			if a.status != http.StatusOK {
				t.Fatalf("status = %d, body = %s", a.status, a.body)
			}
			if got := open(t, key, a.IV, a.EncryptedData); got != plain {
				t.Errorf("plaintext = %s, want %s", got, plain)
			}
			if a.Signature != rawSignature(key, a.RawData) || !sameJSON(t, a.RawData, data) {
				t.Errorf("rawData = %s, signature %s", a.RawData, a.Signature)
			}
		}
	})

	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"a form":                          {"POST", "/sim/codes", "user=alice", 400, `send JSON such as {"user":"alice"}`},
		"nothing":                         {"POST", "/sim/codes", "", 400, "send JSON"},
		"a misspelt field":                {"POST", "/sim/codes", `{"usr":"alice"}`, 400, `unknown field "usr"`},
		"two objects":                     {"POST", "/sim/codes", `{"user":"alice"}{}`, 400, "more than one"},
		"no user":                         {"POST", "/sim/codes", `{}`, 400, `"user" must be a name`},
		"a user with NUL":                 {"POST", "/sim/codes", `{"user":"a\u0000"}`, 400, `"user" must be a name`},
		"a user over 128 bytes":           {"POST", "/sim/codes", `{"user":"` + strings.Repeat("a", 129) + `"}`, 400, `"user" must be a name`},
		"a malformed appid":               {"POST", "/sim/codes", `{"user":"alice","appid":"wx-1"}`, 400, `"appid"`},
		"a phone of letters":              {"POST", "/sim/phone-codes", `{"user":"alice","phone":"none"}`, 400, `"phone" must be digits`},
		"no phone":                        {"POST", "/sim/phone-codes", `{"user":"alice"}`, 400, `"phone" must be digits`},
		"an empty fault":                  {"POST", "/sim/faults", `{}`, 400, "set one of errcode, drop"},
		"a fault of two kinds":            {"POST", "/sim/faults", `{"drop":true,"empty":true}`, 400, "set only one of"},
		"a delay that overflows":          {"POST", "/sim/faults", `{"delay_ms":9223372036854775807}`, 400, "delay_ms must be between"},
		"data of a user without a log-in": {"POST", "/sim/encrypted-data", `{"user":"bob","appid":"wx1","data":{}}`, 400, "exchange a code of this user first"},
		"data without an app":             {"POST", "/sim/encrypted-data", `{"user":"bob","data":{}}`, 400, `"appid"`},
		"a body beyond 1 MiB":             {"POST", "/sim/codes", strings.Repeat(" ", 1<<20+1), 400, "longer than 1 MiB"},
		"a GET for a code":                {"GET", "/sim/codes", "", 405, "/sim/codes takes POST"},
		"a PUT of faults":                 {"PUT", "/sim/faults", "", 405, "takes DELETE, GET, POST"},
		"an unknown control":              {"GET", "/sim/nothing", "", 404, "/sim/calls, /sim/codes"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			a := start(t, Config{}).send(tc.method, tc.path, tc.body)
			if a.status != tc.status || !strings.Contains(a.Error, tc.says) {
				t.Errorf("status = %d, body = %s", a.status, a.body)
			}
			if a.header.Get("Content-Type") != "application/json" || a.header.Get(Header) != "wechat" {
				t.Errorf("header = %v", a.header)
			}
		})
	}

	t.Run("refuses data that is not an object", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.login(appA, s.NewCode("alice")).fine(t)
		for _, data := range []string{`,"data":[]`, `,"data":null`, ``} {
			a := s.send(http.MethodPost, "/sim/encrypted-data", `{"user":"alice","appid":"`+appA+`"`+data+`}`)
			if a.status != http.StatusBadRequest || !strings.Contains(a.Error, "must be a JSON object") {
				t.Errorf("%q: status %d: %s", data, a.status, a.body)
			}
		}
	})

	t.Run("refuses a code for an unregistered app", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{Apps: map[string]string{appA: secret}})
		a := s.send(http.MethodPost, "/sim/codes", `{"user":"alice","appid":"`+appB+`"}`)
		if a.status != http.StatusBadRequest || !strings.Contains(a.Error, "registered") {
			t.Errorf("status = %d, body = %s", a.status, a.body)
		}
	})
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Errorf("decoding %s: error = %v", a, err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Errorf("decoding %s: error = %v", b, err)
	}
	return cmp.Equal(x, y)
}

// open decrypts in the same way as a back end.
func open(t *testing.T, sessionKey, iv, sealed string) string {
	t.Helper()
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatalf("decoding %q: error = %v", s, err)
		}
		return b
	}
	block, err := aes.NewCipher(decode(sessionKey))
	if err != nil {
		t.Fatal(err)
	}
	plain := decode(sealed)
	cipher.NewCBCDecrypter(block, decode(iv)).CryptBlocks(plain, plain)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		t.Fatalf("padding of %d", pad)
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			t.Fatalf("padding %v", plain[len(plain)-pad:])
		}
	}
	return string(plain[:len(plain)-pad])
}
