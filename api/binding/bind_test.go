package binding_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// binding sends a request to /v1/binding, with rest appended to the URL.
func (w *world) binding(t *testing.T, method, rest string, token auth.Secret, contentType, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+"/v1/binding"+rest, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (w *world) post(t *testing.T, token auth.Secret, body string) answer {
	t.Helper()
	return w.binding(t, http.MethodPost, "", token, "application/json", body)
}

// want fails the test unless the answer has the status and the code.
func (a answer) want(t *testing.T, status int, code string) answer {
	t.Helper()
	if a.Status != status || code != "" && a.members(t)["code"] != code {
		t.Errorf("got %d %s; want %d %s", a.Status, a.Body, status, code)
	}
	return a
}

const byFacts = `{"method":"facts","fields":{"employee_no":"1001","name":"李雷"}}`

func TestBind(t *testing.T) {
	t.Parallel()
	t.Run("binding and unbinding answer with the person and a new token, not cacheable", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.post(t, w.Login("alice").AccessToken, byFacts).want(t, 200, "")
		apitest.SameMembers(t, "bound", []byte(a.Body))
		if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("headers = %v, want no-store and application/json", a.Header)
		}
		m := a.members(t)
		if d := cmp.Diff(map[string]any{"id": w.bindings.LiLei.ID.String(), "external_id": "1001", "name": "李雷"}, m["person"]); d != "" {
			t.Errorf("mismatch (-want +got):\n%s", d)
		}
		token := auth.Secret(m["access_token"].(string))
		w.me(t, token).want(t, 200, "")
		free := w.binding(t, http.MethodDelete, "", token, "", "").want(t, 200, "")
		apitest.SameMembers(t, "unbound", []byte(free.Body))
		w.me(t, token).want(t, 401, "session_revoked")
		again := w.binding(t, http.MethodDelete, "", auth.Secret(free.members(t)["access_token"].(string)), "", "").want(t, 200, "")
		apitest.SameMembers(t, "unbound-unchanged", []byte(again.Body))
	})
	t.Run("the allowed methods are shown", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		p := bindingtest.Policy()
		p.Methods = []auth.BindingMethod{auth.BindFacts, auth.BindTicket}
		w.bindings.SetPolicy(p)
		apitest.SameMembers(t, "binding", []byte(w.binding(t, http.MethodGet, "", token, "", "").want(t, 200, "").Body))
	})
	t.Run("a ticket is previewed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		preview := func(token auth.Secret, body string) answer {
			t.Helper()
			return w.binding(t, http.MethodPost, "/preview", token, "application/json", body)
		}
		ticket := w.bindings.Ticket(w.bindings.LiLei).Reveal()
		a := preview(token, `{"ticket":"`+ticket+`"}`).want(t, 200, "")
		apitest.SameMembers(t, "ticketpreview", []byte(a.Body))
		if d := cmp.Diff(map[string]any{"name": "李*", "expires_at": "2026-07-01T12:10:00Z"}, a.members(t)); d != "" {
			t.Errorf("mismatch (-want +got):\n%s", d)
		}
		if a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control = %q, want no-store", a.Header.Get("Cache-Control"))
		}
		for _, body := range []string{`{}`, `{"ticket":""}`, `{"ticket":"x"}`, `{"ticket":"` + ticket + `A"}`} {
			preview(token, body).want(t, 422, "ticket_invalid")
		}
		for _, body := range []string{``, `[]`, `{"ticket":1}`, `{"ticket":"x","ticket":"x"}`, `{"ticket":"x","method":"ticket"}`} {
			preview(token, body).want(t, 400, "invalid_request")
		}
		preview("", `{"ticket":"x"}`).want(t, 401, "token_missing")
		preview("x", `{"ticket":"x"}`).want(t, 401, "token_invalid")
		w.binding(t, http.MethodPost, "/preview", token, "text/plain", `{"ticket":"x"}`).want(t, 415, "unsupported_media_type")
		w.binding(t, http.MethodGet, "/preview", token, "", "").want(t, 405, "method_not_allowed")
		p := bindingtest.Policy()
		p.Methods = []auth.BindingMethod{auth.BindFacts}
		w.bindings.SetPolicy(p)
		preview(token, `{"ticket":"`+ticket+`"}`).want(t, 403, "binding_method_disabled")
	})
	t.Run("a ticket or a code in the URL is refused by name and not repeated", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token, ticket := w.Login("alice").AccessToken, w.bindings.Ticket(w.bindings.LiLei).Reveal()
		for _, name := range []string{"ticket", "code"} {
			for _, query := range []string{"?" + name + "=" + ticket, "?x=1&" + name + "=" + ticket, "?" + name + "=", "?" + name + "=" + ticket + "&" + name + "=" + ticket} {
				for rest, method := range map[string]string{"": http.MethodGet, "/preview": http.MethodPost} {
					a := w.binding(t, method, rest+query, token, "application/json", `{"ticket":"`+ticket+`"}`).want(t, 400, "invalid_request")
					if detail, _ := a.members(t)["detail"].(string); !strings.Contains(detail, name) || strings.Contains(a.Body, ticket) {
						t.Errorf("%s %s%s: body = %s, want a detail that names %s, without the ticket", method, rest, query, a.Body, name)
					}
				}
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			w.binding(t, method, "?ticket="+ticket, token, "application/json", byFacts).want(t, 400, "invalid_request")
		}
		if s, err := w.Service.Authenticate(t.Context(), token); err != nil || s.Bound() {
			t.Errorf("bound %t, error %v after refusals", s.Bound(), err)
		}
	})
	t.Run("each refusal has its code", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.Login("alice")
		apitest.SameMembers(t, "problem-binding_no_match", []byte(w.post(t, g.AccessToken, strings.Replace(byFacts, "李雷", "韩梅梅", 1)).want(t, 422, "binding_no_match").Body))
		apitest.SameMembers(t, "problem-ticket_invalid", []byte(w.post(t, g.AccessToken, `{"method":"ticket","ticket":"x"}`).want(t, 422, "ticket_invalid").Body))
		w.bindings.AnswerWebhook(func(binding.Question) (binding.Answer, error) {
			return binding.Answer{}, &auth.Error{Code: auth.WebhookRefused, UserMessage: "该学号已毕业，请联系教务处。"}
		})
		apitest.SameMembers(t, "problem-webhook_refused", []byte(w.post(t, g.AccessToken, `{"method":"webhook","fields":{"a":"b"}}`).want(t, 403, "webhook_refused").Body))
		w.post(t, g.AccessToken, byFacts).want(t, 200, "")
		apitest.SameMembers(t, "problem-person_taken", []byte(w.post(t, w.Login("bob").AccessToken, byFacts).want(t, 409, "person_taken").Body))
		mallory := w.Login("mallory").AccessToken
		for i := range 5 {
			w.post(t, mallory, strings.Replace(byFacts, "1001", strconv.Itoa(i), 1)).want(t, 422, "binding_no_match")
		}
		delayed := w.post(t, mallory, byFacts).want(t, 429, "binding_delayed")
		apitest.SameMembers(t, "problem-binding_delayed", []byte(delayed.Body))
		if delayed.Header.Get("Retry-After") != "30" {
			t.Errorf("Retry-After %q", delayed.Header.Get("Retry-After"))
		}
		w.Clock.Advance(30 * time.Second)
		p := bindingtest.Policy()
		p.SelfUnbind, p.Methods = false, nil
		w.bindings.SetPolicy(p)
		w.post(t, mallory, byFacts).want(t, 403, "binding_method_disabled")
		w.binding(t, http.MethodDelete, "", mallory, "", "").want(t, 403, "unbind_forbidden")
	})
	t.Run("a request needs a valid token and one JSON object", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.Login("alice").AccessToken
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			w.binding(t, method, "", "", "application/json", byFacts).want(t, 401, "token_missing")
			w.binding(t, method, "", "x", "application/json", byFacts).want(t, 401, "token_invalid")
		}
		w.binding(t, http.MethodPost, "", token, "application/x-www-form-urlencoded", "method=facts").want(t, 415, "unsupported_media_type")
		w.post(t, token, byFacts+strings.Repeat(" ", 70<<10)).want(t, 413, "body_too_large")
		for _, body := range []string{``, `x`, `[]`, `{"method":"facts","method":"facts"}`, byFacts + byFacts, `{"method":"facts","password":"x"}`, `{"method":["facts"]}`} {
			w.post(t, token, body).want(t, 400, "invalid_request")
		}
		w.binding(t, http.MethodPut, "", token, "application/json", byFacts).want(t, 405, "method_not_allowed")
	})
}

// unread is a body that fails the test when it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a request without a valid token was read")
	return 0, io.EOF
}

func TestBodyWithoutValidToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.Login("alice")
	ended := w.Login("bob")
	if _, err := w.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: ended.RefreshToken}); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]auth.Secret{
		"no token": "", "a forged token": g.AccessToken[:len(g.AccessToken)-4] + "AAAA", "a refresh token": g.RefreshToken, "a token of an ended session": ended.AccessToken,
	} {
		for _, path := range []string{"/v1/binding", "/v1/binding/preview"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, unread{t})
			r.Header.Set("Content-Type", "application/json")
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token.Reveal())
			}
			got := httptest.NewRecorder()
			w.handler.ServeHTTP(got, r)
			if got.Code != http.StatusUnauthorized {
				t.Errorf("POST %s with %s: %d %s, want 401", path, name, got.Code, got.Body)
			}
		}
	}
}
