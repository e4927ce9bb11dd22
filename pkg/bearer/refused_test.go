package bearer_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

// misnamed is a double with any metadata.
func misnamed(t *testing.T) (yufu *bearertest.Server, url string, metadata *atomic.Pointer[string]) {
	t.Helper()
	yufu, metadata = bearertest.New(t), &atomic.Pointer[string]{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if said := metadata.Load(); said != nil && r.URL.Path == "/.well-known/oauth-authorization-server" {
			_, _ = w.Write([]byte(*said))
			return
		}
		yufu.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return yufu, server.URL, metadata
}

// TestIssuer checks that an issuer that differs from the service's is detected at the
// start.
func TestIssuer(t *testing.T) {
	t.Parallel()
	t.Run("an issuer that differs by a slash is logged as an error, and Ready fails", func(t *testing.T) {
		t.Parallel()
		yufu, url, _ := misnamed(t)
		log := &logBuffer{}
		cfg := yufu.Config()
		cfg.Issuer, cfg.URL, cfg.Logger = yufu.URL+"/", url, log.logger()
		v := start(t, cfg, bearer.Tuning{})
		if err := v.Ready(); !errors.Is(err, bearer.ErrMisconfigured) || !strings.Contains(err.Error(), `"`+yufu.URL+`"`) {
			t.Errorf("Ready() = %v, want ErrMisconfigured that names both issuers", err)
		}
		if got := log.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, "Config.Issuer") {
			t.Errorf("want one error about Config.Issuer in the log:\n%s", got)
		}
		wantError(t, v, yufu.Token(bearer.Claims{}), bearer.ErrInvalid)
	})
	t.Run("a corrected service makes the verifier ready", func(t *testing.T) {
		t.Parallel()
		yufu, url, metadata := misnamed(t)
		wrong := `{"issuer":"https://staging.example"}`
		metadata.Store(&wrong)
		cfg := yufu.Config()
		cfg.URL = url
		v := start(t, cfg, bearer.Tuning{Issuer: time.Millisecond})
		if err := v.Ready(); !errors.Is(err, bearer.ErrMisconfigured) {
			t.Errorf("Ready() = %v, want ErrMisconfigured", err)
		}
		metadata.Store(nil)
		until(t, func() string { return readiness(v) })
	})
	t.Run("unreadable metadata is ignored", func(t *testing.T) {
		t.Parallel()
		for _, said := range []string{"", "<html>", `{}`, `{"issuer":""}`, `{"issuer":7}`, strings.Repeat(" ", 1<<20) + `{"issuer":"x"}`} {
			yufu, url, metadata := misnamed(t)
			metadata.Store(&said)
			cfg := yufu.Config()
			cfg.URL = url
			v := start(t, cfg, bearer.Tuning{})
			wantGood(t, v, yufu.Token(bearer.Claims{}))
			if err := v.Ready(); err != nil {
				t.Errorf("metadata %.20q: Ready() = %v, want nil", said, err)
			}
		}
	})
}

func readiness(v *bearer.Verifier) string {
	if err := v.Ready(); err != nil {
		return err.Error()
	}
	return ""
}

// TestRefused checks that operators of a back end learn why tokens are refused, and that
// no token is reported.
func TestRefused(t *testing.T) {
	t.Parallel()
	type key struct{}
	yufu := bearertest.New(t)
	log, c := &logBuffer{}, clockAt(time.Now())
	var mu sync.Mutex
	var told []error
	cfg := yufu.Config()
	cfg.Audience, cfg.Logger = "shpo", log.logger()
	cfg.OnRefused = func(ctx context.Context, err error) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Value(key{}) != "mine" {
			t.Error("OnRefused got another context")
		}
		told = append(told, err)
	}
	v := start(t, cfg, bearer.Tuning{Clock: c.now})
	good := yufu.Token(bearer.Claims{Audience: []string{"shpo"}})
	wrong := yufu.Token(bearer.Claims{Audience: []string{"shop"}})
	expired := yufu.Token(bearer.Claims{Audience: []string{"shpo"}, ExpiresAt: c.now()})
	ctx := context.WithValue(context.Background(), key{}, "mine")
	ask := func(tokens ...string) (refused []error) {
		for _, token := range tokens {
			if _, err := v.Verify(ctx, token); err != nil {
				refused = append(refused, err)
			}
		}
		return refused
	}
	refused := ask(good, wrong, wrong, expired, "junk", wrong)
	mu.Lock()
	if len(refused) != 5 || !reflect.DeepEqual(told, refused) {
		t.Errorf("OnRefused got errors %v, want %v", told, refused)
	}
	told = nil
	mu.Unlock()
	lines := func(text string) int { return strings.Count(log.String(), text) }
	if n := lines(`level=WARN msg="access tokens refused"`); n != 1 || lines("another audience") != 1 {
		t.Errorf("%d warnings, want one that names the audience:\n%s", n, log)
	}
	if n := lines(`level=INFO msg="access tokens refused"`); n != 1 || lines("not a JWT") != 1 || lines("expired") != 0 {
		t.Errorf("%d lines about junk, want 1, and no line about expired tokens:\n%s", n, log)
	}
	// Within the minute there is no other line. The next one has the count.
	c.advance(59 * time.Second)
	ask(wrong)
	if n := lines("another audience"); n != 1 {
		t.Errorf("%d lines within a minute, want 1:\n%s", n, log)
	}
	c.advance(time.Second)
	ask(wrong)
	if lines("another audience") != 2 || lines("count=4") != 1 {
		t.Errorf("want a line about 4 tokens after a minute:\n%s", log)
	}
	for _, token := range []string{good, wrong, expired} {
		if lines(token[len(token)-32:]) != 0 {
			t.Errorf("the log contains a token:\n%s", log)
		}
	}
}

// TestRefusedApp checks that tokens of another app, each with its own claims, are one
// reason in the log.
func TestRefusedApp(t *testing.T) {
	t.Parallel()
	yufu, log := bearertest.New(t), &logBuffer{}
	cfg := yufu.Config()
	cfg.Apps, cfg.Logger = []string{"wxmine"}, log.logger()
	v := start(t, cfg, bearer.Tuning{})
	for range 3 {
		_, err := v.Verify(context.Background(), yufu.Token(bearer.Claims{}))
		if _, genuine := bearer.ClaimsOf(err); !errors.Is(err, bearer.ErrOtherApp) || !genuine {
			t.Fatalf("Verify() error = %v, want ErrOtherApp with claims", err)
		}
	}
	if n := strings.Count(log.String(), `msg="access tokens refused"`); n != 1 {
		t.Errorf("%d lines about 3 tokens of another app within a minute, want 1:\n%s", n, log)
	}
}
