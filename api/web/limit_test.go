package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/web"
)

func TestLimiter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	alice, bob := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	limiter := func(t *testing.T, perMinute int) *web.Limiter[netip.Addr] {
		t.Helper()
		l := web.NewLimiter[netip.Addr](perMinute)
		t.Cleanup(l.Close)
		return l
	}
	// take has an event that is allowed and happens.
	take := func(l *web.Limiter[netip.Addr], client netip.Addr, at time.Time) time.Duration {
		wait := l.Take(client, at)
		if wait == 0 {
			l.Charge(client, at)
		}
		return wait
	}
	t.Run("the burst is allowed, then the wait is returned, and the allowance refills steadily", func(t *testing.T) {
		t.Parallel()
		l := limiter(t, 60)
		for i := range 60 {
			if wait := take(l, alice, now); wait != 0 {
				t.Fatalf("event %d has to wait %s", i, wait)
			}
		}
		for range 100 { // Wait does not change the allowance
			if wait := l.Wait(alice, now); wait != time.Second {
				t.Fatalf("Wait() = %s, want 1s", wait)
			}
		}
		if wait := take(l, bob, now); wait != 0 {
			t.Errorf("another client waits %s", wait)
		}
		if wait := take(l, alice, now.Add(time.Second)); wait != 0 {
			t.Errorf("after a second: wait %s", wait)
		}
		if wait := take(l, alice, now.Add(time.Second)); wait != time.Second {
			t.Errorf("a second one: wait %s, want 1s", wait)
		}
		for i := range 60 {
			if wait := take(l, alice, now.Add(2*time.Minute)); wait != 0 {
				t.Fatalf("when full again, event %d has to wait %s", i, wait)
			}
		}
		if take(l, alice, now.Add(2*time.Minute)) == 0 {
			t.Error("the allowance grew beyond the burst")
		}
	})
	t.Run("a spent allowance lets one event a second through however slow the refill is", func(t *testing.T) {
		t.Parallel()
		l := limiter(t, 6)
		for range 100 { // far overdrawn
			l.Charge(alice, now)
		}
		for i := range 120 {
			at := now.Add(time.Duration(i+1) * time.Second)
			if wait := l.Wait(alice, at.Add(-time.Millisecond)); wait != time.Millisecond {
				t.Fatalf("just before second %d: wait %s, want 1ms", i+1, wait)
			}
			for range 10 { // Wait does not use up the event
				if wait := l.Wait(alice, at); wait != 0 {
					t.Fatalf("in second %d: wait %s, want none", i+1, wait)
				}
			}
			if wait := l.Take(alice, at); wait != 0 {
				t.Fatalf("the event of second %d has to wait %s", i+1, wait)
			}
			if wait := l.Take(alice, at); wait != time.Second {
				t.Fatalf("a second event in second %d: wait %s, want 1s", i+1, wait)
			}
			if i%2 == 0 {
				l.Charge(alice, at.Add(900*time.Millisecond)) // the event was slow
			}
		}
	})
	t.Run("Return gives back an event that did not happen", func(t *testing.T) {
		t.Parallel()
		l := limiter(t, 1)
		l.Charge(alice, now)
		later := now.Add(time.Second)
		for range 10 {
			if wait := l.Take(alice, later); wait != 0 {
				t.Fatalf("Wait() = %s, want 0", wait)
			}
			l.Return(alice)
		}
		l.Return(bob)
		if wait := l.Take(bob, now); wait != 0 {
			t.Errorf("another key waits %s", wait)
		}
	})
	t.Run("a clock that goes back makes no wait longer", func(t *testing.T) {
		t.Parallel()
		l := limiter(t, 1)
		l.Charge(alice, now)
		if wait := l.Wait(alice, now.Add(-time.Hour)); wait != time.Second {
			t.Errorf("Wait() = %s, want 1s", wait)
		}
	})
	t.Run("concurrent events are all counted", func(t *testing.T) {
		t.Parallel()
		l := limiter(t, 1000)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { l.Charge(alice, now) })
		}
		wg.Wait()
		if l.Wait(alice, now) == 0 || l.Wait(alice, now.Add(time.Minute/1000)) != 0 {
			t.Errorf("Wait() after exactly the burst = %s", l.Wait(alice, now))
		}
	})
	t.Run("zero means no limit", func(t *testing.T) {
		t.Parallel()
		l := limiter(t, 0)
		for range 10_000 {
			if take(l, alice, now) != 0 {
				t.Fatal("NewLimiter(0) limits events")
			}
		}
	})
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.7":                  "192.0.2.7/32",
		"::ffff:192.0.2.7":           "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6":       "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff:4:5:6":    "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::1%wlan0": "2001:db8:1:2::/64",
		"2001:db8:1:3:ffff:4:5:6":    "2001:db8:1:3::/64",
	} {
		if got := web.Network(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if web.Network(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("clients without an address are not counted together")
	}
}

func TestClientIP(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, tc := range map[string]struct {
		proxies []netip.Prefix
		peer    string
		header  []string
		want    string
	}{
		"the connection's, without proxies":           {nil, "192.0.2.1:99", []string{"203.0.113.5"}, "192.0.2.1"},
		"the header's, from a proxy":                  {proxies, "10.1.1.1:99", []string{"203.0.113.5"}, "203.0.113.5"},
		"the connection's, from an untrusted peer":    {proxies, "192.0.2.1:99", []string{"203.0.113.5"}, "192.0.2.1"},
		"the last address that is not a proxy's":      {proxies, "10.1.1.1:99", []string{"1.2.3.4, 203.0.113.5, 10.2.2.2"}, "203.0.113.5"},
		"of several headers the last counts":          {proxies, "10.1.1.1:99", []string{"1.2.3.4", "203.0.113.5"}, "203.0.113.5"},
		"no address, when the proxy sends garbage":    {proxies, "10.1.1.1:99", []string{"203.0.113.5, evil"}, "invalid IP"},
		"an address with a port":                      {proxies, "10.1.1.1:99", []string{"203.0.113.5:5001"}, "203.0.113.5"},
		"an IPv6 address with a port":                 {proxies, "10.1.1.1:99", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		"an IPv6 address in brackets":                 {proxies, "10.1.1.1:99", []string{"[2001:db8::1]"}, "2001:db8::1"},
		"an IPv6 address whose end looks like a port": {proxies, "10.1.1.1:99", []string{"2001:db8::443"}, "2001:db8::443"},
		"an address in quotes":                        {proxies, "10.1.1.1:99", []string{`"[2001:db8::1]:443"`}, "2001:db8::1"},
		"proxies with ports are skipped":              {proxies, "10.1.1.1:99", []string{"203.0.113.5:5001, 10.2.2.2:443"}, "203.0.113.5"},
		"a proxy with a port and a mapped address":    {proxies, "10.1.1.1:99", []string{"203.0.113.5, [::ffff:10.2.2.2]:443"}, "203.0.113.5"},
		"no address, when the port is malformed":      {proxies, "10.1.1.1:99", []string{"203.0.113.5:https"}, "invalid IP"},
		"an IPv4-mapped address is the IPv4 address":  {nil, "[::ffff:192.0.2.1]:99", nil, "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got netip.Addr
			h := web.ClientIP(tc.proxies, func(netip.Addr) {})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = web.ClientAddr(r.Context()) }))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.RemoteAddr = tc.peer
			for _, v := range tc.header {
				r.Header.Add("X-Forwarded-For", v)
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got.String() != tc.want {
				t.Errorf("client = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestForwardedForUntrusted(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	var peers []netip.Addr
	h := web.ClientIP(proxies, func(peer netip.Addr) { peers = append(peers, peer) })(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(peer, header string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = peer
		if header != "" {
			r.Header.Set("X-Forwarded-For", header)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("10.1.1.1:99", "203.0.113.5")
	ask("192.0.2.1:99", "")
	if len(peers) != 0 {
		t.Errorf("reported %v before an untrusted peer sent the header", peers)
	}
	ask("[::ffff:192.0.2.1]:99", "203.0.113.5")
	ask("192.0.2.2:99", "203.0.113.5")
	if len(peers) != 1 || peers[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("reported %v, want 192.0.2.1 once", peers)
	}
}
