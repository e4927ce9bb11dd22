package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// testDeployment is a new SQLite database with the app of yufu dev, and a simulated
// WeChat.
type testDeployment struct {
	path   string
	store  store
	sealer *seal.Ring
	sim    *wechatsim.Simulator
	weChat string
}

func newDeployment(t *testing.T) *testDeployment {
	t.Helper()
	d := &testDeployment{path: filepath.Join(t.TempDir(), "yufu.db"), sim: wechatsim.New(wechatsim.Config{})}
	var err error
	if d.sealer, err = seal.ParseRing(seal.GenerateFile()); err != nil {
		t.Fatal(err)
	}
	if d.store, err = openStoreToServe(t.Context(), setting.Database{Setting: "a test", SQLitePath: d.path}, d.sealer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.store.Close)
	secret := auth.Secret(devSecret)
	apps := app.NewService(app.Config{Store: d.store, Sealer: d.sealer, Clock: d.store.Now})
	if err := ensureApp(t.Context(), apps, devAppID, &secret); err != nil {
		t.Fatal(err)
	}
	weChat := httptest.NewServer(d.sim.Handler())
	t.Cleanup(weChat.Close)
	d.weChat = weChat.URL
	return d
}

// served is a complete service on listeners of its own.
type served struct {
	t             *testing.T
	public, admin string
}

// parts returns the parts of a service over the store, on listeners of its own.
func (d *testDeployment) parts(t *testing.T, s store) parts {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hooks, err := setting.Webhooks{}.Client(true)
	check(err)
	listen := func() net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		check(err)
		t.Cleanup(func() { _ = l.Close() }) // the server closes it first, if it ran
		return l
	}
	return parts{
		log: slog.New(slog.DiscardHandler), store: s, sealer: d.sealer, masterKey: setting.MasterKeyName, webhooks: hooks, issuer: "https://auth.example.com",
		lifetimes: setting.Lifetimes{
			AccessTokenTTL: 10 * time.Minute, RefreshGrace: time.Minute, SessionIdleTTL: 24 * time.Hour, MaxStaleness: 30 * time.Second,
			SessionMax: setting.SessionMax{SessionMaxTTL: 48 * time.Hour},
		},
		rotation: keyring.DefaultPolicy, limits: setting.Limits{PlatformConcurrency: 10, MaxConnections: 100},
		wechatURL: d.weChat, public: listen(), admin: listen(), grace: time.Second,
	}
}

// serve runs the service over the store as yufu serve does, until the test ends.
func (d *testDeployment) serve(t *testing.T, s store) *served {
	t.Helper()
	p := d.parts(t, s)
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
		s.t.Fatalf("/oauth2/token with %s answers %d %s, want %d", form[1], status, body, want)
	}
	var tokens struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(body), &tokens); err != nil {
		s.t.Fatal(err)
	}
	return tokens.Refresh, body
}

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
