package bearer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

// logBuffer holds the log of a verifier.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func wantOtherApp(t *testing.T, v *bearer.Verifier, token string) {
	t.Helper()
	wantError(t, v, token, bearer.ErrInvalid)
	if _, err := v.Verify(context.Background(), token); !errors.Is(err, bearer.ErrOtherApp) {
		t.Errorf("Verify() error = %v, want ErrOtherApp", err)
	}
}

// TestApps checks which apps' tokens a verifier accepts. The issuer is in every token's
// aud, and a person is the same in every app.
func TestApps(t *testing.T) {
	t.Parallel()
	const other = "wxother"
	mine := func(yufu *bearertest.Server) string { return yufu.Token(bearer.Claims{Person: person}) }
	foreign := func(yufu *bearertest.Server) string { return yufu.Token(bearer.Claims{App: other, Person: person}) }
	t.Run("without audience and apps only the pinned app is accepted", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		for _, audience := range []string{"", yufu.URL} {
			cfg := yufu.Config()
			cfg.Audience = audience // the issuer does not count as an audience
			v := start(t, cfg, bearer.Tuning{})
			wantGood(t, v, mine(yufu))
			wantOtherApp(t, v, foreign(yufu))
			if err := v.Ready(); err != nil {
				t.Errorf("Ready() = %v, want nil", err)
			}
		}
		wantOtherApp(t, yufu.Verifier(), foreign(yufu))
	})
	t.Run("a new pin takes effect, for cached tokens too", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		v := start(t, yufu.Config(), bearer.Tuning{})
		a, b := mine(yufu), foreign(yufu)
		wantGood(t, v, a)
		yufu.PinApp(other)
		eventually(t, v, b, nil)
		wantOtherApp(t, v, a)
	})
	t.Run("a key without a pin refuses every token and logs why", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		yufu.PinApp("")
		log := &logBuffer{}
		cfg := yufu.Config()
		cfg.Logger, cfg.UnsafeAcceptStale = log.logger(), true
		v := start(t, cfg, bearer.Tuning{})
		wantError(t, v, mine(yufu), bearer.ErrMisconfigured)
		if err := v.Ready(); !errors.Is(err, bearer.ErrMisconfigured) {
			t.Errorf("Ready() = %v, want ErrMisconfigured", err)
		}
		if got := log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "not pinned to an app") {
			t.Errorf("the log has no reason:\n%s", got)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+mine(yufu))
		w := httptest.NewRecorder()
		v.Require(http.NotFoundHandler()).ServeHTTP(w, r)
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"code":"internal"`) {
			t.Errorf("Require() status and body = %d %s, want 500 internal", w.Code, w.Body)
		}
		yufu.PinApp(bearertest.App)
		eventually(t, v, mine(yufu), nil)
		if err := v.Ready(); err != nil {
			t.Errorf("Ready() = %v, want nil", err)
		}
	})
	t.Run("no token is accepted before the service has named the pin", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, func(c *conn) { c.w.WriteHeader(http.StatusBadGateway) })
		s.cfg.UnsafeAcceptStale = true
		v := start(t, s.cfg, bearer.Tuning{Wait: soon})
		wantError(t, v, mine(s.yufu), bearer.ErrStale)
		if err := v.Ready(); !errors.Is(err, bearer.ErrStale) {
			t.Errorf("Ready() = %v, want ErrStale", err)
		}
	})
	for name, c := range map[string]struct {
		audience string
		apps     []string
		good     []bearer.Claims
		other    []bearer.Claims // of an app that is not accepted
		invalid  []bearer.Claims
	}{
		"apps": {
			"", []string{other, "wxmore"},
			[]bearer.Claims{{App: other}, {App: "wxmore"}}, []bearer.Claims{{}, {App: "wxmor"}}, nil,
		},
		"an audience": {
			"shop", nil,
			[]bearer.Claims{{Audience: []string{"shop"}}, {App: other, Audience: []string{"shop"}}}, nil,
			[]bearer.Claims{{}, {App: other}},
		},
		"both": {
			"shop", []string{other},
			[]bearer.Claims{{App: other, Audience: []string{"shop"}}},
			[]bearer.Claims{{Audience: []string{"shop"}}}, []bearer.Claims{{App: other}},
		},
	} {
		t.Run("tokens must satisfy "+name+" regardless of the pin", func(t *testing.T) {
			t.Parallel()
			yufu := bearertest.New(t)
			yufu.PinApp("")
			cfg := yufu.Config()
			cfg.Audience, cfg.Apps = c.audience, c.apps
			offline := cfg
			offline.ServiceKey = ""
			for _, cfg := range []bearer.Config{cfg, offline} {
				v := start(t, cfg, bearer.Tuning{})
				if err := v.Ready(); err != nil {
					t.Errorf("Ready() = %v, want nil", err)
				}
				for _, claims := range c.good {
					wantGood(t, v, yufu.Token(claims))
				}
				for _, claims := range c.other {
					wantOtherApp(t, v, yufu.Token(claims))
				}
				for _, claims := range c.invalid {
					wantError(t, v, yufu.Token(claims), bearer.ErrInvalid)
				}
			}
		})
	}
	t.Run("tokens of an app outside the key's restriction are refused", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		yufu.RestrictKey(bearertest.App, "wxmore")
		log := &logBuffer{}
		cfg := yufu.Config()
		cfg.Audience, cfg.Logger = "shop", log.logger()
		shop := func(app string) string {
			return yufu.Token(bearer.Claims{App: app, Audience: []string{"shop"}})
		}
		v := start(t, cfg, bearer.Tuning{})
		wantGood(t, v, shop(bearertest.App))
		wantGood(t, v, shop("wxmore"))
		wantOtherApp(t, v, shop(other))
		cfg.Apps = []string{other, "wxmore"}
		v = start(t, cfg, bearer.Tuning{})
		wantGood(t, v, shop("wxmore"))
		wantOtherApp(t, v, shop(other))
		if got := log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "app="+other) {
			t.Errorf("the log does not name the app that is not covered:\n%s", got)
		}
		yufu.RestrictKey()
		eventually(t, v, shop(other), nil)
	})
	t.Run("a local verifier has apps too", func(t *testing.T) {
		t.Parallel()
		wantGood(t, local(t, nil), forgery{}.make(t))
		v := local(t, func(l *bearer.Local) { l.Apps = []string{other} })
		wantOtherApp(t, v, forgery{}.make(t))
		wantGood(t, v, forgery{claims: map[string]any{"client_id": other}}.make(t))
		if _, err := bearer.NewLocal(bearer.Local{Issuer: issuer, Keys: keys.find, Apps: []string{""}}); err == nil {
			t.Error("NewLocal() accepted an empty appid")
		}
	})
}
