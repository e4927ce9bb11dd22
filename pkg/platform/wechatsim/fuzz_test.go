package wechatsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzControls checks that a control answers any request in JSON, and never stores an
// invalid fault.
func FuzzControls(f *testing.F) {
	s := New(Config{Now: newClock().now})
	f.Fuzz(func(t *testing.T, path, body string) {
		if !strings.HasPrefix(path, "/sim/") {
			path = "/sim/faults"
		}
		s.ClearFaults()
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.URL.Path, r.Host = path, "127.0.0.1:8082"
		r.Header.Set("Content-Type", "application/json")
		s.Handler().ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
		default:
			t.Fatalf("%s %q: status and body = %d %s, want 200, 400, 404 or 405", path, body, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) || bytes.Count(w.Body.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("%s %q: not one line of JSON: %q", path, body, w.Body)
		}
		if refused := strings.Contains(w.Body.String(), `"error":`); refused != (w.Code != http.StatusOK) {
			t.Fatalf("%s %q: status and body = %d %s, want an error only without 200", path, body, w.Code, w.Body)
		}
		for _, fault := range s.Faults() {
			if err := fault.check(); err != nil || w.Code != http.StatusOK {
				t.Fatalf("%s %q: %d, and the fault %+v waits: %v", path, body, w.Code, fault, err)
			}
		}
	})
}

// FuzzPlatform checks that the platform answers any request as WeChat does, with 200 and
// a JSON object, and that no request without a code of ours logs in.
func FuzzPlatform(f *testing.F) {
	s := New(Config{Now: newClock().now, Apps: map[string]string{appA: secret}})
	f.Fuzz(func(t *testing.T, path, query, body string, post bool) {
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/sim/") || path == "/" {
			path = "/sns/jscode2session"
		}
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
		r.URL.Path, r.URL.RawQuery = path, query
		s.Handler().ServeHTTP(w, r)
		var answer map[string]json.RawMessage
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s %s?%s %q: %d %q", method, path, query, body, w.Code, w.Body)
		}
		if _, key := answer["session_key"]; key {
			t.Fatalf("%s %s?%s %q logs in: %s", method, path, query, body, w.Body)
		}
		if token, ok := answer["access_token"]; ok && !strings.Contains(body, secret) {
			t.Fatalf("%s %s?%s %q gets the token %s", method, path, query, body, token)
		}
	})
}
