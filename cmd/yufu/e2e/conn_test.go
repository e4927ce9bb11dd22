package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/pgtest"
)

func TestForeignTokens(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	// Two deployments with the same issuer and app, and different keys.
	ours := deploy(h, pgtest.Empty(t))
	p, s := ours.serve("yufu", "--migrate")
	ours.addApp()
	theirs := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	_, other := theirs.serve("another yufu", "--migrate")
	theirs.addApp()
	const secondApp = "wxe2e0000000000002"
	h.mustRun(ours.env, h.appSecret(), "app", "add", secondApp, "--secret-file", "-")
	second := *s
	second.app = secondApp

	alice, stranger := s.logIn("alice"), other.logIn("alice")
	t.Run("another deployment's tokens are refused", func(t *testing.T) {
		s := s.in(t)
		s.refresh(stranger.Doc.RefreshToken).want(s, 400, "refresh_invalid")
		s.me(stranger.Doc.AccessToken).want(s, 401, "token_invalid")
		s.logOut(stranger.Doc.RefreshToken)
		s.logOut(stranger.Doc.AccessToken)
		other.in(t).me(stranger.Doc.AccessToken).want(other.in(t), 200, "")
	})
	t.Run("another app's refresh token is refused, and its session cannot be ended", func(t *testing.T) {
		second := second.in(t)
		second.refresh(alice.Doc.RefreshToken).want(second, 400, "refresh_invalid")
		second.must(second.tryLogout(alice.Doc.RefreshToken)).want(second, 400, "token_client_mismatch")
		second.must(second.tryLogout(alice.Doc.AccessToken)).want(second, 400, "token_client_mismatch")
	})
	t.Run("access and refresh tokens do not replace each other", func(t *testing.T) {
		s := s.in(t)
		s.refresh(alice.Doc.AccessToken).want(s, 400, "refresh_invalid")
		s.me(alice.Doc.RefreshToken).want(s, 401, "token_invalid")
	})
	t.Run("identifiers are not accepted as tokens", func(t *testing.T) {
		s := s.in(t)
		session := s.me(alice.Doc.AccessToken).Doc.Session.ID
		for _, id := range []string{alice.Doc.UUID, session, testApp} {
			s.me(id).want(s, 401, "token_invalid")
			s.refresh(id).want(s, 400, "refresh_invalid")
			s.logOut(id)
			s.must(s.get(s.base+"/v1/me?uuid="+alice.Doc.UUID, "")).want(s, 401, "token_missing")
		}
	})
	s.me(alice.Doc.AccessToken).want(s, 200, "")
	s.refresh(alice.Doc.RefreshToken).want(s, 200, "")
	p.wantHealthy()
}

func TestPipelining(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	alice := s.logIn("alice")
	w, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	requests := []struct {
		send   string
		status int
	}{
		{raw("GET", "/v1/me", "Authorization: Bearer "+alice.Doc.AccessToken+"\r\n", ""), 200},
		{raw("GET", "/nowhere", "", ""), 404},
		{postForm("grant_type=refresh_token&client_id=" + testApp + "&refresh_token=" + alice.Doc.RefreshToken), 200},
		{postForm("grant_type=password"), 400},
		{getMe(""), 401},
		{raw("POST", "/oauth2/token", "", "x=y"), 415},
		{raw("GET", "/.well-known/jwks.json", "", ""), 200},
	}
	// All requests are sent twenty times before the first answer is read.
	const rounds = 20
	var all strings.Builder
	for range rounds {
		for _, r := range requests {
			all.WriteString(r.send)
		}
	}
	if err := w.send(all.String()); err != nil {
		t.Fatal(err)
	}
	for i := range rounds * len(requests) {
		a, err := w.answer("GET", "a pipelined request")
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if want := requests[i%len(requests)].status; a.Status != want {
			t.Errorf("answer %d is %d %s, want %d", i, a.Status, a.Body, want)
		}
	}
	p.wantHealthy()
}

// TestSlowClients fills a service with clients that hold a connection and send almost
// nothing.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	// drips are the incomplete requests of the clients.
	drips := map[string]string{
		"send nothing":                "",
		"never finish their line":     "POST /oauth2/tok",
		"never finish their header":   "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nX-A: b\r\n",
		"never finish their body":     raw("POST", "/oauth2/token", formType+"Content-Length: 100\r\n", "") + "grant_type=",
		"never finish their chunk":    raw("POST", "/oauth2/token", formType+isChunked, "64\r\ngrant_type="),
		"never ask for their body":    raw("POST", "/oauth2/token", formType+"Expect: 100-continue\r\nContent-Length: 100\r\n", ""),
		"never send an unneeded body": raw("GET", "/v1/me", "Content-Length: 100\r\n", ""),
	}
	const each = 8
	fill := func(t *testing.T, s *service) []*wire {
		t.Helper()
		var all []*wire
		for range each {
			for _, say := range drips {
				w, err := s.dial()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(w.close)
				if err := w.send(say); err != nil {
					t.Fatal(err)
				}
				all = append(all, w)
			}
		}
		return all
	}

	t.Run("other clients are served, and all slow clients are cut", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		p, s := d.serve("yufu", "--migrate")
		d.addApp()
		slow := fill(t, s)
		alice := s.logIn("alice")
		for range 20 {
			alice = s.refresh(alice.Doc.RefreshToken).want(s, 200, "")
		}
		var all sync.WaitGroup
		errs := make(chan error, len(slow))
		for _, w := range slow {
			all.Go(func() { errs <- w.cut() })
		}
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		p.wantHealthy()
	})

	t.Run("clients that take every connection do not block others", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		d.env["YUFU_MAX_CONNECTIONS"] = fmt.Sprint(each * len(drips))
		d.env["YUFU_TRUSTED_PROXIES"] = "127.0.0.0/8" // they come through a proxy, which may use all connections
		p, s := d.serve("yufu", "--migrate")
		d.addApp()
		fill(t, s)
		s.logIn("alice")
		p.wantHealthy()
	})

	t.Run("two addresses that take every connection do not block others", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		d.env["YUFU_MAX_CONNECTIONS"] = "20"
		p, s := d.serve("yufu", "--migrate")
		d.addApp()
		take := func(base string, each int) {
			for range each {
				for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
					// Idle for two minutes, if the service allows it.
					w := &wire{s: s, conn: holdOpen(t, from, base, 1)[0]}
					_ = w.send(raw("GET", "/nowhere", "", "")) // it may be closed by now
				}
			}
		}
		take(s.base, 70)
		take(s.admin, 600)
		for range 5 {
			s.logIn("alice")
		}
		wantAnswered(t, s.base+"/.well-known/jwks.json")
		wantAnswered(t, s.admin+"/healthz")
		p.wantHealthy()
	})

	t.Run("the clients of one network leave half of the connections to others", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		d.env["YUFU_MAX_CONNECTIONS"] = "8"
		p, s := d.serve("yufu", "--migrate")
		wantFirstClosed(t, s, s.base, 5)
		wantAnswered(t, s.base+"/.well-known/jwks.json")
		p.wantHealthy()
	})
}

// TestAdminConnections opens more than half of the admin listener's connections from
// one network.
func TestAdminConnections(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	p, s := d.serve("yufu", "--migrate")
	wantFirstClosed(t, s, s.admin, 600)
	wantAnswered(t, s.admin+"/healthz")
	p.wantHealthy()
}

// wantFirstClosed opens more connections from one network than its half. The last is
// served, and the first is closed for it.
func wantFirstClosed(t *testing.T, s *service, base string, n int) {
	t.Helper()
	all := holdOpen(t, "127.0.0.1", base, n)
	last := all[len(all)-1]
	w := &wire{s, last, bufio.NewReader(last)}
	if err := w.send(raw("GET", "/nowhere", "", "")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.answer("GET", "the last connection"); err != nil {
		t.Errorf("the last connection is not served: %v", err)
	}
	if _, err := all[0].Read(make([]byte, 1)); !hungUp(err) {
		t.Errorf("reading the first connection: error = %v, want it closed", err)
	}
}

// holdOpen opens connections from one network, which are closed when the test ends.
func holdOpen(t *testing.T, from, base string, n int) []*net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	var all []*net.TCPConn
	for range n {
		c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		all = append(all, c.(*net.TCPConn))
	}
	return all
}

// wantAnswered fails the test unless a request from another network is answered.
func wantAnswered(t *testing.T, url string) {
	t.Helper()
	elsewhere := &http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 4)}}).DialContext,
	}, Timeout: patience}
	defer elsewhere.CloseIdleConnections()
	resp, err := elsewhere.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a request from another network gets %d", resp.StatusCode)
	}
}

// cut waits until the server closes the connection of a slow client.
func (w *wire) cut() error {
	for {
		a, err := w.answer("GET", "a slow client")
		if hungUp(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if a.Status >= 500 {
			return fmt.Errorf("a slow client gets the answer %d %s", a.Status, a.Body)
		}
	}
}
