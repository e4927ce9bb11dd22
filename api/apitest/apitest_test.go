package apitest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/yufu-auth/yufu/api"
	"github.com/yufu-auth/yufu/api/apitest"
)

const (
	tokens = `{"access_token":"a.b.c","token_type":"Bearer","expires_in":600,"refresh_token":"yfr_x","refresh_token_timeout":60,` +
		`"authorization_expires_in":90,"uuid":"01936e2a-7b1c-7d3e-8f40-5a6b7c8d9e0f","bound":false,"person":null}`
	oauthError = `{"error":"invalid_request","error_description":"No.","error_code":"invalid_request","request_id":"R1"}`
	notFound   = `{"type":"urn:yufu:problem:not_found","title":"No.","status":404,"code":"not_found","request_id":"R1"}`
	form       = "grant_type=refresh_token&client_id=wx1&refresh_token=yfr_x"
)

// exchange is one request and its answer.
type exchange struct {
	listener     apitest.Listener
	method, path string
	request      http.Header
	sent         string
	status       int
	response     http.Header
	body         string
}

// good returns a refresh that follows the document, with changes.
func good(changes ...func(*exchange)) exchange {
	e := exchange{
		listener: apitest.Public, method: http.MethodPost, path: "/oauth2/token",
		request: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, sent: form,
		status: 200, body: tokens,
		response: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "X-Request-Id": {"R1"}},
	}
	for _, change := range changes {
		change(&e)
	}
	return e
}

func answers(status int, body string, header ...string) func(*exchange) {
	return func(e *exchange) {
		e.status, e.body = status, body
		for i := 0; i < len(header); i += 2 {
			e.response.Set(header[i], header[i+1])
		}
	}
}

func asked(l apitest.Listener, method, path, sent string) func(*exchange) {
	return func(e *exchange) {
		e.listener, e.method, e.path, e.sent = l, method, path, sent
		if sent == "" {
			e.request = http.Header{}
		}
	}
}

func lacks(header string) func(*exchange) { return func(e *exchange) { e.response.Del(header) } }

func sends(header, value string) func(*exchange) {
	return func(e *exchange) { e.request.Set(header, value) }
}

func body(from, to string) func(*exchange) {
	return func(e *exchange) {
		if !strings.Contains(e.body, from) {
			panic("the body does not contain: " + from)
		}
		e.body = strings.ReplaceAll(e.body, from, to)
	}
}

const problem = "application/problem+json"

// me makes the exchange a request of /v1/me with a token.
func me(t *testing.T) func(*exchange) {
	t.Helper()
	example, err := api.Example("me")
	if err != nil {
		t.Fatal(err)
	}
	return func(e *exchange) {
		asked(apitest.Public, http.MethodGet, "/v1/me", "")(e)
		e.request.Set("Authorization", "Bearer a.b.c")
		e.body = string(example)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	contract, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	notAllowed := strings.NewReplacer("not_found", "method_not_allowed", "404", "405").Replace(notFound)
	for name, tc := range map[string]struct {
		exchange
		violation string // empty if there is no violation
	}{
		"a refresh":                                  {good(), ""},
		"a client_id in Basic":                       {good(sends("Authorization", "Basic d3gxOg==")), ""},
		"parameters that the document lacks":         {good(asked(apitest.Public, "POST", "/oauth2/token", form+"&scope=x")), ""},
		"a parameter without a value":                {good(asked(apitest.Public, "POST", "/oauth2/token", form+"&code=")), ""},
		"a charset":                                  {good(sends("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")), ""},
		"an error for a malformed request":           {good(asked(apitest.Public, "POST", "/oauth2/token", "%"), answers(400, oauthError)), ""},
		"an address that does not exist":             {good(asked(apitest.Public, "GET", "/x", ""), answers(404, notFound, "Content-Type", problem)), ""},
		"the other listener's address":               {good(asked(apitest.Public, "GET", "/healthz", ""), answers(404, notFound, "Content-Type", problem)), ""},
		"another method":                             {good(asked(apitest.Public, "PUT", "/v1/me", ""), answers(405, notAllowed, "Content-Type", problem, "Allow", "GET, HEAD")), ""},
		"another method of an OAuth endpoint":        {good(asked(apitest.Public, "GET", "/oauth2/token", ""), answers(405, oauthError, "Allow", "POST")), ""},
		"HEAD where there is GET":                    {good(asked(apitest.Public, "HEAD", "/.well-known/jwks.json", ""), answers(200, "", "Cache-Control", "public, max-age=300")), ""},
		"HEAD where there is no GET":                 {good(asked(apitest.Public, "HEAD", "/oauth2/token", ""), answers(405, "", "Allow", "POST")), ""},
		"me, with a token":                           {good(me(t)), ""},
		"metrics":                                    {good(asked(apitest.Admin, "GET", "/metrics", ""), answers(200, "x 1\n", "Content-Type", "text/plain; version=0.0.4")), ""},
		"a success for what the document lacks":      {good(asked(apitest.Public, "GET", "/x", "")), "unknown path"},
		"a success for another method":               {good(asked(apitest.Public, "PUT", "/v1/me", "")), "unknown method"},
		"a success for an undocumented type":         {good(sends("Content-Type", "application/json")), "Content-Type"},
		"a success without a grant":                  {good(asked(apitest.Public, "POST", "/oauth2/token", "refresh_token=yfr_x")), "grant_type"},
		"a success with an unknown grant":            {good(asked(apitest.Public, "POST", "/oauth2/token", strings.Replace(form, "refresh_token", "password", 1))), "grant_type"},
		"a success for a repeated parameter":         {good(asked(apitest.Public, "POST", "/oauth2/token", form+"&x=1&x=2")), "repeats"},
		"a success for another scheme":               {good(me(t), sends("Authorization", "Basic d3gxOg==")), "scheme bearer"},
		"a success for an unexpected body":           {good(me(t), func(e *exchange) { e.sent = "x" }), "document has no body"},
		"a status that is not in the document":       {good(answers(418, oauthError)), "status is not supported"},
		"a server error that is not in the document": {good(me(t), answers(502, notFound, "Content-Type", problem)), "status is not supported"},
		"a member too many":                          {good(body(`"bound"`, `"openid":"o","bound"`)), "openid"},
		"a member too few":                           {good(body(`"bound":false,`, ``)), "bound"},
		"a member of another type":                   {good(body(`"bound":false`, `"bound":"no"`)), "bound"},
		"another value than the constant":            {good(body(`"Bearer"`, `"bearer"`)), "token_type"},
		"a value that does not match its pattern":    {good(body(`"yfr_x"`, `"x"`)), "refresh_token"},
		"a malformed uuid":                           {good(body(`01936e2a`, `x1936e2a`)), "uuid"},
		"a body that is not JSON":                    {good(answers(200, "ok")), "not JSON"},
		"more than one JSON value":                   {good(answers(200, tokens+tokens)), "not JSON"},
		"no body":                                    {good(answers(200, "")), "not JSON"},
		"an error under the wrong type":              {good(answers(400, oauthError, "Content-Type", problem)), "Content-Type"},
		"a problem where OAuth has an error":         {good(answers(400, notFound)), "error_code"},
		"an unknown error code":                      {good(answers(400, strings.ReplaceAll(oauthError, `_code":"invalid`, `_code":"valid`))), "error_code"},
		"a cacheable answer":                         {good(lacks("Cache-Control")), "Cache-Control"},
		"an answer that is cacheable for long":       {good(answers(200, tokens, "Cache-Control", "public")), "Cache-Control"},
		"an answer without an id":                    {good(lacks("X-Request-Id")), "X-Request-Id"},
		"a cacheable answer to HEAD":                 {good(asked(apitest.Public, "HEAD", "/v1/me", ""), sends("Authorization", "Bearer x"), lacks("Cache-Control")), "Cache-Control"},
		"a 429 without Retry-After":                  {good(answers(429, oauthError)), "Retry-After"},
		"a 429 with a Retry-After in words":          {good(answers(429, oauthError, "Retry-After", "soon")), "Retry-After"},
		"a 405 without Allow":                        {good(asked(apitest.Public, "GET", "/oauth2/token", ""), answers(405, oauthError)), "Allow"},
		"a 401 without a challenge":                  {good(me(t), answers(401, strings.ReplaceAll(notFound, "404", "401"), "Content-Type", problem)), "WWW-Authenticate"},
		"an id that is not the header's":             {good(answers(400, oauthError, "X-Request-Id", "R2")), "request_id"},
		"a member status that is not the status":     {good(asked(apitest.Public, "GET", "/x", ""), answers(404, strings.Replace(notFound, "404", "400", 1), "Content-Type", problem)), "member status"},
		"a type that does not fit the code":          {good(asked(apitest.Public, "GET", "/x", ""), answers(404, strings.Replace(notFound, `"code":"not_found"`, `"code":"internal"`, 1), "Content-Type", problem)), "does not end in the code"},
		"an unknown listener":                        {good(func(e *exchange) { e.listener = "x" }), "unknown listener"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, strings.NewReader(tc.sent))
			req.Header = tc.request
			resp := &http.Response{StatusCode: tc.status, Header: tc.response}
			err := contract.Check(tc.listener, req, []byte(tc.sent), resp, []byte(tc.body))
			switch {
			case tc.violation == "" && err != nil:
				t.Errorf("Check() error = %v, want nil", err)
			case tc.violation != "" && (err == nil || !strings.Contains(err.Error(), tc.violation)):
				t.Errorf("Check() error = %v, want a violation about %q", err, tc.violation)
			}
		})
	}
}

// failures is a test that records its failures.
type failures struct {
	testing.TB
	mu  sync.Mutex
	all []string
}

func (f *failures) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fmt.Sprintf(format, args...))
}

func TestTransport(t *testing.T) {
	t.Parallel()
	// The server answers with the request's body and the headers of a refresh.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		for name, values := range good().response {
			w.Header()[name] = values
		}
		switch r.URL.Path {
		case "/v1/me":
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("half"))
		case "/oauth2/token":
			_, _ = w.Write([]byte(tokens + r.URL.Query().Get("more")))
		default:
			_, _ = w.Write(sent)
		}
	}))
	t.Cleanup(srv.Close)
	setup := func(t *testing.T, watch bool) (*failures, func(path, sent string) (string, error)) {
		t.Helper()
		f := &failures{TB: t}
		transport := apitest.NewTransport(f, nil)
		if watch {
			transport.Watch(srv.URL, apitest.Public)
		}
		return f, func(path, sent string) (string, error) {
			t.Helper()
			resp, err := (&http.Client{Transport: transport}).Post(srv.URL+path, "application/x-www-form-urlencoded", strings.NewReader(sent))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return string(b), err
		}
	}

	t.Run("good traffic passes unchanged", func(t *testing.T) {
		t.Parallel()
		f, post := setup(t, true)
		if got, err := post("/oauth2/token", form); got != tokens || err != nil {
			t.Errorf("the client got %q, error %v", got, err)
		}
		if len(f.all) != 0 {
			t.Errorf("violations: %q", f.all)
		}
	})
	t.Run("a violation fails the test, and the client gets the answer", func(t *testing.T) {
		t.Parallel()
		f, post := setup(t, true)
		if got, err := post("/oauth2/token?more=!", form); got != tokens+"!" || err != nil {
			t.Errorf("the client got %q, error %v", got, err)
		}
		if len(f.all) != 1 || !strings.Contains(f.all[0], "POST /oauth2/token: the answer 200") {
			t.Errorf("violations = %q, want one for POST /oauth2/token", f.all)
		}
	})
	t.Run("a truncated answer stays truncated", func(t *testing.T) {
		t.Parallel()
		f, post := setup(t, true)
		if got, err := post("/v1/me", ""); got != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the client got %q, error %v", got, err)
		}
		if len(f.all) != 0 {
			t.Errorf("violations: %q", f.all)
		}
	})
	t.Run("other hosts are not checked", func(t *testing.T) {
		t.Parallel()
		f, post := setup(t, false)
		if got, err := post("/sim/codes", "sent"); got != "sent" || err != nil {
			t.Errorf("the client got %q, error %v", got, err)
		}
		if len(f.all) != 0 {
			t.Errorf("violations: %q", f.all)
		}
	})
}

func TestSameMembers(t *testing.T) {
	t.Parallel()
	example, err := api.Example("error-code_used")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		example  string
		from, to string
		same     bool
	}{
		"another request":            {"error-code_used", "K4ZD", "X", true},
		"another text of an error":   {"error-code_used", "fetch", "get", false},
		"a missing member":           {"error-code_used", `"error_code"`, `"code"`, false},
		"a value of another kind":    {"error-code_used", `"code_used"`, `1`, false},
		"another example":            {"error-user_blocked", "", "", false},
		"the example itself":         {"error-code_used", "", "", true},
		"an answer that is not JSON": {"error-code_used", "{", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fatal{failures{TB: t}}
			f.run(func() {
				apitest.SameMembers(f, tc.example, []byte(strings.Replace(string(example), tc.from, tc.to, 1)))
			})
			if same := len(f.all) == 0; same != tc.same {
				t.Errorf("same members = %t, want %t: %q", same, tc.same, f.all)
			}
		})
	}
	t.Run("elements of an array may have the shapes in the example", func(t *testing.T) {
		t.Parallel()
		jwks, err := api.Example("jwks")
		if err != nil {
			t.Fatal(err)
		}
		f := &failures{TB: t}
		apitest.SameMembers(f, "jwks", jwks)
		if len(f.all) != 0 {
			t.Errorf("the example is not like itself: %q", f.all)
		}
		apitest.SameMembers(f, "jwks", []byte(strings.Replace(string(jwks), `"kty"`, `"d": "x", "kty"`, 1)))
		if len(f.all) != 1 {
			t.Errorf("failures for an additional member in one element = %q, want one", f.all)
		}
	})
}

// fatal is failures whose Fatalf ends the function that run calls.
type fatal struct{ failures }

func (f *fatal) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(f)
}

func (f *fatal) run(test func()) {
	defer func() {
		if v := recover(); v != nil && v != any(f) {
			panic(v)
		}
	}()
	test()
}
