package gate_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// ask sends the request of a proxy that keeps the method, the body, the path and the
// query of the client's request. The contract does not describe such requests.
func (g *guarded) ask(t *testing.T, method, target, token string, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.url+target, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestVerifyAnyRequest(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "")
	alice := g.Login("alice")
	token := alice.AccessToken.Reveal()

	t.Run("the endpoint answers every method, at the path and below it", func(t *testing.T) {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "X"} {
			for _, target := range []string{"/v1/verify", "/v1/verify/", "/v1/verify/orders/7", "/v1/verify;app=" + sessiontest.AppID + "/orders?q=1"} {
				resp := g.ask(t, method, target, token, strings.NewReader("a body"))
				if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Yufu-UUID") != alice.Session.Identity.String() {
					t.Errorf("%s %s: status and headers = %s %v, want 200 and the user's uuid", method, target, resp.Status, resp.Header)
				}
				if resp := g.ask(t, method, target, "", nil); resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s %s without a token: %s", method, target, resp.Status)
				}
			}
		}
	})
	t.Run("the answer does not wait for the body", func(t *testing.T) {
		body, hold := io.Pipe()
		defer hold.Close()
		if resp := g.ask(t, http.MethodPost, "/v1/verify/orders", token, body); resp.StatusCode != http.StatusOK {
			t.Error(resp.Status)
		}
	})
	const elsewhere = "aud=https://elsewhere.example"
	t.Run("requirements that a client appends are ignored", func(t *testing.T) {
		for _, appended := range []string{
			"/orders?" + elsewhere, "/orders?app=other", "/orders?bound=required", "/orders?app=x&app=y", "/orders?%", "/orders?unknown=1", "/?access_token=x",
			"/;" + strings.ReplaceAll(elsewhere, "/", "%2F"), "/orders;app=other/7", "/..;app=other/", "/../verify;app=other/", "/%2e%2e/verify?app=other", "//v1/verify?app=other",
		} {
			if resp := g.ask(t, http.MethodGet, "/v1/verify"+appended, token, nil); resp.StatusCode != http.StatusOK {
				t.Errorf("%s: got %s, want 200", appended, resp.Status)
			}
		}
	})
	t.Run("the proxy's requirements hold whatever a client appends", func(t *testing.T) {
		for _, required := range []string{";app=other", ";aud=https%3A%2F%2Felsewhere.example", ";app=" + sessiontest.AppID + ";aud=x"} {
			for _, appended := range []string{"/", "/orders", "/?app=" + sessiontest.AppID, "/;app=" + sessiontest.AppID + "/", "/../verify", "/v1/verify"} {
				if resp := g.ask(t, http.MethodGet, "/v1/verify"+required+appended, token, nil); resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s%s: got %s, want 401", required, appended, resp.Status)
				}
			}
		}
		if resp := g.ask(t, http.MethodGet, "/v1/verify;bound=required/?bound=", token, nil); resp.StatusCode != http.StatusForbidden {
			t.Errorf("an unbound user gets %s, want 403", resp.Status)
		}
	})
	t.Run("malformed requirements are refused", func(t *testing.T) {
		for _, target := range []string{
			";", ";/", ";x=1/", ";app/", ";app=/", ";app=a;app=b/", ";bound=1/", ";aud=a&app=b&app=c/orders;", ";;app=" + sessiontest.AppID + "/",
			";app=" + sessiontest.AppID + "?bound=required",
		} {
			resp := g.ask(t, http.MethodGet, "/v1/verify"+target, token, nil)
			// An audience may be any text; this token is not for that one.
			if want := http.StatusBadRequest; resp.StatusCode != want && (resp.StatusCode != http.StatusUnauthorized || !strings.Contains(target, "aud=")) {
				t.Errorf("%s: got %s, want %d", target, resp.Status, want)
			}
		}
	})
	t.Run("the proxy must name an app or an audience when there are several apps", func(t *testing.T) {
		g := newGuarded(t, "")
		g.apps.several = true
		token := g.Login("bob").AccessToken.Reveal()
		for target, want := range map[string]int{
			"/v1/verify/orders": 400, "/v1/verify/orders?app=" + sessiontest.AppID: 400, "/v1/verify/;app=" + sessiontest.AppID + "/": 400,
			"/v1/verify;app=" + sessiontest.AppID + "/orders": 200, "/v1/verify;app=" + sessiontest.AppID: 200,
		} {
			if resp := g.ask(t, http.MethodGet, target, token, nil); resp.StatusCode != want {
				t.Errorf("%s: got %s, want %d", target, resp.Status, want)
			}
		}
	})
	t.Run("paths that only look similar are not found", func(t *testing.T) {
		for _, target := range []string{"/v1/verifyx", "/v1/verify%2F", "/v1/verify%3Bapp=x", "/v1/verif", "/v1/verify-/orders"} {
			if resp := g.ask(t, http.MethodGet, target, token, nil); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s: got %s, want 404", target, resp.Status)
			}
		}
	})
}
