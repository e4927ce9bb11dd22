package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/bearer"
)

// fleet is the set of replicas that accept requests at the moment.
type fleet struct {
	http *http.Client

	mu   sync.Mutex
	live []*service
}

func (f *fleet) add(s *service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = append(f.live, s)
}

func (f *fleet) remove(s *service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = slices.DeleteFunc(f.live, func(l *service) bool { return l == s })
}

// any returns one replica.
func (f *fleet) any() *service {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live[rand.N(len(f.live))]
}

// post posts a form until a replica accepts it. The form must be safe to repeat.
func (f *fleet) post(ctx context.Context, path string, form url.Values) (a answer, err error) {
	for range 10 {
		if a, err = f.try(ctx, path, form); err == nil && a.Status != http.StatusServiceUnavailable || ctx.Err() != nil {
			break
		}
	}
	return a, err
}

func (f *fleet) try(ctx context.Context, path string, form url.Values) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.any().base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return f.send(req)
}

func (f *fleet) send(req *http.Request) (answer, error) {
	resp, err := f.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a := answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	_ = json.Unmarshal(body, &a.Doc) // not every answer is an object
	return a, err
}

// balancer returns one address in front of the fleet, for followers of the feed.
func (f *fleet) balancer(t *testing.T) string {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			target, _ := url.Parse(f.any().base)
			r.SetURL(target)
		},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // stopped replicas are expected
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	return srv.URL
}

// cacher is a validator that uses the whole cache lifetime: it keeps a copy of the JWK set
// for exactly max-age, and does not fetch the set meanwhile, even for an unknown key.
type cacher struct {
	fleet *fleet

	mu      sync.Mutex
	keys    map[string]*ecdsa.PublicKey
	expires time.Time
}

func (c *cacher) key(kid string) (*ecdsa.PublicKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !time.Now().Before(c.expires) {
		if err := c.fetch(); err != nil {
			return nil, err
		}
	}
	key := c.keys[kid]
	if key == nil {
		return nil, fmt.Errorf("no key %s in a copy of the JWK set that is valid until %s", kid, c.expires)
	}
	return key, nil
}

func (c *cacher) fetch() error {
	var a answer
	var asked time.Time
	err := errors.New("not fetched")
	for i := 0; i < 10 && (err != nil || a.Status != http.StatusOK); i++ {
		var req *http.Request
		if req, err = http.NewRequest(http.MethodGet, c.fleet.any().base+"/.well-known/jwks.json", nil); err == nil {
			asked = time.Now()
			a, err = c.fleet.send(req)
		}
	}
	var set struct {
		Keys []struct{ KID, X, Y string }
	}
	var seconds int
	if err == nil {
		_, err = fmt.Sscanf(a.Header.Get("Cache-Control"), "public, max-age=%d", &seconds)
	}
	if err == nil {
		err = json.Unmarshal([]byte(a.Body), &set)
	}
	if err != nil {
		return err
	}
	keys := map[string]*ecdsa.PublicKey{}
	for _, k := range set.Keys {
		x, _ := base64.RawURLEncoding.DecodeString(k.X)
		y, _ := base64.RawURLEncoding.DecodeString(k.Y)
		if keys[k.KID], err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y)); err != nil {
			return err
		}
	}
	c.keys, c.expires = keys, asked.Add(time.Duration(seconds)*time.Second)
	return nil
}

func (c *cacher) verify(_ context.Context, token string) error {
	_, err := jwt.Parse(token, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		return c.key(kid)
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithExpirationRequired())
	return err
}

// kidOf returns the kid in an access token.
func kidOf(token string) string {
	head, _, _ := strings.Cut(token, ".")
	b, _ := base64.RawURLEncoding.DecodeString(head)
	var h struct {
		KID string `json:"kid"`
	}
	_ = json.Unmarshal(b, &h)
	return h.KID
}

// TestRotationUnderLoad has 1,000 clients that refresh and whose tokens are verified while
// keys rotate as fast as the JWK set's max-age allows, replicas restart in turn, and a key
// is retired as leaked.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	const (
		clients  = 1000
		replicas = 3
		bound    = 30 * time.Second // YUFU_MAX_STALENESS, the promise
	)
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	d.env["YUFU_JWKS_MAX_AGE"] = "2s"
	d.env["YUFU_MAX_STALENESS"] = bound.String()
	d.env["YUFU_ACCESS_TOKEN_TTL"] = "2m" // tokens of a retired key outlive the bound
	h.mustRun(d.env, "", "migrate")
	d.addApp()
	f := &fleet{http: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 16, MaxIdleConnsPerHost: 16}, Timeout: patience}}
	type running struct {
		p *process
		s *service
	}
	var up []running
	for i := range replicas {
		p, s := d.serve(fmt.Sprint("replica ", i))
		up = append(up, running{p, s})
		f.add(s)
	}
	admin := up[0].s.client(d.serviceKey("admin"))
	verifier, err := bearer.New(t.Context(), bearer.Config{Issuer: issuer, URL: f.balancer(t), ServiceKey: d.serviceKey("service")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { verifier.Close() })
	follows := func(ctx context.Context, token string) error {
		_, err := verifier.Verify(ctx, token)
		return err
	}
	// Many, so that some have a copy from just before each publication of a key.
	caches := make([]*cacher, 20)
	c := &crowd{fleet: f, sim: d.sim.base, dead: map[string]bool{}, signed: map[string]string{}}
	for i := range caches {
		caches[i] = &cacher{fleet: f}
		c.validators = append(c.validators, caches[i].verify, follows)
	}

	// rotate promotes the next keys and returns the signing key.
	rotate := func() string {
		a, err := admin.RotateSigningKeys(t.Context(), adminclient.Rotation{})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(a.SigningKeys, func(k adminclient.SigningKey) bool { return k.Use == "access" })
		return a.SigningKeys[i].KID
	}
	taken := func(kid string) {
		h.eventually("clients have tokens of "+kid, func() bool { return c.has(kid) })
	}

	first := rotate()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var done sync.WaitGroup
	turns := make(chan struct{}, 32) // concurrent logins
	began := time.Now()
	var in sync.WaitGroup
	for i := range clients {
		in.Add(1)
		done.Go(func() {
			turns <- struct{}{}
			a, err := c.logIn(ctx, fmt.Sprint("user", i))
			<-turns
			in.Done()
			if err != nil {
				c.fail(fmt.Errorf("a login: %w", err))
				return
			}
			c.live(ctx, a)
		})
	}
	in.Wait()
	t.Logf("%d clients logged in within %s", clients, time.Since(began))

	taken(first)
	second := rotate()
	taken(second)

	// The signing key has leaked while the next one is too new to sign.
	c.mu.Lock()
	stolen := c.signed[second]
	c.dead[second] = true
	c.mu.Unlock()
	h.mustRun(d.env, "", "keys", "retire", second, "--now", "--reason", "a test")
	answered := time.Now()
	var refusedAfter time.Duration
	for follows(ctx, stolen) == nil {
		if refusedAfter = time.Since(answered); refusedAfter > bound {
			t.Fatal("a back end that follows the feed accepts a token of the leaked key after the bound")
		}
	}
	t.Logf("a back end that follows the feed refuses the leaked key %s after the command", refusedAfter)

	// Replicas restart in turn while the feed, the copies and the keys change.
	for i := range up {
		f.remove(up[i].s)
		up[i].p.stop()
		wantNothingLost(up[i].p)
		up[i].p, up[i].s = d.serve(fmt.Sprintf("replica %d, restarted", i))
		f.add(up[i].s)
	}
	admin = up[0].s.client(d.serviceKey("admin"))
	third := rotate()
	taken(third)
	fourth := rotate()
	taken(fourth)
	if got := follows(ctx, stolen); got == nil {
		t.Error("a token of the leaked key is accepted again")
	}
	for i, v := range caches {
		if v.verify(ctx, stolen) == nil {
			t.Errorf("validator %d still has the leaked key long after its copy has expired", i)
		}
	}
	h.eventually("the clients have made their refreshes", func() bool { return c.refreshes.Load() >= clients || c.failed() })
	stop()
	done.Wait()

	for _, r := range up {
		wantNothingLost(r.p)
	}
	for _, err := range c.failures {
		t.Error(err)
	}
	list := h.mustRun(d.env, "", "keys", "list")
	if n := strings.Count(list, "refresh"); n < 5 {
		t.Errorf("the MAC keys did not rotate:\n%s", list)
	}
	t.Logf("%d refreshes, %d checks, %d keys signed, in %s", c.refreshes.Load(), c.checks.Load(), len(c.signed), time.Since(began))
}

// TestKeyCommandsBesideService changes the keys of a database with the commands while the
// service runs, which must notice by itself.
func TestKeyCommandsBesideService(t *testing.T) {
	t.Parallel()
	for kind, database := range map[string]func(t *testing.T, h *harness) string{
		"PostgreSQL": func(t *testing.T, _ *harness) string { return pgtest.Empty(t) },
		"SQLite":     func(_ *testing.T, h *harness) string { return "sqlite:" + h.file("yufu.db", "") },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			d := deploy(h, database(t, h))
			_, s := d.serve("yufu", "--migrate")
			d.addApp()
			jwks := func() *answer { return s.must(s.get(s.base+"/.well-known/jwks.json", "")).want(s, 200, "") }
			if got := jwks().Header.Get("Cache-Control"); got != "public, max-age=300" {
				t.Errorf("Cache-Control = %q", got)
			}
			alice := s.logIn("alice")
			dead := kidOf(alice.Doc.AccessToken)

			h.mustRun(d.env, "", "keys", "rotate", "--now", "--use", "access")
			h.eventually("another key signs", func() bool { return kidOf(s.logIn("bob").Doc.AccessToken) != dead })
			s.me(alice.Doc.AccessToken).want(s, 200, "")
			if pem := h.mustRun(d.env, "", "keys", "export", "--pem"); strings.Count(pem, "BEGIN PUBLIC KEY") != 3 {
				t.Errorf("keys export --pem = %s, want 3 public keys", pem)
			}

			h.mustRun(d.env, "", "keys", "retire", dead, "--now", "--reason", "a test")
			h.eventually("the token of the leaked key is refused", func() bool { return s.me(alice.Doc.AccessToken).Status == 401 })
			// Either the cutoff arrives first or the key is dropped first.
			h.eventually("the leaked key is withdrawn", func() bool { return !strings.Contains(jwks().Body, dead) })
			again := s.refresh(alice.Doc.RefreshToken).want(s, 200, "")
			s.me(again.Doc.AccessToken).want(s, 200, "")

			var mac string
			for line := range strings.Lines(h.mustRun(d.env, "", "keys", "list")) {
				if f := strings.Fields(line); f[1] == "refresh" && f[3] == "current" {
					mac = f[0]
				}
			}
			h.mustRun(d.env, "", "keys", "retire", mac, "--now")
			s.me(again.Doc.AccessToken).want(s, 401, "session_revoked")
			h.eventually("the refresh token of the leaked MAC key is refused as invalid", func() bool {
				return s.refresh(again.Doc.RefreshToken).code() == "refresh_invalid"
			})
			relogin := s.logIn("alice")
			s.refresh(relogin.Doc.RefreshToken).want(s, 200, "")
		})
	}
}
