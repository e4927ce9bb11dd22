package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// orders is the sample back end of pkg/bearer in its own process.
type orders struct {
	p    *process
	base string
}

// ordersBinary builds the sample back end once, beside the program.
var ordersBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "orders")
	return path, build(path, filepath.Join("..", "..", "..", "pkg", "bearer", "example"))
})

// backEnd starts the sample back end, which verifies the tokens of the service at url,
// and waits until it can.
func (h *harness) backEnd(name, url, key string) *orders {
	h.t.Helper()
	o := h.startBackEnd(name, url, key)
	h.eventually(name+" is ready", func() bool { return o.status("/readyz", "") == http.StatusOK })
	return o
}

// startBackEnd is backEnd without waiting until it can verify tokens.
func (h *harness) startBackEnd(name, url, key string) *orders {
	h.t.Helper()
	path, err := ordersBinary()
	if err != nil {
		h.t.Fatal(err)
	}
	p := h.prepare(name, settings{
		"YUFU_ISSUER": issuer, "YUFU_URL": url, "YUFU_SERVICE_KEY": key, "ORDERS_LISTEN": "127.0.0.1:0",
	}, nil)
	p.cmd.Path, p.cmd.Args = path, []string{path}
	h.launch(p)
	const listening = "listening on "
	text := p.await(p.stdout, "its address", func(text string) bool {
		return strings.Contains(text, listening) && strings.HasSuffix(text, "\n")
	})
	_, base, _ := strings.Cut(strings.TrimSpace(text), listening)
	return &orders{p, base}
}

// plain is the client for back ends, whose answers the contract does not describe.
var plain = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}

// status returns the status of an answer, or 0 without an answer.
func (o *orders) status(path, token string) int {
	req, err := http.NewRequest(http.MethodGet, o.base+path, nil)
	if err != nil {
		return 0
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := plain.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestRevocationReachesEveryBackEnd has three replicas on one database and ten back ends
// in their own processes. It measures the time from the admin's answer to the last back
// end's refusal.
func TestRevocationReachesEveryBackEnd(t *testing.T) {
	t.Parallel()
	const (
		replicas  = 3
		backEnds  = 10
		rounds    = 200
		bound     = 30 * time.Second // YUFU_MAX_STALENESS, the promise
		appRounds = 10               // the revocation of an app ends all sessions
	)
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	h.mustRun(d.env, "", "migrate")
	d.addApp()
	var services []*service
	for i := range replicas {
		_, s := d.serve(fmt.Sprint("replica ", i))
		services = append(services, s)
	}
	admin, reader := d.serviceKey("admin"), d.serviceKey("service")
	var watchers []*orders
	for i := range backEnds {
		watchers = append(watchers, h.backEnd(fmt.Sprint("orders ", i), services[i%replicas].base, reader))
	}

	var took []time.Duration
	for round := range rounds {
		s := services[round%replicas]
		a := s.logIn(fmt.Sprint("user", round))
		token := a.Doc.AccessToken
		session := s.me(token).Doc.Session.ID
		for _, o := range watchers {
			if got := o.status("/orders", token); got != http.StatusOK {
				t.Fatalf("round %d: %s answers %d before the revocation", round, o.p.name, got)
			}
		}
		q := adminclient.Revocation{Reason: "e2e"}
		switch kind := round % 4; {
		case kind == 0:
			q.Session = ptr(uuid.MustParse(session))
		case kind == 1:
			q.UUID = ptr(uuid.MustParse(a.Doc.UUID))
		case kind == 2:
			q.Token = token
		case round < 4*appRounds:
			q.App = testApp
		default:
			q.Token = a.Doc.RefreshToken
		}
		other := services[(round+1)%replicas]
		r := other.revoke(other.client(admin), q)
		answered := time.Now()
		if r.SessionsRevoked < 1 || r.EffectiveBy.After(answered.Add(bound+time.Second)) {
			t.Errorf("round %d: revocation = %+v, want at least 1 session, effective within %s", round, r, bound)
		}
		var all sync.WaitGroup
		for _, o := range watchers {
			all.Go(func() {
				for o.status("/orders", token) != http.StatusUnauthorized {
					if time.Since(answered) > bound {
						t.Errorf("round %d: %s accepts the token after the bound", round, o.p.name)
						return
					}
				}
			})
		}
		all.Wait()
		took = append(took, time.Since(answered))
		s.must(s.tryRefresh(a.Doc.RefreshToken)).want(s, 400, "session_revoked")
		s.me(token).want(s, 401, "session_revoked")
	}
	slices.Sort(took)
	t.Logf("from the admin's answer to the last of %d back ends' refusals, over %d revocations: p50 %s, p99 %s, max %s",
		backEnds, rounds, took[rounds/2], took[rounds*99/100], took[rounds-1])
}

// untilStale sends requests until the back end answers that its data is too old, which
// must happen by the given time.
func (o *orders) untilStale(token string, by time.Time) {
	t := o.p.h.t
	t.Helper()
	for {
		asked := time.Now()
		got := o.status("/orders", token)
		if got == http.StatusServiceUnavailable {
			return
		}
		if got != http.StatusOK {
			t.Fatalf("the back end answers %d", got)
		}
		if asked.After(by) {
			t.Fatal("the back end accepts a revoked token after effective_by")
		}
	}
}

// TestBackEndCutOff cuts a back end's connection to the service: it must not accept a
// revoked token for longer than promised.
func TestBackEndCutOff(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	d.env["YUFU_MAX_STALENESS"] = "10s"
	h.mustRun(d.env, "", "migrate")
	d.addApp()
	_, s := d.serve("yufu")
	admin, reader := d.serviceKey("admin"), d.serviceKey("service")
	line := pgtest.NewProxy(t, strings.TrimPrefix(s.base, "http://"))
	o := h.backEnd("orders", "http://"+line.Addr(), reader)
	good, revoked := s.logIn("alice").Doc.AccessToken, s.logIn("bob")
	h.eventually("the back end accepts the token", func() bool { return o.status("/orders", revoked.Doc.AccessToken) == http.StatusOK })
	// As when a cable is pulled: no data arrives, and no connection is closed.
	line.Deafen(true)
	line.Swallow()
	session := uuid.MustParse(s.me(revoked.Doc.AccessToken).Doc.Session.ID)
	r := s.revoke(s.client(admin), adminclient.Revocation{Session: &session})
	o.untilStale(revoked.Doc.AccessToken, r.EffectiveBy)
	if got := o.status("/orders", good); got != http.StatusServiceUnavailable {
		t.Errorf("the back end answers %d to a token although its data is too old", got)
	}
	line.Deafen(false)
	line.Cut()
	h.eventually("the back end accepts tokens again", func() bool { return o.status("/orders", good) == http.StatusOK })
	if got := o.status("/orders", revoked.Doc.AccessToken); got != http.StatusUnauthorized {
		t.Errorf("after the reconnect the revoked token gets %d, want 401", got)
	}
}

// TestReplicaCutOff cuts the replica's connection to its database while the back end's
// connection to the replica works.
func TestReplicaCutOff(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	d.env["YUFU_MAX_STALENESS"] = "10s"
	h.mustRun(d.env, "", "migrate")
	d.addApp()
	database, err := url.Parse(d.env["YUFU_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	line := pgtest.NewProxy(t, database.Host)
	database.Host = line.Addr()
	behind := *d
	behind.env = d.env.with(settings{"YUFU_DATABASE_URL": database.String()})
	_, far := behind.serve("the replica that is cut off")
	_, s := d.serve("another replica")
	admin, reader := d.serviceKey("admin"), d.serviceKey("service")
	o := h.backEnd("orders", far.base, reader)
	good, revoked := s.logIn("alice").Doc.AccessToken, s.logIn("bob")
	h.eventually("the back end accepts the token", func() bool { return o.status("/orders", revoked.Doc.AccessToken) == http.StatusOK })
	line.Deafen(true)
	line.Swallow()
	session := uuid.MustParse(s.me(revoked.Doc.AccessToken).Doc.Session.ID)
	r := s.revoke(s.client(admin), adminclient.Revocation{Session: &session})
	o.untilStale(revoked.Doc.AccessToken, r.EffectiveBy)
	if got := o.status("/orders", good); got != http.StatusServiceUnavailable {
		t.Errorf("the back end answers %d to a token although its replica's data is too old", got)
	}
	line.Deafen(false)
	line.Cut()
	h.eventually("the back end accepts tokens again", func() bool { return o.status("/orders", good) == http.StatusOK })
	if got := o.status("/orders", revoked.Doc.AccessToken); got != http.StatusUnauthorized {
		t.Errorf("after the reconnect the revoked token gets %d, want 401", got)
	}
}
