package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// aheadStore is a database whose clock is ahead of this machine's: for a replica, that
// is the same as a clock of its own that is behind.
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

// served is a whole service on listeners of its own.
type served struct {
	t             *testing.T
	public, admin string
}

// partsOn are those of a service on listeners of its own.
func partsOn(t *testing.T, s store, sealer *seal.Ring, wechatURL string) parts {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	keys, err := openKeys(t.Context(), s, sealer, masterKeySetting)
	check(err)
	facts, err := openFacts(t.Context(), s, sealer, masterKeySetting)
	check(err)
	hooks, err := webhookFlags{}.client(true)
	check(err)
	listen := func() net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		check(err)
		return l
	}
	return parts{
		log: slog.New(slog.DiscardHandler), store: s, sealer: sealer, keys: keys, facts: facts, webhooks: hooks, issuer: "https://auth.example.com",
		lifetimes: lifetimeFlags{
			AccessTokenTTL: 10 * time.Minute, RefreshGrace: time.Minute, SessionIdleTTL: 24 * time.Hour, MaxStaleness: 30 * time.Second,
			sessionMaxFlag: sessionMaxFlag{SessionMaxTTL: 48 * time.Hour},
		},
		rotation: keyring.DefaultPolicy, limits: limitFlags{PlatformConcurrency: 10, MaxConnections: 100},
		wechatURL: wechatURL, public: listen(), admin: listen(), grace: time.Second,
	}
}

// serveOn runs the service as yufu serve does, until the test ends.
func serveOn(t *testing.T, s store, sealer *seal.Ring, wechatURL string) *served {
	t.Helper()
	p := partsOn(t, s, sealer, wechatURL)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, p) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve() error = %v", err)
		}
	})
	return &served{t, "http://" + p.public.Addr().String(), "http://" + p.admin.Addr().String()}
}

// do makes a request and returns the answer's status and body.
func (s *served) do(req *http.Request, err error) (int, string) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (s *served) get(address string) (int, string) {
	s.t.Helper()
	return s.do(http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil))
}

func (s *served) post(path string, form url.Values) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.public+path, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return s.do(req, err)
}

// token asks for tokens, and returns the refresh token.
func (s *served) token(want int, form ...string) (refresh, body string) {
	s.t.Helper()
	v := url.Values{"client_id": {devAppID}}
	for i := 0; i < len(form); i += 2 {
		v.Set(form[i], form[i+1])
	}
	status, body := s.post("/oauth2/token", v)
	if status != want {
		s.t.Fatalf("%s: %d %s, want %d", form[1], status, body, want)
	}
	var tokens struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(body), &tokens); err != nil {
		s.t.Fatal(err)
	}
	return tokens.Refresh, body
}

func TestReplicaWithItsClockOff(t *testing.T) {
	t.Parallel()
	db, err := openServing(t.Context(), setting.Database{Setting: "a test", SQLitePath: filepath.Join(t.TempDir(), "yufu.db")}, true)
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
	sim := wechatsim.New(wechatsim.Config{})
	weChat := httptest.NewServer(sim.Handler())
	t.Cleanup(weChat.Close)
	right := serveOn(t, db, sealer, weChat.URL)

	for name, by := range map[string]time.Duration{"1h0m0s behind": time.Hour, "1h0m0s ahead of": -time.Hour} {
		wrong := serveOn(t, aheadStore{db, by}, sealer, weChat.URL)
		reason := "this machine's clock is " + name + " the database's; let NTP set both"
		if status, body := wrong.get(wrong.admin + "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, reason) {
			t.Errorf("/readyz answers %d %s, want 503 with %q", status, body, reason)
		}
		_, metrics := wrong.get(wrong.admin + "/metrics")
		_, offset, _ := strings.Cut(metrics, "\nyufu_clock_offset_seconds ")
		offset, _, _ = strings.Cut(offset, "\n")
		if got, err := strconv.ParseFloat(offset, 64); err != nil || math.Abs(got+by.Seconds()) > 10 {
			t.Errorf("yufu_clock_offset_seconds is %q, want about %v", offset, -by.Seconds())
		}
		// The load balancer does not ask /readyz.
		code := sim.NewCode("alice")
		if _, body := wrong.token(http.StatusServiceUnavailable, "grant_type", oauth.GrantMiniProgramCode, "code", code); !strings.Contains(body, string(auth.StorageUnavailable)) {
			t.Errorf("a log-in: %s, want storage_unavailable", body)
		}
		first, _ := right.token(http.StatusOK, "grant_type", oauth.GrantMiniProgramCode, "code", code)
		second, _ := right.token(http.StatusOK, "grant_type", oauth.GrantRefreshToken, "refresh_token", first)
		for _, token := range []string{first, second} { // a repeat, which is no late one, and a refresh
			if _, body := wrong.token(http.StatusServiceUnavailable, "grant_type", oauth.GrantRefreshToken, "refresh_token", token); !strings.Contains(body, string(auth.StorageUnavailable)) {
				t.Errorf("a refresh: %s, want storage_unavailable", body)
			}
		}
		third, _ := right.token(http.StatusOK, "grant_type", oauth.GrantRefreshToken, "refresh_token", second)
		// A log-out is no grant.
		if status, body := wrong.post("/oauth2/revoke", url.Values{"client_id": {devAppID}, "token": {third}}); status != http.StatusOK {
			t.Errorf("a log-out: %d %s, want 200", status, body)
		}
		if _, body := right.token(http.StatusBadRequest, "grant_type", oauth.GrantRefreshToken, "refresh_token", third); !strings.Contains(body, string(auth.SessionRevoked)) {
			t.Errorf("a refresh after the log-out: %s, want session_revoked", body)
		}
	}
	if status, body := right.get(right.admin + "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz of the other replica answers %d %s, want 200", status, body)
	}
}

func TestStopBeforeItServes(t *testing.T) {
	t.Parallel()
	db, err := openServing(t.Context(), setting.Database{Setting: "a test", SQLitePath: filepath.Join(t.TempDir(), "yufu.db")}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	sealer, err := seal.ParseRing(seal.GenerateFile())
	if err != nil {
		t.Fatal(err)
	}
	p := partsOn(t, db, sealer, "http://127.0.0.1:1")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := serve(ctx, p); err != nil {
		t.Errorf("serve() error = %v, want none", err)
	}
	for _, l := range []net.Listener{p.public, p.admin} {
		_ = l.Close() // if it did not come so far
	}
}

func TestCommandsWriteByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	db, err := openStore(t.Context(), setting.Database{Setting: "a test", SQLitePath: filepath.Join(t.TempDir(), "yufu.db")}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	before := time.Now().Add(3*time.Hour - time.Second)
	event, err := cliEvent(t.Context(), aheadStore{db, 3 * time.Hour}, auth.AuditAppDisabled, devAppID, "")
	if err != nil || event.At.Before(before) || event.At.After(before.Add(time.Minute)) {
		t.Errorf("the event is of %v, %v; want about %v", event.At, err, before)
	}
}
