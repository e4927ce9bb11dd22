package wechat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

const (
	phonePath = "/wxa/business/getuserphonenumber"
	tokenPath = "/cgi-bin/stable_token"
)

// shelf is a database in which clients store their access tokens.
type shelf struct {
	store  *sqlite.Store
	sealer *seal.Ring
}

func newShelf(t *testing.T) shelf {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "yufu.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	err = store.AddApp(t.Context(), auth.App{ID: appID, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("sealed")}},
		auth.AuditEvent{At: time.Now(), Action: auth.AuditAppAdded, Actor: auth.ActorCLI})
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.ParseRing(seal.GenerateFile())
	if err != nil {
		t.Fatal(err)
	}
	return shelf{store, sealer}
}

// phones is a simulator and clients that share a database, like replicas.
type phones struct {
	t *testing.T
	shelf
	sim *wechatsim.Simulator
	url string
	*wechat.Client
}

func simulatePhones(t *testing.T, simulated wechatsim.Config, cfg wechat.Config) *phones {
	t.Helper()
	sim := wechatsim.New(simulated)
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(server.Close)
	p := &phones{t: t, shelf: newShelf(t), sim: sim, url: server.URL}
	p.Client = p.replica(cfg)
	return p
}

// replica returns another client with the same database.
func (p *phones) replica(cfg wechat.Config) *wechat.Client {
	p.t.Helper()
	cfg.BaseURL, cfg.Tokens, cfg.Sealer = p.url, p.store, p.sealer
	return newClient(p.t, cfg)
}

var alice = auth.OpenIDAccount(wechatsim.OpenID(appID, "alice"))

// exchange redeems a new phone code of alice.
func (p *phones) exchange(c *wechat.Client) (string, error) {
	return c.ExchangePhoneCode(context.Background(), credentials, alice, p.sim.NewPhoneCode("alice", "13800001002"))
}

func (p *phones) mustExchange(c *wechat.Client) {
	p.t.Helper()
	if number, err := p.exchange(c); err != nil || number != "+8613800001002" {
		p.t.Fatalf("ExchangePhoneCode() = %q, %v", number, err)
	}
}

// calls returns the calls that reached WeChat in short form: "phone", "token" or "force",
// with the errcode if there was one.
func (p *phones) calls() []string {
	var all []string
	for _, c := range p.sim.Calls() {
		name := map[string]string{phonePath: "phone", tokenPath: "token"}[c.Path]
		if c.ForceRefresh {
			name = "force"
		}
		if c.Errcode != 0 {
			name += fmt.Sprint(" ", c.Errcode)
		}
		all = append(all, name)
	}
	return all
}

func (p *phones) wantCalls(want ...string) {
	p.t.Helper()
	if got := p.calls(); !slices.Equal(got, want) {
		p.t.Errorf("calls = %q, want %q", got, want)
	}
}

// wantError fails the test unless err has the code and hides the request. Only an unspent
// code may be sent again, so only its error may say so.
func (p *phones) wantError(err error, code auth.Code, class string, unspent bool) {
	p.t.Helper()
	if auth.CodeOf(err) != code || wechat.Class(err) != class {
		p.t.Errorf("error = %v, class %s; want %s, class %s", err, wechat.Class(err), code, class)
	}
	if errors.Is(err, platform.ErrCodeUnspent) != unspent {
		p.t.Errorf("error = %v, unspent: %t", err, !unspent)
	}
	hidesSecrets(p.t, err)
	for _, call := range p.sim.Calls() {
		if call.Code != "" && strings.Contains(fmt.Sprintf("%+v", errorTree(err)), call.Code) {
			p.t.Errorf("the error contains the code: %v", err)
		}
	}
}

// anotherProgram replaces the app's token, as any program with the AppSecret can.
func (p *phones) anotherProgram() {
	p.t.Helper()
	body := `{"grant_type":"client_credential","appid":"` + appID + `","secret":"` + secret + `","force_refresh":true}`
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+tokenPath, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	_ = resp.Body.Close()
}

// TestPhoneNumberContract describes getPhoneNumber and stable_token as a client sees
// them.
func TestPhoneNumberContract(t *testing.T) {
	t.Parallel()

	for given, want := range map[string]string{
		"13800001002": "+8613800001002", "+852 61234567": "+85261234567", "+1 2025550123": "+12025550123",
	} {
		t.Run("a code is exchanged for "+want, func(t *testing.T) {
			t.Parallel()
			p := simulatePhones(t, wechatsim.Config{Apps: map[string]string{appID: secret}}, wechat.Config{})
			number, err := p.ExchangePhoneCode(t.Context(), credentials, alice, p.sim.NewPhoneCode("alice", given))
			if err != nil || number != want {
				t.Errorf("ExchangePhoneCode() = %q, %v", number, err)
			}
			p.wantCalls("token", "phone")
		})
	}

	t.Run("all replicas use one token", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
		p.mustExchange(p.Client)
		p.mustExchange(p.Client)
		p.mustExchange(p.replica(wechat.Config{}))
		p.wantCalls("token", "phone", "phone", "phone")
	})

	t.Run("another user's code is refused and stays valid for its owner", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
		code := p.sim.NewPhoneCode("bob", "13800001001")
		_, err := p.ExchangePhoneCode(t.Context(), credentials, alice, code)
		p.wantError(err, auth.PhoneCodeInvalid, wechat.ClassCodeInvalid, false)
		number, err := p.ExchangePhoneCode(t.Context(), credentials, auth.OpenIDAccount(wechatsim.OpenID(appID, "bob")), code)
		if err != nil || number != "+8613800001001" {
			t.Errorf("ExchangePhoneCode() = %q, %v", number, err)
		}
	})

	t.Run("used, expired and unknown codes and log-in codes are invalid", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
		p := simulatePhones(t, wechatsim.Config{Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}}, wechat.Config{})
		used, late, login := p.sim.NewPhoneCode("alice", "13800001002"), p.sim.NewPhoneCode("alice", "13800001002"), p.sim.NewCode("alice")
		if _, err := p.ExchangePhoneCode(t.Context(), credentials, alice, used); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		now = now.Add(5 * time.Minute)
		mu.Unlock()
		for _, code := range []string{used, late, login, code} {
			_, err := p.ExchangePhoneCode(t.Context(), credentials, alice, code)
			p.wantError(err, auth.PhoneCodeInvalid, wechat.ClassCodeInvalid, false)
		}
	})

	t.Run("malformed parameters are not sent", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
		for _, bad := range []string{"", "the code is a mock one", "a&openid=b", "a\x00b", strings.Repeat("a", 129)} {
			_, err := p.ExchangePhoneCode(t.Context(), credentials, alice, bad)
			if auth.CodeOf(err) != auth.PhoneCodeInvalid || !errors.Is(err, wechat.ErrCodeMalformed) || !errors.Is(err, platform.ErrNotSent) {
				t.Errorf("code %q: error = %v", bad, err)
			}
		}
		for _, user := range []auth.PlatformAccount{{SubjectKind: "user_id", Subject: "u-1"}, {SubjectKind: "unionid", Subject: alice.Subject}} {
			_, err := p.ExchangePhoneCode(t.Context(), credentials, user, code)
			if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, platform.ErrNotSent) || errors.Is(err, wechat.ErrCredentials) || wechat.Class(err) != wechat.ClassUnsupported {
				t.Errorf("subject of kind %s: error = %v, class %s, want errors.ErrUnsupported", user.SubjectKind, err, wechat.Class(err))
			}
		}
		for _, bad := range []string{"", "o x", "o\n", "鱼符", strings.Repeat("o", 129)} {
			_, err := p.ExchangePhoneCode(t.Context(), credentials, auth.OpenIDAccount(bad), code)
			if auth.CodeOf(err) != auth.PlatformMisconfigured || !errors.Is(err, wechat.ErrCredentials) {
				t.Errorf("openid %q: error = %v", bad, err)
			}
		}
		_, err := p.ExchangePhoneCode(t.Context(), platform.Credentials{AppID: appID}, alice, code)
		if auth.CodeOf(err) != auth.PlatformMisconfigured || !errors.Is(err, wechat.ErrCredentials) {
			t.Errorf("error without a secret = %v", err)
		}
		_, err = newClient(t, wechat.Config{BaseURL: p.url}).ExchangePhoneCode(t.Context(), credentials, alice, code)
		if auth.CodeOf(err) != auth.PlatformMisconfigured || wechat.Class(err) != wechat.ClassMisconfigured || !errors.Is(err, wechat.ErrNoTokenStore) {
			t.Errorf("error without a store = %v", err)
		}
		p.wantCalls()
	})

	for _, row := range []struct {
		errcode    int
		code       auth.Code
		class      string
		retryAfter time.Duration
	}{
		{-1, auth.PlatformUnavailable, wechat.ClassBusy, 5 * time.Second},
		{40029, auth.PhoneCodeInvalid, wechat.ClassCodeInvalid, 0},
		{40163, auth.PhoneCodeInvalid, wechat.ClassCodeUsed, 0},
		{40003, auth.PhoneCodeInvalid, wechat.ClassCodeInvalid, 0},
		{40226, auth.UserBlocked, wechat.ClassUserBlocked, 0},
		{45011, auth.PlatformQuota, wechat.ClassQuota, time.Minute},
		{45009, auth.PlatformQuota, wechat.ClassQuota, time.Hour},
		{40013, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{48001, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{50004, auth.PlatformMisconfigured, wechat.ClassMisconfigured, 0},
		{99999, auth.PlatformUnavailable, wechat.ClassUnknown, 5 * time.Second},
	} {
		t.Run(fmt.Sprintf("errcode %d of the call is %s", row.errcode, row.code), func(t *testing.T) {
			t.Parallel()
			p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
			strike(t, p.sim, wechatsim.Fault{Errcode: row.errcode, Path: phonePath})
			number, err := p.exchange(p.Client)
			var e *auth.Error
			var api *wechat.APIError
			if !errors.As(err, &e) || !errors.As(err, &api) || number != "" {
				t.Fatalf("ExchangePhoneCode() = %q, %v", number, err)
			}
			if e.RetryAfter != row.retryAfter || api.Errcode != row.errcode || api.RID == "" {
				t.Errorf("error = %+v", e)
			}
			p.wantError(err, row.code, row.class, false)
			p.wantCalls("token", fmt.Sprint("phone ", row.errcode))
		})
	}

	for _, row := range []struct {
		errcode int
		code    auth.Code
		class   string
	}{
		{-1, auth.PlatformUnavailable, wechat.ClassBusy},
		{40001, auth.PlatformMisconfigured, wechat.ClassToken},
		{40013, auth.PlatformMisconfigured, wechat.ClassMisconfigured},
		{40125, auth.PlatformMisconfigured, wechat.ClassMisconfigured},
		{40164, auth.PlatformMisconfigured, wechat.ClassMisconfigured},
		{45009, auth.PlatformQuota, wechat.ClassQuota},
		{45011, auth.PlatformQuota, wechat.ClassQuota},
		{99999, auth.PlatformUnavailable, wechat.ClassUnknown},
	} {
		t.Run(fmt.Sprintf("errcode %d instead of a token is %s and the code stays valid", row.errcode, row.code), func(t *testing.T) {
			t.Parallel()
			p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
			strike(t, p.sim, wechatsim.Fault{Errcode: row.errcode, Path: tokenPath})
			code := p.sim.NewPhoneCode("alice", "13800001002")
			_, err := p.ExchangePhoneCode(t.Context(), credentials, alice, code)
			p.wantError(err, row.code, row.class, true)
			p.wantCalls(fmt.Sprint("token ", row.errcode))
			if number, err := p.ExchangePhoneCode(t.Context(), credentials, alice, code); err != nil {
				t.Errorf("second ExchangePhoneCode() with the same code = %q, %v", number, err)
			}
		})
	}

	t.Run("a wrong secret is misconfigured", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{Apps: map[string]string{appID: "another"}}, wechat.Config{})
		_, err := p.exchange(p.Client)
		p.wantError(err, auth.PlatformMisconfigured, wechat.ClassMisconfigured, true)
	})

	t.Run("a database that is down is storage unavailable", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
		client := newClient(t, wechat.Config{BaseURL: p.url, Sealer: p.sealer, Tokens: downStore{}})
		_, err := p.exchange(client)
		p.wantError(err, auth.StorageUnavailable, wechat.ClassToken, true)
		p.wantCalls()
	})
}

// downStore is a database that does not answer.
type downStore struct{ accesstoken.Store }

func (downStore) PlatformToken(context.Context, string) (accesstoken.Kept, error) {
	return accesstoken.Kept{}, auth.StorageUnavailable
}

// TestDeadAccessToken describes what happens to a phone code whose access token is
// refused.
func TestDeadAccessToken(t *testing.T) {
	t.Parallel()

	t.Run("after another program replaced it, the current token is requested without force", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
		p.mustExchange(p.Client)
		p.anotherProgram()
		p.mustExchange(p.Client)
		p.wantCalls("token", "phone", "force", "phone 40001", "token", "phone")
	})

	for _, errcode := range []int{40001, 40014, 42001} {
		t.Run(fmt.Sprintf("after errcode %d for a token that WeChat still hands out, one refresh is forced and the code is sent once more", errcode), func(t *testing.T) {
			t.Parallel()
			p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
			p.mustExchange(p.Client)
			strike(t, p.sim, wechatsim.Fault{Errcode: errcode, Path: phonePath})
			p.mustExchange(p.Client)
			p.wantCalls("token", "phone", fmt.Sprint("phone ", errcode), "token", "force", "phone")
		})
	}

	t.Run("a second refusal is an error, and the code is not sent a third time", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
		strike(t, p.sim, wechatsim.Fault{Errcode: 40001, Path: phonePath, Count: 10})
		_, err := p.exchange(p.Client)
		p.wantError(err, auth.PlatformUnavailable, wechat.ClassToken, true)
		p.wantCalls("token", "phone 40001", "token", "force", "phone 40001")
		// A second forced refresh must wait: the limit is one in 30 s.
		_, err = p.exchange(p.Client)
		p.wantError(err, auth.PlatformUnavailable, wechat.ClassToken, true)
		p.wantCalls("token", "phone 40001", "token", "force", "phone 40001", "phone 40001", "token")
	})

	t.Run("many refused callers of many replicas force one refresh", func(t *testing.T) {
		t.Parallel()
		const replicas, callers = 3, 5
		p := simulatePhones(t, wechatsim.Config{MaxCalls: 1000}, wechat.Config{})
		clients := []*wechat.Client{p.Client}
		for range replicas - 1 {
			clients = append(clients, p.replica(wechat.Config{}))
		}
		for _, c := range clients {
			p.mustExchange(c)
		}
		strike(t, p.sim, wechatsim.Fault{Errcode: 40001, Path: phonePath, Count: replicas * callers})
		// Once each first call has met a fault, no fault is left for the second calls.
		var first, all sync.WaitGroup
		first.Add(replicas * callers)
		gate := &gate{arrived: &first}
		for i := range clients {
			clients[i] = p.replica(wechat.Config{Transport: gate.transport()})
		}
		for _, c := range clients {
			for range callers {
				all.Go(func() {
					if number, err := p.exchange(c); err != nil {
						t.Errorf("ExchangePhoneCode() = %q, %v", number, err)
					}
				})
			}
		}
		all.Wait()
		counted := map[string]int{}
		for _, call := range p.calls() {
			counted[call]++
		}
		if counted["force"] != 1 || counted["phone 40001"] != replicas*callers || counted["token"] != 2 {
			t.Errorf("calls = %v", counted)
		}
	})
}

// gate holds the first phone call of each caller until all callers have made one.
type gate struct{ arrived *sync.WaitGroup }

func (g *gate) transport() http.RoundTripper {
	inner := wechat.NewTransport()
	return gated{inner, func(r *http.Request, resp *http.Response) {
		if r.URL.Path == phonePath && resp != nil && resp.ContentLength > 0 && resp.ContentLength < 150 {
			g.arrived.Done() // an errcode, not a phone number
			g.arrived.Wait()
		}
	}}
}

type gated struct {
	*http.Transport
	after func(*http.Request, *http.Response)
}

func (g gated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.Transport.RoundTrip(r)
	g.after(r, resp)
	return resp, err
}

// TestLostPhoneCalls checks that no phone code is sent twice, whatever happens to the
// answer, and that a lost answer of stable_token uses up no code.
func TestLostPhoneCalls(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault   wechatsim.Fault
		timeout time.Duration
		class   string
	}{
		"a dropped connection": {wechatsim.Fault{Drop: true}, 0, wechat.ClassTransport},
		"an empty answer":      {wechatsim.Fault{Empty: true}, 0, wechat.ClassMalformed},
		"half an answer":       {wechatsim.Fault{Malformed: true}, 0, wechat.ClassMalformed},
		"a bad gateway":        {wechatsim.Fault{Status: 502}, 0, wechat.ClassHTTPStatus},
		"a redirect":           {wechatsim.Fault{Status: 307}, 0, wechat.ClassHTTPStatus},
		"a timeout":            {wechatsim.Fault{Delay: time.Minute}, 5 * time.Second, wechat.ClassTimeout},
	} {
		t.Run("a code lost to "+name+" is not sent again", func(t *testing.T) {
			t.Parallel()
			p := simulatePhones(t, wechatsim.Config{}, wechat.Config{Timeout: tc.timeout})
			p.mustExchange(p.Client) // keeps a connection, which tempts net/http to repeat the request
			fault := tc.fault
			fault.Path = phonePath
			strike(t, p.sim, fault)
			_, err := p.exchange(p.Client)
			p.wantError(err, auth.PlatformUnavailable, tc.class, false)
			p.wantCalls("token", "phone", "phone")
		})
		t.Run("a token lost to "+name+" uses up no code", func(t *testing.T) {
			t.Parallel()
			p := simulatePhones(t, wechatsim.Config{}, wechat.Config{Timeout: tc.timeout})
			fault := tc.fault
			fault.Path = tokenPath
			strike(t, p.sim, fault)
			_, err := p.exchange(p.Client)
			p.wantError(err, auth.PlatformUnavailable, tc.class, true)
			p.wantCalls("token")
			p.mustExchange(p.Client)
		})
	}

	t.Run("a caller that gives up gets its context's error", func(t *testing.T) {
		t.Parallel()
		for path, unspent := range map[string]bool{tokenPath: true, phonePath: false} {
			p := simulatePhones(t, wechatsim.Config{}, wechat.Config{})
			strike(t, p.sim, wechatsim.Fault{Delay: time.Minute, Path: path})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				for !slices.ContainsFunc(p.sim.Calls(), func(c wechatsim.Call) bool { return c.Path == path }) {
				}
				cancel()
			}()
			_, err := p.ExchangePhoneCode(ctx, credentials, alice, p.sim.NewPhoneCode("alice", "13800001002"))
			if !errors.Is(err, context.Canceled) || wechat.Class(err) != wechat.ClassCanceled || errors.Is(err, platform.ErrCodeUnspent) != unspent {
				t.Errorf("%s: error = %v", path, err)
			}
		}
	})

	t.Run("despite random faults no code is sent twice, except after 40001", func(t *testing.T) {
		t.Parallel()
		p := simulatePhones(t, wechatsim.Config{Seed: 1, MaxCalls: 2000}, wechat.Config{})
		for _, f := range []wechatsim.Fault{{Drop: true}, {Empty: true}, {Malformed: true}, {Status: 503}, {Errcode: -1}, {Errcode: 45011}, {Errcode: 40001}} {
			f.Probability = 0.07
			f.Path = phonePath
			strike(t, p.sim, f)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 40 {
					number, err := p.exchange(p.Client)
					if (err == nil) != (number == "+8613800001002") {
						t.Errorf("ExchangePhoneCode() = %q, %v", number, err)
					}
				}
			})
		}
		all.Wait()
		sent, again := map[string][]int{}, 0
		for _, c := range p.sim.Calls() {
			if c.Path == phonePath {
				sent[c.Code] = append(sent[c.Code], c.Errcode)
			}
		}
		for _, errcodes := range sent {
			if len(errcodes) > 1 {
				again++
			}
			if len(errcodes) > 2 || len(errcodes) == 2 && errcodes[0] != 40001 {
				t.Errorf("a code was sent %d times, with errcodes %v", len(errcodes), errcodes)
			}
		}
		if len(sent) != 320 || again == 0 {
			t.Errorf("%d codes were sent, %d of them twice", len(sent), again)
		}
	})
}

// TestErrorsHideTheAccessToken simulates a WeChat whose answers contain the request's
// secrets.
func TestErrorsHideTheAccessToken(t *testing.T) {
	t.Parallel()
	const token = "88_7oken7oken7oken7oken7oken7oken7oken"
	for name, answers := range map[string]map[string]string{
		"an errmsg that echoes the token":      {phonePath: `{"errcode":-1,"errmsg":"` + token + ` %s"}`},
		"a token beside an errcode":            {tokenPath: `{"errcode":-1,"errmsg":"it was ` + token + `","access_token":"` + token + `"}`},
		"an errmsg that echoes the secret":     {tokenPath: `{"errcode":40125,"errmsg":"%s"}`},
		"a number of another app":              {phonePath: `{"errcode":0,"phone_info":{"phoneNumber":"13800001002","purePhoneNumber":"13800001002","countryCode":"86","watermark":{"appid":"wxother"}}}`},
		"a phone number in an unknown form":    {phonePath: `{"errcode":0,"phone_info":{"purePhoneNumber":"1380000100213800001002","countryCode":"86","watermark":{"appid":"` + appID + `"}}}`},
		"a malformed token":                    {tokenPath: `{"access_token":"` + token + ` ","expires_in":7200}`},
		"a token without an expiry":            {tokenPath: `{"access_token":"` + token + `"}`},
		"an answer that is the request itself": {phonePath: `%s`},
	} {
		t.Run("after "+name, func(t *testing.T) {
			t.Parallel()
			server, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body := answers[r.URL.Path]
				if body == "" {
					body = `{"access_token":"` + token + `","expires_in":7200}`
				}
				var sent struct{ Code, OpenID, Secret string }
				_ = json.NewDecoder(r.Body).Decode(&sent)
				echo, _ := json.Marshal(r.URL.String() + sent.Code + sent.OpenID + sent.Secret)
				answer(http.StatusOK, strings.ReplaceAll(body, "%s", strings.Trim(string(echo), `"`)))(w, r)
			})
			s := newShelf(t)
			client := newClient(t, wechat.Config{BaseURL: server.URL, Tokens: s.store, Sealer: s.sealer})
			_, err := client.ExchangePhoneCode(t.Context(), credentials, alice, code)
			if err == nil {
				t.Fatal("ExchangePhoneCode() error = nil, want an error")
			}
			hidesSecrets(t, err)
			for _, e := range errorTree(err) {
				for _, needle := range []string{token, alice.Subject, "13800001002"} {
					if strings.Contains(fmt.Sprintf("%v %+v %#v", e, e, e), needle) {
						t.Errorf("a %T contains %q: %v", e, needle, e)
					}
				}
			}
		})
	}
}
