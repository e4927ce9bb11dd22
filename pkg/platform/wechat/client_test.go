package wechat_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
)

const (
	appID  = "wx0123456789abcdef"
	secret = "5ec2e7+&=%/ 5ec2e75ec2e7"
	code   = "0c1dEFGH2ijKLmN3opQRst4UvwXYz567"
)

var credentials = platform.Credentials{AppID: appID, Secrets: secrets(secret)}

func secrets(appSecret auth.Secret) map[string]auth.Secret {
	return map[string]auth.Secret{auth.CredentialAppSecret: appSecret}
}

const success = `{"session_key":"HyVFkGl5F5OQWJZZaNzBBg==","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE"}`

// newClient returns a client of the server at base whose connections close with the test.
// Its timeout is long, unless the test sets one.
func newClient(t *testing.T, cfg wechat.Config) *wechat.Client {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	client, err := wechat.New(cfg)
	if err != nil {
		t.Fatalf("New() error = %v", err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// serve runs handler and counts its calls.
func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return server, &calls
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]wechat.Config{
		"no scheme":        {BaseURL: "api.weixin.qq.com"},
		"another scheme":   {BaseURL: "ftp://api.weixin.qq.com"},
		"no host":          {BaseURL: "https:///sns"},
		"a password":       {BaseURL: "https://user:hunter2@api.weixin.qq.com"},
		"an invalid port":  {BaseURL: "https://user:hunter2@api.weixin.qq.com:port"},
		"a query":          {BaseURL: "https://api.weixin.qq.com?hunter2"},
		"a fragment":       {BaseURL: "https://api.weixin.qq.com#hunter2"},
		"negative timeout": {Timeout: -1},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := wechat.New(cfg)
			if err == nil {
				t.Fatal("New() error = nil, want an error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error contains the URL: %v", err)
			}
		})
	}
	t.Run("the zero value is production", func(t *testing.T) {
		t.Parallel()
		if _, err := wechat.New(wechat.Config{}); err != nil {
			t.Errorf("New() error = %v", err)
		}
	})
}

func TestExchangeCode(t *testing.T) {
	t.Parallel()

	t.Run("sends the documented request with escaped values", func(t *testing.T) {
		t.Parallel()
		var got *http.Request
		server, calls := serve(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.Clone(context.WithoutCancel(r.Context()))
			answer(http.StatusOK, success)(w, r)
		})
		client := newClient(t, wechat.Config{BaseURL: server.URL + "/prefix/"})
		account, err := client.ExchangeCode(t.Context(), credentials, code)
		if err != nil {
			t.Fatalf("ExchangeCode() error = %v", err)
		}
		want := platform.Account{PlatformAccount: auth.OpenIDAccount("oGZUI0egBJY1zhBYw2KhdUfwVJJE"), SessionKey: "HyVFkGl5F5OQWJZZaNzBBg=="}
		if account != want {
			t.Errorf("ExchangeCode() = %+v, session key equal: %v", account, account.SessionKey == want.SessionKey)
		}
		if calls.Load() != 1 || got.Method != http.MethodGet || got.URL.Path != "/prefix/sns/jscode2session" {
			t.Errorf("ExchangeCode() made %d calls, the last %s %s; want one GET /prefix/sns/jscode2session", calls.Load(), got.Method, got.URL.Path)
		}
		query, err := url.ParseQuery(got.URL.RawQuery)
		if err != nil {
			t.Fatalf("ParseQuery() error = %v", err)
		}
		wantQuery := url.Values{"appid": {appID}, "secret": {secret}, "js_code": {code}, "grant_type": {"authorization_code"}}
		if diff := cmp.Diff(wantQuery, query); diff != "" {
			t.Errorf("query (-want +got):\n%s", diff)
		}
	})

	for name, bad := range map[string]string{
		"empty":                            "",
		"tourist mode's mock code":         "the code is a mock one",
		"one with a parameter smuggled in": "abc&secret=x",
		"one with a percent escape":        "abc%20def",
		"one with a line break":            "abc\r\ndef",
		"one with NUL":                     "abc\x00",
		"one of invalid UTF-8":             "abc\xff",
		"one with full-width digits":       "abc１２",
		"one too long":                     strings.Repeat("a", 129),
	} {
		t.Run("refuses without a call a code that is "+name, func(t *testing.T) {
			t.Parallel()
			server, calls := serve(t, answer(http.StatusOK, success))
			client := newClient(t, wechat.Config{BaseURL: server.URL})
			_, err := client.ExchangeCode(t.Context(), credentials, bad)
			if auth.CodeOf(err) != auth.CodeInvalid || !errors.Is(err, wechat.ErrCodeMalformed) {
				t.Errorf("ExchangeCode() error = %v", err)
			}
			if calls.Load() != 0 {
				t.Errorf("ExchangeCode() made %d calls, want 0", calls.Load())
			}
		})
	}

	for name, app := range map[string]platform.Credentials{
		"an empty appid":          {Secrets: secrets(secret)},
		"a malformed appid":       {AppID: "wx/../..", Secrets: secrets(secret)},
		"an empty secret":         {AppID: appID},
		"a secret over 256 bytes": {AppID: appID, Secrets: secrets(auth.Secret(strings.Repeat("s", 257)))},
		"nothing":                 {},
	} {
		t.Run("refuses without a call "+name, func(t *testing.T) {
			t.Parallel()
			server, calls := serve(t, answer(http.StatusOK, success))
			client := newClient(t, wechat.Config{BaseURL: server.URL})
			_, err := client.ExchangeCode(t.Context(), app, code)
			if auth.CodeOf(err) != auth.PlatformMisconfigured || wechat.Class(err) != wechat.ClassMisconfigured {
				t.Errorf("ExchangeCode() error = %v", err)
			}
			if calls.Load() != 0 {
				t.Errorf("ExchangeCode() made %d calls, want 0", calls.Load())
			}
		})
	}

	for _, tc := range []struct {
		name, class string
		handler     http.HandlerFunc
	}{
		{"an empty body", wechat.ClassMalformed, answer(http.StatusOK, "")},
		{"a body beyond 64 KiB", wechat.ClassMalformed, answer(http.StatusOK, success+strings.Repeat(" ", 64<<10))},
		{"HTML", wechat.ClassMalformed, answer(http.StatusOK, "<html>")},
		{"status_502", wechat.ClassHTTPStatus, answer(http.StatusBadGateway, success)},
		{"status_500_with_an_errcode", wechat.ClassHTTPStatus, answer(http.StatusInternalServerError, `{"errcode":40029}`)},
		{"status_204", wechat.ClassHTTPStatus, answer(http.StatusNoContent, "")},
		{"a header over the limit", wechat.ClassTransport, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 32<<10))
			answer(http.StatusOK, success)(w, r)
		}},
		{"a truncated body", wechat.ClassTransport, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			answer(http.StatusOK, success)(w, r)
		}},
	} {
		t.Run("is unavailable and sends one request after "+tc.name, func(t *testing.T) {
			t.Parallel()
			server, calls := serve(t, tc.handler)
			client := newClient(t, wechat.Config{BaseURL: server.URL})
			_, err := client.ExchangeCode(t.Context(), credentials, code)
			if auth.CodeOf(err) != auth.PlatformUnavailable || wechat.Class(err) != tc.class {
				t.Errorf("ExchangeCode() error = %v, class %s, want %s", err, wechat.Class(err), tc.class)
			}
			var e *auth.Error
			if !errors.As(err, &e) || e.RetryAfter != 5*time.Second {
				t.Errorf("ExchangeCode() error = %#v, want a RetryAfter of 5 s", err)
			}
			if calls.Load() != 1 {
				t.Errorf("ExchangeCode() made %d calls, want 1", calls.Load())
			}
		})
	}

	t.Run("follows no redirect", func(t *testing.T) {
		t.Parallel()
		elsewhere, stolen := serve(t, answer(http.StatusOK, success))
		server, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		})
		client := newClient(t, wechat.Config{BaseURL: server.URL})
		_, err := client.ExchangeCode(t.Context(), credentials, code)
		if wechat.Class(err) != wechat.ClassHTTPStatus {
			t.Errorf("ExchangeCode() error = %v", err)
		}
		if stolen.Load() != 0 {
			t.Error("the secret was sent to the redirect's target")
		}
	})

	t.Run("returns platform_unavailable after its own timeout", func(t *testing.T) {
		t.Parallel()
		server, calls := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		client := newClient(t, wechat.Config{BaseURL: server.URL, Timeout: 20 * time.Millisecond})
		_, err := client.ExchangeCode(t.Context(), credentials, code)
		if auth.CodeOf(err) != auth.PlatformUnavailable || wechat.Class(err) != wechat.ClassTimeout {
			t.Errorf("ExchangeCode() error = %v", err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("our timeout is reported as the caller's")
		}
		if calls.Load() > 1 {
			t.Errorf("ExchangeCode() made %d calls, want at most 1", calls.Load())
		}
	})

	t.Run("times out in the middle of a body too", func(t *testing.T) {
		t.Parallel()
		server, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, success[:20])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		client := newClient(t, wechat.Config{BaseURL: server.URL, Timeout: 50 * time.Millisecond})
		_, err := client.ExchangeCode(t.Context(), credentials, code)
		if wechat.Class(err) != wechat.ClassTimeout {
			t.Errorf("err = %v, class %s", err, wechat.Class(err))
		}
	})

	t.Run("accepts a complete answer that arrives at the deadline", func(t *testing.T) {
		t.Parallel()
		for text, class := range map[string]string{success[:20]: wechat.ClassTimeout, success: wechat.ClassOK} {
			client := newClient(t, wechat.Config{BaseURL: "http://wechat.test", Timeout: 20 * time.Millisecond, Transport: hangsUp{text}})
			if _, err := client.ExchangeCode(t.Context(), credentials, code); wechat.Class(err) != class {
				t.Errorf("body %q: error = %v, class %s, want %s", text, err, wechat.Class(err), class)
			}
		}
	})

	t.Run("returns the context's error when the caller gives up", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		server, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		client := newClient(t, wechat.Config{BaseURL: server.URL})
		_, err := client.ExchangeCode(ctx, credentials, code)
		if !errors.Is(err, context.Canceled) || wechat.Class(err) != wechat.ClassCanceled {
			t.Errorf("ExchangeCode() error = %v", err)
		}
		var e *auth.Error
		if errors.As(err, &e) {
			t.Errorf("the caller's cancellation is reported as a platform error: %v", err)
		}
	})
}

func TestClassOfForeignErrors(t *testing.T) {
	t.Parallel()
	if got := wechat.Class(nil); got != wechat.ClassOK {
		t.Errorf("Class(nil) = %q", got)
	}
	if got := wechat.Class(io.EOF); got != wechat.ClassInternal {
		t.Errorf("Class(io.EOF) = %q", got)
	}
}

// hangsUp is a WeChat that ends its answer when we hang up, so that a partial answer
// looks complete. This happens now and then over TLS.
type hangsUp struct{ text string }

func (h hangsUp) RoundTrip(r *http.Request) (*http.Response, error) {
	end := readFunc(func([]byte) (int, error) { <-r.Context().Done(); return 0, io.EOF })
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Request: r,
		Body: io.NopCloser(io.MultiReader(strings.NewReader(h.text), end)),
	}, nil
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
