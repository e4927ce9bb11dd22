package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestResponses(t *testing.T) {
	t.Parallel()
	t.Run("the table has a row for every code, and no other", func(t *testing.T) {
		t.Parallel()
		known := map[auth.Code]bool{}
		for _, c := range auth.Codes() {
			known[c] = true
			if _, ok := web.Responses[c]; !ok {
				t.Errorf("%s has no row", c)
			}
		}
		for c := range web.Responses {
			if !known[c] {
				t.Errorf("%s has a row and is not a code", c)
			}
		}
	})
	t.Run("every row has only characters that can be sent", func(t *testing.T) {
		t.Parallel()
		// RFC 6749 §5.2: both members are printable ASCII without quotes and
		// backslashes.
		sendable := regexp.MustCompile(`^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`)
		for c, r := range web.Responses {
			if !sendable.MatchString(r.Text) || !sendable.MatchString(r.OAuth) {
				t.Errorf("%s: error and text = %q, %q; want only characters that RFC 6749 allows", c, r.OAuth, r.Text)
			}
			if r.Status < 400 || r.Status > 599 || http.StatusText(r.Status) == "" {
				t.Errorf("%s: status = %d", c, r.Status)
			}
		}
	})
	t.Run("codes that ask to wait have a delay", func(t *testing.T) {
		t.Parallel()
		for c, r := range web.Responses {
			wait := r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable
			if wait != (r.RetryAfter > 0) || wait != (r.OAuth == "temporarily_unavailable") {
				t.Errorf("%s: response = %+v, want a Retry-After only for 429 and 503", c, r)
			}
		}
	})
	t.Run("the codes of exchange and refresh follow the contract", func(t *testing.T) {
		t.Parallel()
		for c, want := range map[auth.Code]string{
			auth.CodeInvalid: "400 invalid_grant", auth.CodeUsed: "400 invalid_grant",
			auth.UserBlocked: "403 access_denied", auth.IdentityDisabled: "403 access_denied", auth.PersonDisabled: "403 access_denied",
			auth.PlatformQuota: "429 temporarily_unavailable", auth.RateLimited: "429 temporarily_unavailable",
			auth.PlatformUnavailable: "503 temporarily_unavailable", auth.StorageUnavailable: "503 temporarily_unavailable",
			auth.PlatformMisconfigured: "500 server_error", auth.Internal: "500 server_error",
			auth.AppUnknown: "401 invalid_client", auth.AppDisabled: "401 invalid_client",
			auth.InvalidRequest: "400 invalid_request", auth.UnsupportedGrantType: "400 unsupported_grant_type",
			auth.RefreshInvalid: "400 invalid_grant", auth.RefreshExpired: "400 invalid_grant",
			auth.RefreshReused: "400 invalid_grant", auth.SessionRevoked: "400 invalid_grant",
		} {
			if got := fmt.Sprintf("%d %s", web.Responses[c].Status, web.Responses[c].OAuth); got != want {
				t.Errorf("%s: got %s, want %s", c, got, want)
			}
		}
	})
}

func TestErrorBodies(t *testing.T) {
	t.Parallel()
	for _, code := range auth.Codes() {
		want := web.Responses[code]
		t.Run("OAuth form of "+string(code), func(t *testing.T) {
			t.Parallel()
			w, _ := fail(t, web.OAuth, fmt.Errorf("somewhere: %w", code))
			if w.Code != want.Status {
				t.Errorf("status %d, want %d", w.Code, want.Status)
			}
			if d := cmp.Diff(map[string]any{
				"error": want.OAuth, "error_description": want.Text,
				"error_code": string(code), "request_id": w.Header().Get("X-Request-Id"),
			}, members(t, w)); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
			checkErrorHeaders(t, w, "application/json")
		})
		t.Run("problem form of "+string(code), func(t *testing.T) {
			t.Parallel()
			w, _ := fail(t, web.API, fmt.Errorf("somewhere: %w", code))
			status := want.Status
			if code == auth.SessionRevoked {
				status = http.StatusUnauthorized // the token is no longer good
			}
			if d := cmp.Diff(map[string]any{
				"type": "urn:yufu:problem:" + string(code), "title": want.Text, "status": float64(status),
				"code": string(code), "request_id": w.Header().Get("X-Request-Id"),
			}, members(t, w)); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
			if w.Code != status {
				t.Errorf("status %d, want %d", w.Code, status)
			}
			checkErrorHeaders(t, w, "application/problem+json")
		})
	}
	t.Run("a description replaces the standard sentence", func(t *testing.T) {
		t.Parallel()
		err := auth.Invalid("The parameter x is missing.")
		w, _ := fail(t, web.OAuth, err)
		if got := members(t, w)["error_description"]; got != "The parameter x is missing." {
			t.Errorf("error_description %q", got)
		}
		w, _ = fail(t, web.API, err)
		if m := members(t, w); m["detail"] != "The parameter x is missing." || m["title"] != web.Responses[auth.InvalidRequest].Text {
			t.Errorf("members = %v, want the detail of the error and the title of the table", m)
		}
	})
	t.Run("the cause is only in the log", func(t *testing.T) {
		t.Parallel()
		for name, err := range map[string]error{
			"without a code":       fmt.Errorf("dial tcp 10.1.2.3:5432: %w", io.ErrUnexpectedEOF),
			"with a code":          &auth.Error{Code: auth.PlatformMisconfigured, Err: errors.New("dial tcp 10.1.2.3:5432")},
			"with an unknown code": &auth.Error{Code: "made_up", Description: "dial tcp 10.1.2.3:5432"},
			"with an empty code":   &auth.Error{Err: errors.New("dial tcp 10.1.2.3:5432")},
			"a bare unknown code":  fmt.Errorf("dial tcp 10.1.2.3:5432: %w", auth.Code("made_up")),
		} {
			for _, render := range []func(web.Handler) http.HandlerFunc{web.OAuth, web.API} {
				w, h := fail(t, render, err)
				if w.Code != http.StatusInternalServerError {
					t.Errorf("%s: status = %d", name, w.Code)
				}
				if all := fmt.Sprint(w.Header(), w.Body); strings.Contains(all, "10.1.2.3") || strings.Contains(all, "made_up") {
					t.Errorf("%s: the answer contains the cause: %s", name, all)
				}
				line := h.log.one(t)
				if cause, _ := line["cause"].(string); !strings.Contains(cause, "10.1.2.3") || line["level"] != "ERROR" {
					t.Errorf("%s: logged %v", name, line)
				}
			}
		}
	})
}

func checkErrorHeaders(t *testing.T, w *httptest.ResponseRecorder, contentType string) {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != contentType {
		t.Errorf("Content-Type %q, want %q", got, contentType)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

func TestErrorTranslation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want auth.Code
	}{
		"the request's deadline":                        {fmt.Errorf("query: %w", context.DeadlineExceeded), auth.StorageUnavailable},
		"a code stays whatever its cause is":            {fmt.Errorf("%w: %w", auth.PlatformUnavailable, context.DeadlineExceeded), auth.PlatformUnavailable},
		"an Error stays whatever its cause is":          {&auth.Error{Code: auth.PlatformUnavailable, Err: context.DeadlineExceeded}, auth.PlatformUnavailable},
		"a body over the limit":                         {fmt.Errorf("read: %w", &http.MaxBytesError{Limit: 1}), auth.BodyTooLarge},
		"a cancelled context that is not the request's": {context.Canceled, auth.Internal},
		"an end of file":                                {io.EOF, auth.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, h := fail(t, web.OAuth, tc.err)
			if got := members(t, w)["error_code"]; got != string(tc.want) {
				t.Errorf("error_code = %q, want %q", got, tc.want)
			}
			if o := h.observations(); len(o) != 1 || o[0].Code != tc.want || o[0].Status != web.Responses[tc.want].Status {
				t.Errorf("the observation is %+v", o)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code  auth.Code
		after time.Duration
		want  string
	}{
		{auth.PlatformQuota, 0, "60"},
		{auth.PlatformQuota, 1, "1"},
		{auth.PlatformQuota, time.Second, "1"},
		{auth.PlatformQuota, time.Second + 1, "2"},
		{auth.PlatformQuota, 1999 * time.Millisecond, "2"},
		{auth.PlatformQuota, time.Hour, "3600"},
		{auth.StorageUnavailable, 0, "2"},
		{auth.CodeUsed, 0, ""},
		{auth.Internal, 0, ""},
		{auth.UserBlocked, 1500 * time.Millisecond, "2"},
	} {
		for _, render := range []func(web.Handler) http.HandlerFunc{web.OAuth, web.API} {
			w, _ := fail(t, render, &auth.Error{Code: tc.code, RetryAfter: tc.after})
			if got := strings.Join(w.Header().Values("Retry-After"), ","); got != tc.want {
				t.Errorf("%s with a delay of %v: Retry-After = %q, want %q", tc.code, tc.after, got, tc.want)
			}
		}
	}
}

func TestChallenges(t *testing.T) {
	t.Parallel()
	t.Run("without a token the challenge has no error", func(t *testing.T) {
		t.Parallel()
		w, _ := fail(t, web.API, auth.TokenMissing)
		if got := w.Header().Get("WWW-Authenticate"); got != `Bearer realm="yufu"` {
			t.Errorf("WWW-Authenticate = %q, want only the realm", got)
		}
	})
	t.Run("the challenge of an invalid token is invalid_token", func(t *testing.T) {
		t.Parallel()
		for _, code := range []auth.Code{auth.TokenInvalid, auth.TokenExpired, auth.SessionRevoked} {
			w, _ := fail(t, web.API, &auth.Error{Code: code, Description: `said "so"`, Err: io.EOF})
			want := fmt.Sprintf(`Bearer realm="yufu", error="invalid_token", error_description="%s"`, web.Responses[code].Text)
			if got := w.Header().Get("WWW-Authenticate"); w.Code != 401 || got != want {
				t.Errorf("%s: got %d %q, want %q", code, w.Code, got, want)
			}
		}
	})
	t.Run("other errors have no challenge", func(t *testing.T) {
		t.Parallel()
		for _, code := range []auth.Code{auth.InvalidRequest, auth.StorageUnavailable, auth.Internal, auth.NotFound} {
			if w, _ := fail(t, web.API, code); w.Header().Get("WWW-Authenticate") != "" {
				t.Errorf("%s: WWW-Authenticate = %q, want none", code, w.Header().Get("WWW-Authenticate"))
			}
		}
	})
	t.Run("an OAuth client that used Basic gets a Basic challenge", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		h.Post("/oauth2/token", web.OAuth(func(http.ResponseWriter, *http.Request) error { return auth.AppUnknown }))
		for authorization, want := range map[string]string{"": "", "Basic d3g6": `Basic realm="yufu"`} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/oauth2/token", nil)
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			if got := h.do(r).Header().Get("WWW-Authenticate"); got != want {
				t.Errorf("Authorization %q: %q, want %q", authorization, got, want)
			}
		}
	})
}
