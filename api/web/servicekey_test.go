package web_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// newKey makes a service key that is not stored.
func newKey(t testing.TB, scopes ...string) (servicekey.Key, servicekey.Presented) {
	t.Helper()
	d, err := servicekey.NewDraft("a test", scopes, nil)
	if err != nil {
		t.Fatal(err)
	}
	return servicekey.Generate(d, time.Unix(0, 0))
}

func basicAuth(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func TestServiceKey(t *testing.T) {
	t.Parallel()
	_, p := newKey(t, "service")
	_, other := newKey(t, "service")
	key, secret := p.Key().Reveal(), p.Secret.Reveal()
	escaped := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
		return b.String()
	}
	for name, tc := range map[string]struct {
		authorization []string
		want          auth.Secret
		code          auth.Code
	}{
		"as a bearer token":                   {[]string{"Bearer " + key}, p.Key(), ""},
		"in another case":                     {[]string{"bEARER  " + key}, p.Key(), ""},
		"as Basic: id and secret":             {[]string{basicAuth(p.ID, secret)}, p.Key(), ""},
		"as Basic: id and the whole key":      {[]string{basicAuth(p.ID, key)}, p.Key(), ""},
		"as Basic, percent-encoded":           {[]string{basicAuth(escaped(p.ID), escaped(secret))}, p.Key(), ""},
		"as Basic, form-encoded by a library": {[]string{basicAuth(url.QueryEscape(p.ID), url.QueryEscape(key))}, p.Key(), ""},
		"any text as a bearer token":          {[]string{"Bearer a.b.c"}, "a.b.c", ""},
		"no key":                              {nil, "", auth.ServiceKeyMissing},
		"only a scheme":                       {[]string{"Bearer"}, "", auth.ServiceKeyMissing},
		"another scheme":                      {[]string{"Digest x"}, "", auth.ServiceKeyMissing},
		"Basic with another key's id":         {[]string{basicAuth(other.ID, key)}, "", auth.ServiceKeyInvalid},
		"Basic with the key and no password":  {[]string{basicAuth(key, "")}, "", auth.ServiceKeyInvalid},
		"Basic with the id in upper case":     {[]string{basicAuth(strings.ToUpper(p.ID), secret)}, "", auth.ServiceKeyInvalid},
		"Basic that is not base64":            {[]string{"Basic !"}, "", auth.ServiceKeyInvalid},
		"Basic without a colon":               {[]string{"Basic " + base64.StdEncoding.EncodeToString([]byte(key))}, "", auth.ServiceKeyInvalid},
		"Basic of a public client":            {[]string{basicAuth("wx1", "")}, "", auth.ServiceKeyInvalid},
		"two bearer headers":                  {[]string{"Bearer " + key, "Bearer " + key}, "", auth.InvalidRequest},
		"two headers, Basic first":            {[]string{basicAuth(p.ID, secret), "Bearer " + key}, "", auth.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header["Authorization"] = tc.authorization
			got, err := web.ServiceKey(r)
			if auth.CodeOf(err) != tc.code || tc.code == "" && got != tc.want {
				t.Errorf("got %q, error %v", got.Reveal(), err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes the secret: %v", err)
			}
		})
	}
	t.Run("a key in the URL is refused", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?access_token="+key, nil)
		if got, err := web.ServiceKey(r); auth.CodeOf(err) != auth.InvalidRequest || got != "" {
			t.Errorf("got %q, error %v", got.Reveal(), err)
		}
	})
}

// ring is a set of valid keys.
type ring map[auth.Secret]servicekey.Key

func (r ring) Authenticate(_ context.Context, presented auth.Secret) (servicekey.Key, error) {
	if k, ok := r[presented]; ok {
		return k, nil
	}
	return servicekey.Key{}, auth.ServiceKeyInvalid
}

func TestGuard(t *testing.T) {
	t.Parallel()
	keys := ring{}
	byScope := map[servicekey.Scope]servicekey.Presented{}
	for _, scope := range servicekey.Scopes() {
		k, p := newKey(t, string(scope))
		keys[p.Key()], byScope[scope] = k, p
	}
	h := newHarness()
	guard := web.NewGuard(keys)
	mount := func(path string, scope servicekey.Scope) {
		h.Get(path, web.API(func(w http.ResponseWriter, r *http.Request) error {
			if _, err := guard.Authorize(r, scope); err != nil {
				return err
			}
			w.WriteHeader(http.StatusNoContent)
			return nil
		}))
	}
	for _, scope := range servicekey.Scopes() {
		mount("/needs/"+string(scope), scope)
	}
	mount("/forgotten", "")
	ask := func(t *testing.T, path, authorization string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return h.do(r)
	}
	for _, needs := range servicekey.Scopes() {
		endpoint := "/needs/" + string(needs)
		for has, p := range byScope {
			want := http.StatusForbidden
			if k := keys[p.Key()]; k.Has(needs) {
				want = http.StatusNoContent
			}
			t.Run(fmt.Sprintf("%s answers a key with the scope %s with %d", endpoint, has, want), func(t *testing.T) {
				t.Parallel()
				for _, authorization := range []string{"Bearer " + p.Key().Reveal(), basicAuth(p.ID, p.Secret.Reveal())} {
					w := ask(t, endpoint, authorization)
					if w.Code != want {
						t.Errorf("the answer is %d %s", w.Code, w.Body)
					}
					if want == http.StatusForbidden {
						challenge := `Bearer realm="yufu", error="insufficient_scope", scope="` + string(needs) + `"`
						if strings.HasPrefix(authorization, "Basic") {
							challenge = `Basic realm="yufu"`
						}
						m := members(t, w)
						if got := w.Header().Get("WWW-Authenticate"); got != challenge || m["code"] != "insufficient_scope" || m["detail"] != "The service key needs the scope "+string(needs)+"." {
							t.Errorf("challenge and body = %s %s, want %s and insufficient_scope", got, w.Body, challenge)
						}
					}
				}
			})
		}
		for name, tc := range map[string]struct {
			authorization, code, challenge string
		}{
			"no key":                      {"", "service_key_missing", `Bearer realm="yufu"`},
			"an unknown key":              {"Bearer yfk_x", "service_key_invalid", `Bearer realm="yufu", error="invalid_token", error_description="` + web.Responses[auth.ServiceKeyInvalid].Text + `"`},
			"malformed Basic credentials": {basicAuth("x", "y"), "service_key_invalid", `Basic realm="yufu"`},
		} {
			t.Run(endpoint+" refuses "+name, func(t *testing.T) {
				t.Parallel()
				w := ask(t, endpoint, tc.authorization)
				if m := members(t, w); w.Code != http.StatusUnauthorized || m["code"] != tc.code || w.Header().Get("WWW-Authenticate") != tc.challenge {
					t.Errorf("status, headers and body = %d %v %s, want 401 %s and the challenge %s", w.Code, w.Header(), w.Body, tc.code, tc.challenge)
				}
			})
		}
	}
	t.Run("an endpoint without a scope refuses every key", func(t *testing.T) {
		t.Parallel()
		for _, p := range byScope {
			if w := ask(t, "/forgotten", "Bearer "+p.Key().Reveal()); w.Code != http.StatusForbidden {
				t.Errorf("the answer is %d", w.Code)
			}
		}
	})
	t.Run("the log contains the key's id and not its secret", func(t *testing.T) {
		t.Parallel()
		p := byScope[servicekey.ScopeAdmin]
		ask(t, "/needs/admin", "Bearer "+p.Key().Reveal())
		log := h.log.String()
		if !strings.Contains(log, `"service_key":"`+p.ID+`"`) || strings.Contains(log, p.Secret.Reveal()) {
			t.Errorf("the log is %s", log)
		}
	})
}
