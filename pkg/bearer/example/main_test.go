package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

const (
	alice  = "01900000-0000-7c00-8000-00000000000b"
	bob    = "01900000-0000-7c00-8000-00000000000c"
	person = "01900000-0000-7c00-8000-00000000000d"
)

func ask(t *testing.T, h http.Handler, method, path, token, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// TestShop shows how a back end tests with the double: without waiting, because the
// verifier reads the double's memory.
func TestShop(t *testing.T) {
	t.Parallel()
	yufu := bearertest.New(t)
	shop := newShop(yufu.Verifier())
	session := bearertest.UUID()
	hers := yufu.Token(bearer.Claims{Subject: alice, Session: session})
	bobs := yufu.Token(bearer.Claims{Subject: bob, Person: person})

	if status, body := ask(t, shop, "POST", "/orders", hers, `{"item":"tea"}`); status != 201 {
		t.Errorf("placing an order: status and body = %d %s", status, body)
	}
	if status, body := ask(t, shop, "POST", "/orders", hers, `{}`); status != 400 {
		t.Errorf("placing nothing: status and body = %d %s", status, body)
	}
	var list orderList
	status, body := ask(t, shop, "GET", "/orders", hers, "")
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != 200 || list.UUID != alice || list.Session != session || list.Bound || len(list.Orders) != 1 {
		t.Errorf("Alice's orders: status and body = %d %s", status, body)
	}
	if status, body := ask(t, shop, "GET", "/orders", bobs, ""); status != 200 || strings.Contains(body, "tea") || !strings.Contains(body, person) {
		t.Errorf("Bob's orders: status and body = %d %s", status, body)
	}
	if status, body := ask(t, shop, "GET", "/salary", hers, ""); status != 403 || !strings.Contains(body, "person_required") {
		t.Errorf("Alice's salary: status and body = %d %s", status, body)
	}
	if status, body := ask(t, shop, "GET", "/salary", bobs, ""); status != 200 || !strings.Contains(body, person) {
		t.Errorf("Bob's salary: status and body = %d %s", status, body)
	}
	other := yufu.Token(bearer.Claims{App: "wxother", Person: person})
	if status, body := ask(t, shop, "GET", "/salary", other, ""); status != 401 || strings.Contains(body, person) {
		t.Errorf("the same person's salary through another app: status and body = %d %s", status, body)
	}
	yufu.RevokeSession(session)
	if status, body := ask(t, shop, "GET", "/orders", hers, ""); status != 401 || !strings.Contains(body, "session_revoked") {
		t.Errorf("after the session was revoked: status and body = %d %s", status, body)
	}
	yufu.SetAge(time.Minute)
	if status, body := ask(t, shop, "GET", "/orders", bobs, ""); status != 503 || !strings.Contains(body, "stale") {
		t.Errorf("with stale revocation data: status and body = %d %s", status, body)
	}
	if status, _ := ask(t, shop, "GET", "/readyz", "", ""); status != 503 {
		t.Errorf("readiness with stale revocation data: status = %d", status)
	}
}

// TestRun runs the whole program, which follows the double over HTTP.
func TestRun(t *testing.T) {
	t.Parallel()
	yufu := bearertest.New(t)
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(bearertest.ServiceKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"YUFU_ISSUER": yufu.URL, "YUFU_SERVICE_KEY_FILE": keyFile}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"--listen", "127.0.0.1:0"}, func(name string) string { return env[name] }, in, io.Discard)
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "orders: listening on ")
	if err != nil || !ok {
		t.Fatalf("run() printed %q (read error %v) and returned %v", line, err, <-done)
	}
	session := bearertest.UUID()
	token := yufu.Token(bearer.Claims{Session: session})
	get := func() int {
		r, err := http.NewRequest(http.MethodGet, address+"/orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if status := get(); status != 200 {
		t.Errorf("a good token: status = %d", status)
	}
	yufu.RevokeSession(session)
	for deadline := time.Now().Add(20 * time.Second); get() != 401; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the revoked token is still accepted")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	key := map[string]string{"YUFU_SERVICE_KEY": "yfk_a_b", "YUFU_URL": "http://yufu:8080", "YUFU_AUDIENCE": "shop", "YUFU_ISSUER": "https://auth.example.com", "YUFU_APPS": "wx1,wx2"}
	cfg, listen, err := settings([]string{"--audience", "orders", "--max-staleness", "5s"}, func(name string) string { return key[name] }, io.Discard)
	if err != nil || listen != "127.0.0.1:8090" || cfg.ServiceKey != "yfk_a_b" || cfg.URL != "http://yufu:8080" || cfg.Audience != "orders" || cfg.Issuer != "https://auth.example.com" || cfg.MaxStaleness != 5*time.Second || cfg.UnsafePlainHTTP || !slices.Equal(cfg.Apps, []string{"wx1", "wx2"}) {
		t.Errorf("settings() = %+v, %s, %v", cfg, listen, err)
	}
	none := func(string) string { return "" }
	if _, _, err := settings(nil, none, io.Discard); err == nil {
		t.Error("settings() without a service key and --offline: error = nil, want an error")
	}
	if _, _, err := settings([]string{"--offline"}, none, io.Discard); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"--nonsense"}, {"extra"}, {"--service-key-file", "does/not/exist"}} {
		if _, _, err := settings(args, none, io.Discard); err == nil {
			t.Errorf("settings(%q) error = nil, want an error", args)
		}
	}
}
