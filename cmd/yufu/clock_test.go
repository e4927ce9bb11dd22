package main

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
)

// aheadStore is a database whose clock is ahead of this machine's. A replica sees the same if
// its own clock is behind.
type aheadStore struct {
	store
	by time.Duration
}

func (s aheadStore) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	b, err := s.store.Cutoffs(ctx, after, limit)
	b.Now = b.Now.Add(s.by)
	return b, err
}

func (s aheadStore) Now(ctx context.Context) (time.Time, error) {
	at, err := s.store.Now(ctx)
	return at.Add(s.by), err
}

func TestReplicaClock(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	right := d.serve(t, d.store)

	for name, by := range map[string]time.Duration{"1h0m0s behind": time.Hour, "1h0m0s ahead of": -time.Hour} {
		wrong := d.serve(t, aheadStore{d.store, by})
		reason := "this machine's clock is " + name + " the database's; synchronise both with NTP"
		if status, body := wrong.get(wrong.admin + "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, reason) {
			t.Errorf("/readyz answers %d %s, want 503 with %q", status, body, reason)
		}
		_, metrics := wrong.get(wrong.admin + "/metrics")
		_, offset, _ := strings.Cut(metrics, "\nyufu_clock_offset_seconds ")
		offset, _, _ = strings.Cut(offset, "\n")
		if got, err := strconv.ParseFloat(offset, 64); err != nil || math.Abs(got+by.Seconds()) > 10 {
			t.Errorf("yufu_clock_offset_seconds is %q, want about %v", offset, -by.Seconds())
		}
		// A load balancer may send requests without asking /readyz.
		code := d.sim.NewCode("alice")
		if _, body := wrong.token(http.StatusServiceUnavailable, "grant_type", oauth.GrantMiniProgramCode, "code", code); !strings.Contains(body, string(auth.StorageUnavailable)) {
			t.Errorf("a log-in answers %s, want storage_unavailable", body)
		}
		first, _ := right.token(http.StatusOK, "grant_type", oauth.GrantMiniProgramCode, "code", code)
		second, _ := right.token(http.StatusOK, "grant_type", oauth.GrantRefreshToken, "refresh_token", first)
		for _, token := range []string{first, second} { // a repeat within the grace, and a refresh
			if _, body := wrong.token(http.StatusServiceUnavailable, "grant_type", oauth.GrantRefreshToken, "refresh_token", token); !strings.Contains(body, string(auth.StorageUnavailable)) {
				t.Errorf("a refresh answers %s, want storage_unavailable", body)
			}
		}
		third, _ := right.token(http.StatusOK, "grant_type", oauth.GrantRefreshToken, "refresh_token", second)
		// A log-out works, because it issues no token.
		if status, body := wrong.post("/oauth2/revoke", url.Values{"client_id": {devAppID}, "token": {third}}); status != http.StatusOK {
			t.Errorf("a log-out answers %d %s, want 200", status, body)
		}
		if _, body := right.token(http.StatusBadRequest, "grant_type", oauth.GrantRefreshToken, "refresh_token", third); !strings.Contains(body, string(auth.SessionRevoked)) {
			t.Errorf("a refresh after the log-out answers %s, want session_revoked", body)
		}
	}
	if status, body := right.get(right.admin + "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz of the other replica answers %d %s, want 200", status, body)
	}
}

func TestStopEarly(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	p := d.parts(t, d.store)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := serve(ctx, p); err != nil {
		t.Errorf("serve() error = %v, want none", err)
	}
}

func TestCommandClock(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	before := time.Now().Add(3*time.Hour - time.Second)
	event, err := cliEvent(t.Context(), aheadStore{d.store, 3 * time.Hour}, auth.AuditAppDisabled, devAppID, "")
	if err != nil || event.At.Before(before) || event.At.After(before.Add(time.Minute)) {
		t.Errorf("cliEvent() = event at %v, error %v; want a time shortly after %v", event.At, err, before)
	}
}
