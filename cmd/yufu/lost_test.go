package main

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// TestReplicaThatLacksRevocations checks that a replica accepts no token and publishes no
// revocations and no keys if its database lost revocations that no replica remembers: a load
// balancer may not ask /readyz.
func TestReplicaThatLacksRevocations(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	db := d.store
	draft, err := servicekey.NewDraft("orders", []string{"service"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := servicekey.Create(t.Context(), db, db, draft, auth.AuditEvent{At: now(), Actor: auth.ActorCLI})
	if err != nil {
		t.Fatal(err)
	}
	whole := d.serve(t, db)
	refresh, body := whole.token(http.StatusOK, "grant_type", oauth.GrantMiniProgramCode, "code", d.sim.NewCode("alice"))
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
			t.Errorf("the JWK set answers %d, want %d", got, feed)
		}
	}
	want(whole, http.StatusOK, http.StatusOK)
	if status, body := whole.post("/oauth2/revoke", url.Values{"client_id": {devAppID}, "token": {refresh}}); status != http.StatusOK {
		t.Fatalf("the log-out answers %d %s, want 200", status, body)
	}
	want(whole, http.StatusUnauthorized, http.StatusOK)

	raw, err := sql.Open("sqlite", "file:"+d.path+"?_pragma=busy_timeout(10000)")
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
	lacking := d.serve(t, db)
	want(lacking, http.StatusServiceUnavailable, http.StatusServiceUnavailable)

	if _, err := db.EndEverything(t.Context(), auth.AuditEvent{At: now(), Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, now()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if status, _ := lacking.get(lacking.admin + "/readyz"); status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the replica is not ready a minute after all sessions and keys ended")
		}
	}
	want(lacking, http.StatusUnauthorized, http.StatusOK)
}
