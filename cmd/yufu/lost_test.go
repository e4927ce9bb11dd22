package main

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// getAs is [served.get] with credentials, and returns the status.
func (s *served) getAs(address, credentials string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
	if err == nil {
		req.Header.Set("Authorization", "Bearer "+credentials)
	}
	status, _ := s.do(req, err)
	return status
}

// A replica whose database lost revocations that no replica remembers accepts no token
// and hands out no revocations and no keys, even if a load balancer does not ask /readyz.
func TestReplicaThatLacksRevocations(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "yufu.db")
	db, err := openServing(t.Context(), setting.Database{Setting: "a test", SQLitePath: path}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	sealer, err := seal.ParseRing(seal.GenerateFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := ensureApp(t.Context(), db, sealer, devAppID, []byte(devSecret), now()); err != nil {
		t.Fatal(err)
	}
	draft, err := servicekey.NewDraft("orders", []string{"service"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := servicekey.Create(t.Context(), db, db, draft, auth.AuditEvent{At: now(), Actor: auth.ActorCLI})
	if err != nil {
		t.Fatal(err)
	}
	sim := wechatsim.New(wechatsim.Config{})
	weChat := httptest.NewServer(sim.Handler())
	t.Cleanup(weChat.Close)

	whole := serveOn(t, db, sealer, weChat.URL)
	refresh, body := whole.token(http.StatusOK, "grant_type", oauth.GrantMiniProgramCode, "code", sim.NewCode("alice"))
	var tokens struct {
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &tokens); err != nil {
		t.Fatal(err)
	}
	want := func(s *served, verify, feed int) {
		t.Helper()
		if got := s.getAs(s.public+"/v1/verify?app="+devAppID, tokens.Access); got != verify {
			t.Errorf("forward-auth answers %d, want %d", got, verify)
		}
		if got := s.getAs(s.public+"/v1/revocations", key.Key().Reveal()); got != feed {
			t.Errorf("the feed answers %d, want %d", got, feed)
		}
		if got, _ := s.get(s.public + "/.well-known/jwks.json"); got != feed {
			t.Errorf("the JWK set: %d, want %d", got, feed)
		}
	}
	want(whole, http.StatusOK, http.StatusOK)
	if status, body := whole.post("/oauth2/revoke", url.Values{"client_id": {devAppID}, "token": {refresh}}); status != http.StatusOK {
		t.Fatal(status, body)
	}
	want(whole, http.StatusUnauthorized, http.StatusOK)

	raw, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, lose := range []string{
		`delete from cutoffs`, `update sessions set ended_at = null, end_reason = null`, `update deployment set history = 'another'`,
	} {
		if _, err := raw.ExecContext(t.Context(), lose); err != nil {
			t.Fatal(err)
		}
	}
	lacking := serveOn(t, db, sealer, weChat.URL)
	want(lacking, http.StatusServiceUnavailable, http.StatusServiceUnavailable)

	if _, err := db.EndEverything(t.Context(), auth.AuditEvent{At: now(), Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, now()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if status, _ := lacking.get(lacking.admin + "/readyz"); status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not ready after everything ended")
		}
	}
	want(lacking, http.StatusUnauthorized, http.StatusOK)
}
