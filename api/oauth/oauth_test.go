package oauth_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"refresh_token", "access_token"} {
		for _, hint := range []string{"", "refresh_token", "access_token", "id_token"} {
			t.Run(which+" with the hint "+hint+" ends the session", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				g := w.exchange(t, "alice")
				a := w.revoke(t, g.text(t, which), "token_type_hint", hint)
				if a.Status != http.StatusOK || string(a.Body) != "{}\n" {
					t.Errorf("POST /oauth2/revoke: status and body = %d %q, want 200 {}", a.Status, a.Body)
				}
				wantSecret(t, a)
				wantError(t, w.refresh(t, g.text(t, "refresh_token")), http.StatusBadRequest, "invalid_grant", "session_revoked")
				if again := w.revoke(t, g.text(t, which)); again.Status != http.StatusOK {
					t.Errorf("revoking twice: POST /oauth2/revoke: status and body = %d %s, want 200", again.Status, again.Body)
				}
			})
		}
	}
	t.Run("revoking an unknown token succeeds", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for _, s := range []string{"x", "yfr_x", "a.b.c", strings.Repeat("A", 8<<10), "鱼符"} {
			if a := w.revoke(t, s); a.Status != http.StatusOK || string(a.Body) != "{}\n" {
				t.Errorf("POST /oauth2/revoke: status and body = %d %s, want 200 {}", a.Status, a.Body)
			}
		}
	})
	t.Run("another client's token is refused and stays valid", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.exchange(t, "alice")
		for _, which := range []string{"refresh_token", "access_token"} {
			a := w.do(t, http.MethodPost, "/oauth2/revoke", form("client_id", sessiontest.OtherAppID, "token", g.text(t, which)))
			wantError(t, a, http.StatusBadRequest, "invalid_grant", "token_client_mismatch")
		}
		if a := w.refresh(t, g.text(t, "refresh_token")); a.Status != http.StatusOK {
			t.Errorf("POST /oauth2/token: status and body = %d %s, want 200", a.Status, a.Body)
		}
	})
	t.Run("incomplete requests are refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for _, body := range []string{"", form("token", "x"), form("client_id", sessiontest.AppID), form("client_id", sessiontest.AppID, "token", "")} {
			wantError(t, w.do(t, http.MethodPost, "/oauth2/revoke", body), http.StatusBadRequest, "invalid_request", "invalid_request")
		}
		wantError(t, w.revoke(t, "x", "client_secret", "y"), http.StatusUnauthorized, "invalid_client", "client_secret_unexpected")
	})
}

// wantPublic fails the test unless any cache may store the answer for five minutes.
func wantPublic(t *testing.T, a answer) {
	t.Helper()
	if a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Cache-Control") != "public, max-age=300" || a.Header.Get("Pragma") != "" {
		t.Errorf("status and headers = %d %v, want 200, application/json and public, max-age=300", a.Status, a.Header)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do(t, http.MethodGet, "/.well-known/oauth-authorization-server", "")
	wantPublic(t, a)
	if d := cmp.Diff(map[string]any{
		"issuer":                                sessiontest.Issuer,
		"token_endpoint":                        sessiontest.Issuer + "/oauth2/token",
		"revocation_endpoint":                   sessiontest.Issuer + "/oauth2/revoke",
		"jwks_uri":                              sessiontest.Issuer + "/.well-known/jwks.json",
		"grant_types_supported":                 []any{"urn:yufu:grant-type:mini-program-code", "refresh_token"},
		"token_endpoint_auth_methods_supported": []any{"none"},
		"revocation_endpoint_auth_methods_supported": []any{"none"},
		"introspection_endpoint":                     sessiontest.Issuer + "/oauth2/introspect", "introspection_endpoint_auth_methods_supported": []any{"client_secret_basic", "Bearer"},
		"id_token_signing_alg_values_supported": []any{"ES256", "EdDSA", "RS256"},
	}, a.members(t)); d != "" {
		t.Errorf("mismatch (-want +got):\n%s", d)
	}
	b := w.do(t, http.MethodGet, "/.well-known/openid-configuration", "")
	wantPublic(t, b)
	if string(a.Body) != string(b.Body) {
		t.Errorf("the two documents differ: %s, %s", a.Body, b.Body)
	}
	for _, grantType := range a.members(t)["grant_types_supported"].([]any) {
		// The request lacks the grant's parameters, but the grant is known.
		got := w.do(t, http.MethodPost, "/oauth2/token", form("grant_type", grantType.(string), "client_id", sessiontest.AppID))
		wantError(t, got, http.StatusBadRequest, "invalid_request", "invalid_request")
	}
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do(t, http.MethodGet, "/.well-known/jwks.json", "")
	wantPublic(t, a)
	if string(a.Body) != string(w.Keys.JWKS()) {
		t.Errorf("GET /.well-known/jwks.json: body = %s, want the JWK set of the ring", a.Body)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(a.Body, &set); err != nil {
		t.Fatal(err)
	}
	kids := map[string]bool{}
	for _, k := range set.Keys {
		kids[k["kid"]] = true
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "oth"} {
			if _, ok := k[private]; ok {
				t.Errorf("the set has the private member %s", private)
			}
		}
	}
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(w.exchange(t, "bob").text(t, "access_token"), ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	var h struct{ KID string }
	if err := json.Unmarshal(header, &h); err != nil {
		t.Fatal(err)
	}
	if len(kids) != 2 || !kids[h.KID] {
		t.Errorf("the signing key %s is not among %v", h.KID, kids)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.Simulator.NewCode("alice")
	body := form("grant_type", codeGrant, "client_id", sessiontest.AppID, "code", code)
	first := w.do(t, http.MethodPost, "/oauth2/token", body)
	used := w.do(t, http.MethodPost, "/oauth2/token", body)
	second := w.refresh(t, first.text(t, "refresh_token"))
	replay := w.refresh(t, first.text(t, "refresh_token"))
	forged := w.refresh(t, first.text(t, "refresh_token")[:63]+"!")
	revoked := w.revoke(t, second.text(t, "access_token"))
	ended := w.refresh(t, second.text(t, "refresh_token"))
	stranger := w.do(t, http.MethodPost, "/oauth2/token", form("grant_type", codeGrant, "client_id", code, "code", code))
	log := w.log.String()
	t.Run("each request makes one line with its outcome", func(t *testing.T) {
		var lines []map[string]any
		for line := range strings.Lines(log) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, m)
		}
		want := []struct {
			answer                      answer
			route, grant, outcome, code any
			app                         any
		}{
			{first, "/oauth2/token", "code", "started", nil, sessiontest.AppID},
			{used, "/oauth2/token", "code", nil, "code_used", sessiontest.AppID},
			{second, "/oauth2/token", "refresh", "rotated", nil, sessiontest.AppID},
			{replay, "/oauth2/token", "refresh", "replayed", nil, sessiontest.AppID},
			{forged, "/oauth2/token", "refresh", nil, "refresh_invalid", nil},
			{revoked, "/oauth2/revoke", nil, nil, nil, sessiontest.AppID},
			{ended, "/oauth2/token", "refresh", nil, "session_revoked", sessiontest.AppID},
			{stranger, "/oauth2/token", "code", nil, "app_unknown", nil},
		}
		if len(lines) != len(want) {
			t.Fatalf("the log has %d lines for %d requests: %s", len(lines), len(want), log)
		}
		for i, x := range want {
			l := lines[i]
			if l["request_id"] != x.answer.Header.Get("X-Request-Id") || l["status"] != float64(x.answer.Status) ||
				l["route"] != x.route || l["grant"] != x.grant || l["outcome"] != x.outcome || l["error_code"] != x.code || l["app"] != x.app {
				t.Errorf("log line %d = %v, want %+v", i, l, x)
			}
		}
	})
	t.Run("no line contains a token, a code or a secret", func(t *testing.T) {
		secrets := []string{code, sessiontest.AppSecret, sessiontest.OtherAppSecret}
		for _, a := range []answer{first, second, replay} {
			access := a.text(t, "access_token")
			secrets = append(secrets, a.text(t, "refresh_token")[4:44], access, access[strings.LastIndex(access, ".")+1:])
		}
		for _, s := range secrets {
			if strings.Contains(log, s) {
				t.Errorf("the log contains %q", s)
			}
		}
	})
}
