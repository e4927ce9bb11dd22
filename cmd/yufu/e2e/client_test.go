package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const codeGrant = "urn:yufu:grant-type:mini-program-code"

// answer is an HTTP answer with its whole body.
type answer struct {
	Status int
	Header http.Header
	Body   string
	// Doc has the members of the service's JSON answers that the tests read.
	Doc struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int    `json:"expires_in"`
		UUID         string `json:"uuid"`
		Bound        bool   `json:"bound"`
		Ticket       string `json:"ticket"`

		Error     string `json:"error"`
		ErrorCode string `json:"error_code"` // OAuth errors
		Code      string `json:"code"`       // problem details
		RequestID string `json:"request_id"`

		Status any    `json:"status"` // health: text; problem details: a number
		Reason string `json:"reason"`

		Session struct {
			ID string `json:"id"`
		} `json:"session"`
	}
}

// do sends a request. It registers the tokens of the answer as secrets.
func (h *harness) do(req *http.Request) (*answer, error) {
	if h.client != "" {
		req.Header.Set("X-Forwarded-For", h.client)
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	h.read(a, req.Method+" "+req.URL.Path, req.URL.Path == "/oauth2/token" || req.URL.Path == "/v1/binding")
	return a, nil
}

// read reads the body of an answer. Its tokens are secrets everywhere else.
func (h *harness) read(a *answer, where string, tokens bool) {
	_ = json.Unmarshal([]byte(a.Body), &a.Doc) // not every answer is an object
	h.secret("an access token", a.Doc.AccessToken)
	h.secret("a refresh token", a.Doc.RefreshToken)
	h.secret("a bind ticket", a.Doc.Ticket)
	h.publicAnswer("the answer to "+where, a, tokens)
}

// post sends a form.
func (h *harness) post(address string, pairs ...string) (*answer, error) {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return h.do(req)
}

// get fetches a page, with a bearer token if there is one.
func (h *harness) get(address, token string) (*answer, error) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return h.do(req)
}

// must ends the test if there is no answer.
func (h *harness) must(a *answer, err error) *answer {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// service is a running service with the requests of a mini-program. Its methods that
// return an error may be called from any goroutine, the others only from the test's.
type service struct {
	*harness
	base, admin string
	app         string
	sim         *simulator
	adminKey    string // for requests that need one
}

// in returns the service for a subtest.
func (s *service) in(t *testing.T) *service {
	sub := *s
	sub.harness = s.harness.in(t)
	return &sub
}

// from returns the service with requests from another client address. The service must
// trust 127.0.0.1 as a proxy.
func (s *service) from(addr string) *service {
	sub, h := *s, *s.harness
	h.client = addr
	sub.harness = &h
	return &sub
}

func (s *service) tryExchange(user string) (*answer, error) {
	code, err := s.sim.code(user)
	if err != nil {
		return nil, err
	}
	return s.exchangeCode(code)
}

func (s *service) exchangeCode(code string) (*answer, error) {
	return s.post(s.base+"/oauth2/token", "grant_type", codeGrant, "client_id", s.app, "code", code)
}

func (s *service) tryRefresh(token string) (*answer, error) {
	return s.post(s.base+"/oauth2/token", "grant_type", "refresh_token", "client_id", s.app, "refresh_token", token)
}

func (s *service) tryLogout(token string) (*answer, error) {
	return s.post(s.base+"/oauth2/revoke", "client_id", s.app, "token", token)
}

// logIn exchanges a code for tokens, which must succeed.
func (s *service) logIn(user string) *answer {
	s.t.Helper()
	return s.must(s.tryExchange(user)).want(s, 200, "")
}

func (s *service) refresh(token string) *answer {
	s.t.Helper()
	return s.must(s.tryRefresh(token))
}

func (s *service) me(token string) *answer {
	s.t.Helper()
	return s.must(s.get(s.base+"/v1/me", token))
}

func (s *service) logOut(token string) {
	s.t.Helper()
	s.must(s.tryLogout(token)).want(s, 200, "")
}

// want fails the test unless the answer has the status and the error code.
func (a *answer) want(s *service, status int, code string) *answer {
	s.t.Helper()
	if a.Status != status || a.code() != code {
		s.t.Errorf("the answer is %d %q, want %d %q: %s", a.Status, a.code(), status, code, a.Body)
	}
	return a
}

// code returns the stable error code of both forms of errors.
func (a *answer) code() string {
	if a.Doc.ErrorCode != "" {
		return a.Doc.ErrorCode
	}
	return a.Doc.Code
}

// failure returns an error unless the answer is 200.
func (a *answer) failure() error {
	if a.Status == http.StatusOK {
		return nil
	}
	return fmt.Errorf("%d %s", a.Status, a.Body)
}

// claims returns the claims of an access token without verifying it.
func claims(token string) (c struct {
	Issuer   string   `json:"iss"`
	Audience []string `json:"aud"`
	Epoch    int64    `json:"epoch"`
}, err error,
) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, fmt.Errorf("a token has %d parts, want 3", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(payload, &c)
}

// contains fails the test unless the answer is 200 and contains the texts.
func (a *answer) contains(s *service, texts ...string) {
	s.t.Helper()
	a.want(s, http.StatusOK, "")
	for _, text := range texts {
		if !strings.Contains(a.Body, text) {
			s.t.Errorf("the answer does not contain %s: %s", text, a.Body)
		}
	}
}
