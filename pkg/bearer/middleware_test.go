package bearer_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

func TestRequire(t *testing.T) {
	t.Parallel()
	yufu := bearertest.New(t)
	v := yufu.Verifier()
	var got bearer.Identity
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id, ok := bearer.FromContext(r.Context())
		if !ok {
			t.Error("FromContext() found no identity")
		}
		got = id
	})
	ask := func(h http.Handler, target string, authorization ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		for _, a := range authorization {
			r.Header.Add("Authorization", a)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	expires := time.Now().Add(5 * time.Minute).UTC().Truncate(time.Second)
	unbound := yufu.Token(bearer.Claims{Subject: user, Session: session, App: app, ExpiresAt: expires})
	bound := yufu.Token(bearer.Claims{Subject: user, Session: session, App: app, ExpiresAt: expires, Person: person})

	t.Run("passes on the identity", func(t *testing.T) {
		want := bearer.Identity{UUID: user, Session: session, App: app, ExpiresAt: expires}
		for _, authorization := range []string{"Bearer " + unbound, "bearer " + unbound, "BEARER  " + unbound + " "} {
			got = bearer.Identity{}
			if w := ask(v.Require(h), "/?access=1", authorization); w.Code != 200 || !reflect.DeepEqual(got, want) {
				t.Errorf("Authorization %.10s: status %d, identity %+v", authorization, w.Code, got)
			}
		}
		want.Person, want.Bound = person, true
		for name, h := range map[string]http.Handler{"Require": v.Require(h), "RequireBound": v.RequireBound(h)} {
			if w := ask(h, "/", "Bearer "+bound); w.Code != 200 || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: status %d, identity %+v", name, w.Code, got)
			}
		}
	})
	t.Run("a handler without the middleware has no identity", func(t *testing.T) {
		if id, ok := bearer.FromContext(httptest.NewRequest(http.MethodGet, "/", nil).Context()); ok || id != (bearer.Identity{}) {
			t.Errorf("FromContext() = %+v, want no identity", id)
		}
	})

	expired := yufu.Token(bearer.Claims{ExpiresAt: time.Now().Add(-time.Minute)})
	revoked := yufu.Token(bearer.Claims{Session: "01900000-0000-7c00-8000-0000000000ff"})
	yufu.RevokeSession("01900000-0000-7c00-8000-0000000000ff")
	old := bearertest.New(t)
	old.SetAge(bearertest.MaxStaleness + time.Millisecond)
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
	for name, c := range map[string]struct {
		handler       http.Handler
		target        string
		authorization []string
		status        int
		code          string
		challenge     string
	}{
		"no token":           {status: 401, code: "token_missing", challenge: `Bearer realm="yufu"`},
		"an empty token":     {authorization: []string{"Bearer "}, status: 401, code: "token_missing", challenge: `Bearer realm="yufu"`},
		"another scheme":     {authorization: []string{"Basic dTpw"}, status: 401, code: "token_missing", challenge: `Bearer realm="yufu"`},
		"only a scheme":      {authorization: []string{"Bearer"}, status: 401, code: "token_missing", challenge: `Bearer realm="yufu"`},
		"junk":               {authorization: []string{"Bearer junk"}, status: 401, code: "token_invalid", challenge: `error="invalid_token"`},
		"two tokens":         {authorization: []string{"Bearer " + unbound + " " + unbound}, status: 401, code: "token_invalid", challenge: `error="invalid_token"`},
		"an expired token":   {authorization: []string{"Bearer " + expired}, status: 401, code: "token_expired", challenge: `error="invalid_token"`},
		"a revoked token":    {authorization: []string{"Bearer " + revoked}, status: 401, code: "session_revoked", challenge: `error="invalid_token"`},
		"two headers":        {authorization: []string{"Bearer " + unbound, "Bearer " + unbound}, status: 400, code: "invalid_request", challenge: `error="invalid_request"`},
		"a token in both":    {target: "/?access_token=" + unbound, authorization: []string{"Bearer " + unbound}, status: 400, code: "invalid_request", challenge: `error="invalid_request"`},
		"a token in the URL": {target: "/?x=1&access%5ftoken=" + unbound, status: 400, code: "invalid_request", challenge: `error="invalid_request"`},
		"an unbound user":    {handler: v.RequireBound(never), authorization: []string{"Bearer " + unbound}, status: 403, code: "person_required", challenge: `error="insufficient_scope"`},
		"no token, when a bound user is required": {handler: v.RequireBound(never), status: 401, code: "token_missing", challenge: `Bearer realm="yufu"`},
		"stale revocation data":                   {handler: old.Verifier().Require(never), authorization: []string{"Bearer " + old.Token(bearer.Claims{})}, status: 503, code: "stale"},
	} {
		t.Run("answers "+name, func(t *testing.T) {
			if c.handler == nil {
				c.handler = v.Require(never)
			}
			if c.target == "" {
				c.target = "/"
			}
			w := ask(c.handler, c.target, c.authorization...)
			var body map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if w.Code != c.status || body["code"] != c.code || body["type"] != "urn:yufu:problem:"+c.code || body["status"] != float64(c.status) || body["title"] == "" {
				t.Errorf("status and body = %d %s", w.Code, w.Body)
			}
			challenge := w.Header().Get("WWW-Authenticate")
			switch exact := !strings.HasPrefix(c.challenge, "error"); {
			case exact && challenge != c.challenge:
				t.Errorf("WWW-Authenticate = %q, want %q in it", challenge, c.challenge)
			case !exact && (!strings.HasPrefix(challenge, `Bearer realm="yufu", `+c.challenge) || !strings.Contains(challenge, `error_description="`+body["title"].(string)+`"`)):
				t.Errorf("WWW-Authenticate = %q, want no error in it", challenge)
			}
			if retry := w.Header().Get("Retry-After"); (retry != "") != (c.status == 503) {
				t.Errorf("Retry-After = %q", retry)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("headers = %v, want no-store and application/problem+json", w.Header())
			}
		})
	}
}
