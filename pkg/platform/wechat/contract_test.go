package wechat_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

// simulate returns a simulator and a client of it, over HTTP.
func simulate(t *testing.T, simulated wechatsim.Config, cfg wechat.Config) (*wechatsim.Simulator, *wechat.Client) {
	t.Helper()
	sim := wechatsim.New(simulated)
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(server.Close)
	cfg.BaseURL = server.URL
	return sim, newClient(t, cfg)
}

func strike(t *testing.T, sim *wechatsim.Simulator, f wechatsim.Fault) {
	t.Helper()
	if err := sim.AddFault(f); err != nil {
		t.Fatalf("AddFault() error = %v", err)
	}
}

// sentOnce fails the test if a code reached the platform more often than allowed.
func sentOnce(t *testing.T, sim *wechatsim.Simulator) {
	t.Helper()
	seen := make(map[string]int)
	for _, call := range sim.Calls() {
		if seen[call.Code]++; seen[call.Code] > 1 {
			t.Errorf("code %s was sent %d times", call.Code, seen[call.Code])
		}
	}
}

// TestCode2SessionContract describes code2Session as a client sees it, with every row of
// the table of errcodes.
func TestCode2SessionContract(t *testing.T) {
	t.Parallel()

	t.Run("a code is exchanged for an account", func(t *testing.T) {
		t.Parallel()
		sim, client := simulate(t, wechatsim.Config{UnionID: true}, wechat.Config{})
		first, err := client.ExchangeCode(t.Context(), credentials, sim.NewCode("alice"))
		if err != nil {
			t.Fatalf("ExchangeCode() error = %v", err)
		}
		if first.OpenID() != wechatsim.OpenID(appID, "alice") || first.UnionID != wechatsim.UnionID("alice") || first.SessionKey == "" {
			t.Errorf("account = %+v", first)
		}
		again, err := client.ExchangeCode(t.Context(), credentials, sim.NewCode("alice"))
		if err != nil {
			t.Fatalf("second ExchangeCode() error = %v", err)
		}
		if again.OpenID() != first.OpenID() || again.SessionKey == first.SessionKey {
			t.Errorf("same openid: %v, same session_key: %v", again.OpenID() == first.OpenID(), again.SessionKey == first.SessionKey)
		}
		sentOnce(t, sim)
	})

	t.Run("a missing unionid is empty", func(t *testing.T) {
		t.Parallel()
		sim, client := simulate(t, wechatsim.Config{}, wechat.Config{})
		account, err := client.ExchangeCode(t.Context(), credentials, sim.NewCode("alice"))
		if err != nil || account.UnionID != "" {
			t.Errorf("UnionID = %q, error %v", account.UnionID, err)
		}
	})

	t.Run("the secret arrives unchanged", func(t *testing.T) {
		t.Parallel()
		sim, client := simulate(t, wechatsim.Config{Apps: map[string]string{appID: secret}}, wechat.Config{})
		if _, err := client.ExchangeCode(t.Context(), credentials, sim.NewCode("alice")); err != nil {
			t.Errorf("ExchangeCode() error = %v", err)
		}
	})

	for _, row := range []struct {
		errcode    int
		code       auth.Code
		class      string
		retryAfter time.Duration
	}{
		{-1, auth.PlatformUnavailable, wechat.ClassBusy, 5 * time.Second},
		{40029, auth.CodeInvalid, wechat.ClassCodeInvalid, 0},
		{40163, auth.CodeUsed, wechat.ClassCodeUsed, 0},
		{40226, auth.UserBlocked, wechat.ClassUserBlocked, 0},
		{45011, auth.PlatformQuota, wechat.ClassQuota, time.Minute},
		{40013, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{40125, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{40164, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{40243, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{41002, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{41004, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{41008, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{50004, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{50007, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{99999, auth.PlatformUnavailable, wechat.ClassUnknown, 5 * time.Second},
	} {
		t.Run(fmt.Sprintf("errcode %d is %s", row.errcode, row.code), func(t *testing.T) {
			t.Parallel()
			sim, client := simulate(t, wechatsim.Config{}, wechat.Config{})
			strike(t, sim, wechatsim.Fault{Errcode: row.errcode})
			account, err := client.ExchangeCode(t.Context(), credentials, sim.NewCode("alice"))
			var e *auth.Error
			var api *wechat.APIError
			if !errors.As(err, &e) || !errors.As(err, &api) || account != (platform.Account{}) {
				t.Fatalf("ExchangeCode() = %+v, %v", account, err)
			}
			if e.Code != row.code || e.RetryAfter != row.retryAfter || wechat.Class(err) != row.class {
				t.Errorf("code = %s, RetryAfter = %v, class = %s", e.Code, e.RetryAfter, wechat.Class(err))
			}
			if api.Errcode != row.errcode || api.Errmsg == "" || api.RID == "" {
				t.Errorf("cause = %+v", *api)
			}
			hidesSecrets(t, err)
			sentOnce(t, sim)
		})
	}

	for name, tc := range map[string]struct {
		simulated wechatsim.Config
		app       platform.Credentials
		code      func(*wechatsim.Simulator) string
		want      auth.Code
	}{
		"an unknown code": {
			app: credentials, want: auth.CodeInvalid,
			code: func(*wechatsim.Simulator) string { return code },
		},
		"another app's code": {
			app: credentials, want: auth.CodeInvalid,
			code: func(sim *wechatsim.Simulator) string { return sim.NewAppCode("wxanother", "alice") },
		},
		"an unknown appid": {
			simulated: wechatsim.Config{Apps: map[string]string{"wxanother": "s"}},
			app:       credentials, want: auth.PlatformMisconfigured,
			code: func(sim *wechatsim.Simulator) string { return sim.NewCode("alice") },
		},
		"a wrong secret": {
			simulated: wechatsim.Config{Apps: map[string]string{appID: "s"}},
			app:       credentials, want: auth.PlatformMisconfigured,
			code: func(sim *wechatsim.Simulator) string { return sim.NewCode("alice") },
		},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			sim, client := simulate(t, tc.simulated, wechat.Config{})
			if _, err := client.ExchangeCode(t.Context(), tc.app, tc.code(sim)); auth.CodeOf(err) != tc.want {
				t.Errorf("ExchangeCode() error = %v, want %s", err, tc.want)
			}
			if len(sim.Calls()) != 1 {
				t.Errorf("ExchangeCode() made %d calls, want 1", len(sim.Calls()))
			}
		})
	}

	t.Run("used and expired codes have different errors", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
		sim, client := simulate(t, wechatsim.Config{Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}}, wechat.Config{})
		used, late := sim.NewCode("alice"), sim.NewCode("alice")
		if _, err := client.ExchangeCode(t.Context(), credentials, used); err != nil {
			t.Fatalf("ExchangeCode() error = %v", err)
		}
		if _, err := client.ExchangeCode(t.Context(), credentials, used); auth.CodeOf(err) != auth.CodeUsed {
			t.Errorf("error for a used code = %v", err)
		}
		mu.Lock()
		now = now.Add(5 * time.Minute)
		mu.Unlock()
		if _, err := client.ExchangeCode(t.Context(), credentials, late); auth.CodeOf(err) != auth.CodeInvalid {
			t.Errorf("error for an expired code = %v", err)
		}
	})

	t.Run("the developer tools' mock code does not reach the platform", func(t *testing.T) {
		t.Parallel()
		sim, client := simulate(t, wechatsim.Config{}, wechat.Config{})
		if _, err := client.ExchangeCode(t.Context(), credentials, "the code is a mock one"); auth.CodeOf(err) != auth.CodeInvalid {
			t.Errorf("ExchangeCode() error = %v", err)
		}
		if len(sim.Calls()) != 0 {
			t.Errorf("calls = %+v", sim.Calls())
		}
	})

	for name, tc := range map[string]struct {
		fault   wechatsim.Fault
		timeout time.Duration
		class   string
	}{
		"a dropped connection": {wechatsim.Fault{Drop: true}, 0, wechat.ClassTransport},
		"an empty answer":      {wechatsim.Fault{Empty: true}, 0, wechat.ClassMalformed},
		"half an answer":       {wechatsim.Fault{Malformed: true}, 0, wechat.ClassMalformed},
		"a bad gateway":        {wechatsim.Fault{Status: 502}, 0, wechat.ClassHTTPStatus},
		"a timeout":            {wechatsim.Fault{Delay: time.Minute}, 5 * time.Second, wechat.ClassTimeout},
	} {
		t.Run("a code lost to "+name+" is not sent again", func(t *testing.T) {
			t.Parallel()
			sim, client := simulate(t, wechatsim.Config{}, wechat.Config{Timeout: tc.timeout})
			// A kept connection tempts net/http to repeat the request.
			if _, err := client.ExchangeCode(t.Context(), credentials, sim.NewCode("alice")); err != nil {
				t.Fatalf("ExchangeCode() error = %v", err)
			}
			strike(t, sim, tc.fault)
			_, err := client.ExchangeCode(t.Context(), credentials, sim.NewCode("alice"))
			if auth.CodeOf(err) != auth.PlatformUnavailable || wechat.Class(err) != tc.class {
				t.Errorf("ExchangeCode() error = %v, class %s, want %s", err, wechat.Class(err), tc.class)
			}
			hidesSecrets(t, err)
			sentOnce(t, sim)
		})
	}

	t.Run("no code is sent twice despite random faults", func(t *testing.T) {
		t.Parallel()
		sim, client := simulate(t, wechatsim.Config{Seed: 1, MaxCalls: 1000}, wechat.Config{})
		for _, f := range []wechatsim.Fault{{Drop: true}, {Empty: true}, {Malformed: true}, {Status: 503}, {Errcode: -1}, {Errcode: 45011}} {
			f.Probability = 0.1
			strike(t, sim, f)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 50 {
					account, err := client.ExchangeCode(context.Background(), credentials, sim.NewCode("alice"))
					if (err == nil) != (account.OpenID() != "") || err == nil && account.OpenID() != wechatsim.OpenID(appID, "alice") {
						t.Errorf("ExchangeCode() = %+v, %v", account, err)
					}
				}
			})
		}
		all.Wait()
		sentOnce(t, sim)
		lost := 0
		for _, call := range sim.Calls() {
			if call.Fault != "" {
				lost++
			}
		}
		if lost < 100 || len(sim.Calls()) != 400 {
			t.Errorf("%d of %d calls met a fault, want at least 100 of 400", lost, len(sim.Calls()))
		}
	})
}
