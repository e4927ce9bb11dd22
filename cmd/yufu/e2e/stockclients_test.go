package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// front is a proxy in front of the program whose address is the issuer. Its traffic is
// checked against openapi.yaml, so the requests of third-party software are also checked.
type front struct {
	url string

	mu     sync.Mutex
	target *url.URL
	seen   []string
}

func (h *harness) front() *front {
	f := &front{}
	proxy := &httputil.ReverseProxy{
		Transport: h.contract,
		Rewrite: func(r *httputil.ProxyRequest) {
			f.mu.Lock()
			defer f.mu.Unlock()
			r.SetURL(f.target)
			scheme, _, _ := strings.Cut(r.In.Header.Get("Authorization"), " ")
			f.seen = append(f.seen, strings.TrimSpace(r.In.Method+" "+r.In.URL.Path+" "+scheme))
		},
	}
	server := httptest.NewServer(proxy)
	h.t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// leadTo sets the service behind the front.
func (f *front) leadTo(h *harness, base string) {
	h.t.Helper()
	target, err := url.Parse(base)
	if err != nil {
		h.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = target
}

// forget returns the requests since its last call.
func (f *front) forget() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

// behindFront starts a replica behind a front, which is its issuer.
func behindFront(h *harness) (*service, *front) {
	h.t.Helper()
	s, f, _ := deployBehindFront(h)
	return s, f
}

func deployBehindFront(h *harness) (*service, *front, *deployment) {
	h.t.Helper()
	f := h.front()
	d := deploy(h, pgtest.Empty(h.t))
	d.env["YUFU_ISSUER"] = f.url
	_, s := d.serve("yufu", "--migrate")
	f.leadTo(h, s.base)
	d.addApp()
	s.base = f.url
	return s, f, d
}

// scriptResult is the output of a script in clients/.
type scriptResult struct {
	UUIDs  []string `json:"uuids"`
	Tokens []string `json:"tokens"`
}

// script runs a script of clients/, which logs the user in once for each code and exits
// with 0 only if all checks pass.
func (s *service) script(name, user string, codes int) {
	s.t.Helper()
	s.scriptOf(name, []string{name}, user, codes, nil)
}

// scriptOf is script for a script that needs these packages and more data in its task.
func (s *service) scriptOf(name string, packages []string, user string, codes int, more map[string]any) {
	s.t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		s.t.Fatal("Node.js is missing; to install it: sudo make deps")
	}
	for _, pkg := range packages {
		if _, err := os.Stat(filepath.Join("node_modules", pkg, "package.json")); err != nil {
			s.t.Fatalf("the npm package %s is missing; to install it: sudo make deps", pkg)
		}
	}
	task := map[string]any{"issuer": s.base, "client_id": s.app}
	maps.Copy(task, more)
	var all []string
	for range codes {
		all = append(all, s.sim.mustCode(user))
	}
	task["codes"] = all
	input, err := json.Marshal(task)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, node, filepath.Join("clients", name+".mjs"))
	cmd.Env = settings{}.environ()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%s: error = %v\n%s", name, err, &stderr)
	}
	var result scriptResult
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		s.t.Fatalf("the output of %s is not JSON: %q: %v", name, &stdout, err)
	}
	for _, token := range result.Tokens {
		s.secret("a token", token)
	}
	if len(result.UUIDs) != codes || len(result.Tokens) == 0 {
		s.t.Errorf("%s logged %d users in and got %d tokens, with %d codes", name, len(result.UUIDs), len(result.Tokens), codes)
	}
	for _, uuid := range result.UUIDs {
		if want := s.logIn(user).Doc.UUID; uuid != want {
			s.t.Errorf("%s has the uuid %s, want %s", name, uuid, want)
		}
	}
}

func TestStockClientsInJavaScript(t *testing.T) {
	t.Parallel()
	s, f, d := deployBehindFront(newHarness(t))

	for _, name := range []string{"openid-client", "oauth4webapi"} {
		t.Run(name+" finds the server, logs in, refreshes and logs out", func(t *testing.T) {
			s := s.in(t)
			f.forget()
			s.script(name, "alice", 2)
			seen := f.forget()
			for _, want := range []string{
				"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration",
				"POST /oauth2/token", "POST /oauth2/revoke",
			} {
				if !slices.Contains(seen, want) {
					t.Errorf("no request %s among %q", want, seen)
				}
			}
		})
	}
	t.Run("oauth4webapi and openid-client introspect tokens", func(t *testing.T) {
		s := s.in(t)
		key := d.serviceKey("service")
		f.forget()
		s.scriptOf("resource-server", []string{"oauth4webapi", "openid-client"}, "alice", 1, map[string]any{"service_key": key})
		if seen := f.forget(); !slices.Contains(seen, "POST /oauth2/introspect Basic") {
			t.Errorf("the client sent no introspection: %q", seen)
		}
	})
	t.Run("jose verifies tokens with the published keys", func(t *testing.T) {
		s := s.in(t)
		f.forget()
		s.script("jose", "alice", 1)
		if seen := f.forget(); !slices.Contains(seen, "GET /.well-known/jwks.json") {
			t.Errorf("the keys were not fetched: %q", seen)
		}
	})
}

// grant makes x/oauth2 use the grant of mini-programs: Exchange fetches tokens for a code
// and accepts further parameters.
var grant = oauth2.SetAuthURLParam("grant_type", codeGrant)

// note registers the tokens as secrets.
func (h *harness) note(token *oauth2.Token) *oauth2.Token {
	h.secret("an access token", token.AccessToken)
	h.secret("a refresh token", token.RefreshToken)
	return token
}

func TestStockClientsInGo(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	s, f := behindFront(h)
	ctx := t.Context()
	// The answer does not tell how the client must send its client_id, so x/oauth2 tries
	// HTTP Basic with an empty secret first. Both ways work, and each client here starts
	// without a remembered style.
	client := func(style oauth2.AuthStyle) *oauth2.Config {
		return &oauth2.Config{ClientID: s.app, Endpoint: oauth2.Endpoint{TokenURL: s.base + "/oauth2/token", AuthStyle: style}}
	}

	for name, tc := range map[string]struct {
		style oauth2.AuthStyle
		seen  string
	}{
		"with detection": {oauth2.AuthStyleAutoDetect, "POST /oauth2/token Basic"},
		"as Basic":       {oauth2.AuthStyleInHeader, "POST /oauth2/token Basic"},
		"in the body":    {oauth2.AuthStyleInParams, "POST /oauth2/token"},
	} {
		t.Run("x/oauth2 logs in and refreshes, with the client_id sent "+name, func(t *testing.T) {
			s := s.in(t)
			f.forget()
			config := client(tc.style)
			token, err := config.Exchange(ctx, s.sim.mustCode("alice"), grant, oauth2.SetAuthURLParam("device", "Go"))
			if err != nil {
				t.Fatal(err)
			}
			s.note(token)
			if !token.Valid() || token.Type() != "Bearer" || time.Until(token.Expiry) < 9*time.Minute || token.Extra("bound") != false {
				t.Errorf("the token is of type %s, expires at %s, bound: %v", token.Type(), token.Expiry, token.Extra("bound"))
			}
			if me := s.me(token.AccessToken).want(s, 200, ""); me.Doc.UUID != token.Extra("uuid") {
				t.Errorf("/v1/me answers the uuid %s, the login %v", me.Doc.UUID, token.Extra("uuid"))
			}
			// A program stores the token. When it has expired, the source refreshes, with
			// the successor each time.
			last := *token
			for range 2 {
				last.Expiry = time.Now().Add(-time.Second)
				next, err := config.TokenSource(ctx, &last).Token()
				if err != nil {
					t.Fatal(err)
				}
				s.note(next)
				if next.RefreshToken == last.RefreshToken || !next.Valid() {
					t.Error("the refresh returned the same tokens")
				}
				last = *next
			}
			if seen, want := f.forget(), []string{tc.seen, "GET /v1/me Bearer", tc.seen, tc.seen}; !slices.Equal(seen, want) {
				t.Errorf("the requests were %q, want %q", seen, want)
			}
		})
	}

	t.Run("x/oauth2's HTTP client refreshes by itself when the token has expired", func(t *testing.T) {
		s := s.in(t)
		config := client(oauth2.AuthStyleAutoDetect)
		token, err := config.Exchange(ctx, s.sim.mustCode("alice"), grant)
		if err != nil {
			t.Fatal(err)
		}
		s.note(token).Expiry = time.Now().Add(-time.Second)
		source := config.TokenSource(ctx, token)
		f.forget()
		resp, err := oauth2.NewClient(ctx, source).Get(s.base + "/v1/me")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if seen := f.forget(); resp.StatusCode != 200 || !slices.Equal(seen, []string{"POST /oauth2/token Basic", "GET /v1/me Bearer"}) {
			t.Errorf("status %d after the requests %q", resp.StatusCode, seen)
		}
		next, err := source.Token()
		if err != nil {
			t.Fatal(err)
		}
		s.note(next)
	})

	t.Run("x/oauth2 tries a failing code twice, and WeChat is asked once", func(t *testing.T) {
		s := s.in(t)
		s.sim.fault(map[string]any{"errcode": 40029})
		code := s.sim.mustCode("alice")
		f.forget()
		_, err := client(oauth2.AuthStyleAutoDetect).Exchange(ctx, code, grant)
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) || refused.ErrorCode != "invalid_grant" || refused.Response.StatusCode != http.StatusBadRequest {
			t.Errorf("error = %v, want 400 invalid_grant", err)
		}
		if seen := f.forget(); !slices.Equal(seen, []string{"POST /oauth2/token Basic", "POST /oauth2/token"}) {
			t.Errorf("requests = %q, want one with Basic and one without", seen)
		}
		if n := s.sim.timesSent(code); n != 1 {
			t.Errorf("WeChat was asked %d times, want once", n)
		}
	})

	t.Run("x/oauth2 reads the error of a refused refresh", func(t *testing.T) {
		s := s.in(t)
		a := s.logIn("alice")
		s.logOut(a.Doc.RefreshToken)
		_, err := client(oauth2.AuthStyleInParams).TokenSource(ctx, &oauth2.Token{RefreshToken: a.Doc.RefreshToken}).Token()
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) || refused.ErrorCode != "invalid_grant" || !strings.Contains(string(refused.Body), `"error_code":"session_revoked"`) {
			t.Errorf("error = %v, want invalid_grant with session_revoked", err)
		}
	})

	t.Run("go-oidc finds the server and verifies an access token with its defaults", func(t *testing.T) {
		s := s.in(t)
		provider, err := oidc.NewProvider(ctx, s.base)
		if err != nil {
			t.Fatal(err)
		}
		if e := provider.Endpoint(); e.TokenURL != s.base+"/oauth2/token" || e.AuthURL != "" {
			t.Errorf("endpoints = %+v, want only /oauth2/token", e)
		}
		// The defaults accept the algorithms in the metadata.
		verifier := provider.VerifierContext(ctx, &oidc.Config{ClientID: s.base})
		login := s.logIn("alice")
		token, err := verifier.Verify(ctx, login.Doc.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		if token.Subject != login.Doc.UUID || token.Issuer != s.base {
			t.Errorf("the token has the subject %s and the issuer %s", token.Subject, token.Issuer)
		}
	})

	t.Run("go-oidc's remote key set refuses a forgery, and fetches the keys once", func(t *testing.T) {
		s := s.in(t)
		first, second := s.logIn("alice").Doc.AccessToken, s.logIn("bob").Doc.AccessToken
		keys := oidc.NewRemoteKeySet(ctx, s.base+"/.well-known/jwks.json")
		f.forget()
		for _, token := range []string{first, second, first} {
			payload, err := keys.VerifySignature(ctx, token)
			if err != nil || !strings.Contains(string(payload), `"client_id":"`+s.app+`"`) {
				t.Errorf("got %s, error %v", payload, err)
			}
		}
		if seen := f.forget(); !slices.Equal(seen, []string{"GET /.well-known/jwks.json"}) {
			t.Errorf("requests = %q, want one for the JWK set", seen)
		}
		forged := first[:strings.LastIndex(first, ".")] + second[strings.LastIndex(second, "."):]
		if _, err := keys.VerifySignature(ctx, forged); err == nil {
			t.Error("the signature of another token is accepted")
		}
	})
}
