package wechatsim

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	appA   = "wx0123456789abcdef"
	appB   = "wxfedcba9876543210"
	secret = "0123456789abcdef0123456789abcdef"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that moves only when the test moves it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// sim is a simulator behind real HTTP.
type sim struct {
	*Simulator
	t   *testing.T
	url string

	clock *clock // nil if the test has its own
}

func (s *sim) advance(d time.Duration) { s.clock.advance(d) }

func start(t *testing.T, cfg Config) *sim {
	t.Helper()
	c := newClock()
	if cfg.Now == nil {
		cfg.Now = c.now
	}
	s := New(cfg)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return &sim{Simulator: s, t: t, url: server.URL, clock: c}
}

// answer is the answer to a call.
type answer struct {
	status int
	header http.Header
	body   string

	Errcode       int             `json:"errcode"`
	Errmsg        string          `json:"errmsg"`
	OpenID        string          `json:"openid"`
	UnionID       string          `json:"unionid"`
	SessionKey    string          `json:"session_key"`
	AccessToken   string          `json:"access_token"`
	ExpiresIn     int             `json:"expires_in"`
	PhoneInfo     phoneInfo       `json:"phone_info"`
	Code          string          `json:"code"`
	Error         string          `json:"error"`
	EncryptedData string          `json:"encryptedData"`
	IV            string          `json:"iv"`
	RawData       string          `json:"rawData"`
	Signature     string          `json:"signature"`
	Calls         []Call          `json:"calls"`
	Faults        json.RawMessage `json:"faults"`
}

// try sends a request and reads the answer; the body is decoded if it is JSON.
func (s *sim) try(method, path, body string) (answer, error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if strings.HasPrefix(path, "/sim/") {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Close = true // no repetition, no idle connection
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
	if bytes.HasPrefix(text, []byte("{")) {
		_ = json.Unmarshal(text, &a)
	}
	return a, err
}

func (s *sim) send(method, path, body string) answer {
	s.t.Helper()
	a, err := s.try(method, path, body)
	if err != nil {
		s.t.Fatalf("%s %s: error = %v", method, path, err)
	}
	return a
}

func loginPath(appID, code string) string {
	return "/sns/jscode2session?" + url.Values{
		"appid": {appID}, "secret": {secret}, "js_code": {code}, "grant_type": {"authorization_code"},
	}.Encode()
}

func (s *sim) login(appID, code string) answer {
	s.t.Helper()
	return s.send(http.MethodGet, loginPath(appID, code), "")
}

func (s *sim) token(appID string, force bool) answer {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{
		"grant_type": "client_credential", "appid": appID, "secret": secret, "force_refresh": force,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(http.MethodPost, "/cgi-bin/stable_token", string(body))
}

func (s *sim) phone(token, code, openID string) answer {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"code": code, "openid": openID})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(http.MethodPost, "/wxa/business/getuserphonenumber?access_token="+token, string(body))
}

func (s *sim) signed(path, token, openID, signature string) answer {
	s.t.Helper()
	return s.send(http.MethodGet, path+"?"+url.Values{
		"access_token": {token}, "openid": {openID}, "signature": {signature}, "sig_method": {"hmac_sha256"},
	}.Encode(), "")
}

// refused fails the test unless the answer has this errcode in WeChat's form.
func (a answer) refused(t *testing.T, errcode int) {
	t.Helper()
	if a.Errcode != errcode {
		t.Fatalf("errcode = %d, want %d; body = %s", a.Errcode, errcode, a.body)
	}
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "text/plain" {
		t.Errorf("status = %d, Content-Type = %q", a.status, a.header.Get("Content-Type"))
	}
	if !strings.Contains(a.Errmsg, ", rid: ") {
		t.Errorf("errmsg without a rid: %q", a.Errmsg)
	}
}

// fine fails the test if the answer is a refusal.
func (a answer) fine(t *testing.T) answer {
	t.Helper()
	if a.status != http.StatusOK || a.Errcode != 0 {
		t.Fatalf("status = %d, body = %s", a.status, a.body)
	}
	return a
}
