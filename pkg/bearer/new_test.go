package bearer_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

func TestNew(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("refuses a wrong configuration", func(t *testing.T) {
		t.Parallel()
		for name, cfg := range map[string]bearer.Config{
			"no issuer":                   {},
			"an issuer without a scheme":  {Issuer: "auth.example.com", Audience: "shop"},
			"an issuer of another scheme": {Issuer: "ftp://auth.example.com", Audience: "shop"},
			"plain http to another host":  {Issuer: "http://auth.example.com", Audience: "shop"},
			"a URL of plain http":         {Issuer: issuer, URL: "http://10.0.0.7:8080", Audience: "shop"},
			"a name like localhost":       {Issuer: "http://localhost.evil.example", Audience: "shop"},
			"a URL with a password":       {Issuer: issuer, URL: "https://user:secret@auth.example.com", Audience: "shop"},
			"a URL with a query":          {Issuer: issuer, URL: "https://auth.example.com?x=1", Audience: "shop"},
			"an unknown algorithm":        {Issuer: issuer, Audience: "shop", Algorithms: []string{"ES256", "HS256"}},
			"a negative staleness":        {Issuer: issuer, Audience: "shop", MaxStaleness: -1},
			"an app without a name":       {Issuer: issuer, Apps: []string{"wx1", ""}},
			"an app that is not an appid": {Issuer: issuer, Apps: []string{"wx-1"}},
			"an app too long":             {Issuer: issuer, Apps: []string{strings.Repeat("x", 65)}},
			"no key, audience or apps":    {Issuer: issuer},
			"no key, and the issuer only": {Issuer: issuer, Audience: issuer},
			"a key with a line break":     {Issuer: issuer, ServiceKey: "yfk_a\r\nX-Evil: 1"},
		} {
			v, err := bearer.New(ctx, cfg)
			if v != nil || err == nil {
				t.Errorf("%s: New() = %v, %v, want an error", name, v, err)
			}
			if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "Evil")) {
				t.Errorf("%s: the error contains a secret: %v", name, err)
			}
		}
	})
	t.Run("waits at most NewWait, and returns without error", func(t *testing.T) {
		t.Parallel()
		s := newKeyServer(t, fails)
		v := start(t, bearer.Config{Issuer: issuer, URL: s.url, Apps: []string{app}}, bearer.Tuning{Wait: 10 * time.Millisecond, Clock: clockAt(now).now})
		wantError(t, v, forgery{}.make(t), bearer.ErrStale)
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		w, err := bearer.NewTuned(cancelled, bearer.Config{Issuer: issuer, URL: s.url, Apps: []string{app}}, bearer.Tuning{Wait: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	})
	t.Run("waits 5 s", func(t *testing.T) {
		t.Parallel()
		if bearer.NewWait != 5*time.Second {
			t.Errorf("NewWait = %v", bearer.NewWait)
		}
	})
	t.Run("without a service key it works and accepts revoked tokens", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		yufu.RevokeSession(session)
		cfg := yufu.Config()
		cfg.ServiceKey, cfg.Apps = " \n", []string{bearertest.App}
		v := start(t, cfg, bearer.Tuning{})
		wantGood(t, v, yufu.Token(bearer.Claims{Session: session}))
	})
	t.Run("accepts a service key with the line break of a file", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		cfg := yufu.Config()
		cfg.ServiceKey += "\n"
		wantGood(t, start(t, cfg, bearer.Tuning{}), yufu.Token(bearer.Claims{}))
	})
	t.Run("reaches the service by another address, and with another client", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		var used atomic.Int64
		client := &http.Client{
			Timeout: time.Nanosecond, // must not end the feed
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				used.Add(1)
				r = r.Clone(r.Context())
				r.URL.Host = strings.TrimPrefix(yufu.URL, "http://")
				r.URL.Path = strings.TrimPrefix(r.URL.Path, "/auth")
				return http.DefaultTransport.RoundTrip(r)
			}),
		}
		v := start(t, bearer.Config{
			Issuer: yufu.URL, URL: "http://yufu.internal:8080/auth/", ServiceKey: bearertest.ServiceKey,
			HTTPClient: client, UnsafePlainHTTP: true,
		}, bearer.Tuning{})
		wantGood(t, v, yufu.Token(bearer.Claims{}))
		if used.Load() < 2 {
			t.Error("the configured client was not used")
		}
	})
	t.Run("restricts the algorithms", func(t *testing.T) {
		t.Parallel()
		yufu := bearertest.New(t)
		cfg := yufu.Config()
		cfg.Algorithms = []string{"RS256", "EdDSA"}
		v := start(t, cfg, bearer.Tuning{Wait: soon})
		wantError(t, v, yufu.Token(bearer.Claims{}), bearer.ErrInvalid)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestClose is not parallel, because it counts all goroutines.
func TestClose(t *testing.T) {
	never := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-never:
		}
	}))
	defer hang.Close()
	defer close(never)
	down := httptest.NewServer(http.HandlerFunc(fails))
	defer down.Close()
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer refuses.Close()
	yufu := bearertest.New(t)
	ours := func() int {
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		n := 0
		for _, g := range strings.Split(string(stacks), "\n\n") {
			// Our goroutines, and the connections of the client, which New made too.
			if strings.Contains(g, "bearer.(*feed)") || strings.Contains(g, "bearer.(*remoteKeys)") || strings.Contains(g, "bearer.newVerifier") || strings.Contains(g, "http.(*persistConn)") {
				n++
			}
		}
		return n
	}
	// Goroutines of an earlier run of these tests may still be ending.
	until(t, func() string { return map[bool]string{true: "there are goroutines before"}[ours() != 0] })
	for name, url := range map[string]string{
		"a service that works": yufu.URL, "one that hangs": hang.URL, "one that is down": down.URL, "one that refuses us": refuses.URL,
	} {
		t.Run("stops all goroutines of "+name, func(t *testing.T) {
			v, err := bearer.NewTuned(context.Background(), bearer.Config{Issuer: yufu.URL, URL: url, ServiceKey: bearertest.ServiceKey}, bearer.Tuning{Wait: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if ours() == 0 {
				t.Error("no goroutine was seen, so this test proves nothing")
			}
			for range 2 {
				if err := v.Close(); err != nil {
					t.Error(err)
				}
			}
			until(t, func() string {
				if n := ours(); n != 0 {
					return "goroutines go on"
				}
				return ""
			})
		})
	}
	t.Run("leaves a verifier that still uses its data", func(t *testing.T) {
		c := clockAt(time.Now())
		v, err := bearer.NewTuned(context.Background(), yufu.Config(), bearer.Tuning{Clock: c.now})
		if err != nil {
			t.Fatal(err)
		}
		v.Close()
		wantGood(t, v, yufu.Token(bearer.Claims{}))
		c.advance(20 * time.Second)
		yufu.RotateKey()
		wantError(t, v, yufu.Token(bearer.Claims{}), bearer.ErrStale) // does not wait for a fetch that never comes
		c.advance(11 * time.Second)
		wantError(t, v, yufu.Token(bearer.Claims{}), bearer.ErrStale)
	})
}
