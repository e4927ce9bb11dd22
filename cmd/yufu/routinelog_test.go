package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// TestRoutineLog checks that the answers of which there is one for each request to a back
// end are logged only at debug, that refusals are logged always, and that the metrics count
// them all.
func TestRoutineLog(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		var log bytes.Buffer
		w := newBenchWorld(t, &log, level)
		get := func(path, token string) *http.Request {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			return r
		}
		introspect := func(token string) *http.Request {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/oauth2/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Authorization", "Bearer "+w.key)
			return r
		}
		for _, c := range []struct {
			name    string
			request *http.Request
			status  int
			routine bool
			counted string
		}{
			{"an active introspection", introspect(w.tokens[otherAlg][0]), 200, true, `route="/oauth2/introspect",status="200"`},
			{"an inactive introspection", introspect("junk"), 200, false, `route="/oauth2/introspect",status="200"`},
			{"a verified request", get("/v1/verify", w.tokens[otherAlg][0]), 200, true, `route="/v1/verify",status="200"`},
			{"a verified request with a longer path", get("/v1/verify/orders", w.tokens[otherAlg][0]), 200, true, `route="/v1/verify",status="200"`},
			{"a request without a token", get("/v1/verify", ""), 401, false, `error_code="token_missing",method="GET",route="/v1/verify",status="401"`},
			{"a request with an invalid token", get("/v1/verify", "junk"), 401, false, `error_code="token_invalid",method="GET",route="/v1/verify",status="401"`},
			{"an unbound user where a bound one is required", get("/v1/verify?bound=required", w.unbound), 403, false, `error_code="person_required",method="GET",route="/v1/verify",status="403"`},
			{"the JWK set", get("/.well-known/jwks.json", ""), 200, true, `route="/.well-known/jwks.json",status="200"`},
			{"the metadata", get("/.well-known/oauth-authorization-server", ""), 200, true, `route="/.well-known/oauth-authorization-server",status="200"`},
			{"the OpenID metadata", get("/.well-known/openid-configuration", ""), 200, true, `route="/.well-known/openid-configuration",status="200"`},
			{"an unknown address", get("/unknown", ""), 404, false, `route="unmatched",status="404"`},
		} {
			log.Reset()
			out := httptest.NewRecorder()
			w.router.ServeHTTP(out, c.request)
			id := out.Header().Get("X-Request-Id")
			if out.Code != c.status || len(id) != 26 {
				t.Errorf("%s: status = %d with the request id %q, want %d and 26 characters", c.name, out.Code, id, c.status)
			}
			want := !c.routine || level == slog.LevelDebug
			if got := strings.Contains(log.String(), `"request_id":"`+id+`"`); got != want {
				t.Errorf("%s is logged at level %v: %t, want %t; the log is %q", c.name, level, got, want, log.String())
			}
			if want && c.routine && !strings.Contains(log.String(), `"level":"DEBUG"`) {
				t.Errorf("%s: the log line is %s, want level DEBUG", c.name, log.String())
			}
			scrape := httptest.NewRecorder()
			w.metrics.Handler().ServeHTTP(scrape, get("/metrics", ""))
			if body, _ := io.ReadAll(scrape.Body); !bytes.Contains(body, []byte(c.counted)) {
				t.Errorf("%s: the metrics do not have %s", c.name, c.counted)
			}
		}
	}
}
