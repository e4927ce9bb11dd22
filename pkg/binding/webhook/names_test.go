package webhook_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/yufu-auth/yufu/pkg/binding/webhook"
)

// nameServer starts a DNS server that answers each query for IPv4 addresses with the next
// list, and then always with the last one. It returns a resolver that uses it.
func nameServer(t *testing.T, lists ...[]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	t.Cleanup(func() { _ = conn.Close(); served.Wait() })
	served.Go(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var question dnsmessage.Message
			if question.Unpack(buffer[:n]) != nil || len(question.Questions) != 1 {
				continue
			}
			q := question.Questions[0]
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: question.ID, Response: true, Authoritative: true}, Questions: question.Questions}
			if q.Type == dnsmessage.TypeA {
				for _, address := range lists[0] {
					reply.Answers = append(reply.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET},
						Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
					})
				}
				if len(lists) > 1 {
					lists = lists[1:]
				}
			}
			packed, err := reply.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.WriteTo(packed, from)
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// TestNames checks that no name leads to an address that is not allowed, for all
// addresses it resolves to at any time. The certificate of the test server names example.com.
func TestNames(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T, allowed string, lists ...[]string) (*backEnd, webhook.Endpoint, *webhook.Client) {
		b := serve(t, answer(http.StatusOK, named))
		to := b.endpoint(t)
		to.URL = strings.Replace(to.URL, "127.0.0.1", "example.com", 1)
		cfg := b.trusting()
		cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix(allowed)}
		c := newClient(t, cfg)
		c.SetResolver(nameServer(t, lists...))
		return b, to, c
	}
	t.Run("a name with an allowed address gets the request", func(t *testing.T) {
		t.Parallel()
		b, to, c := setUp(t, "127.0.0.1/32", []string{"127.0.0.1"})
		if _, err := c.Ask(t.Context(), to, liLei); err != nil {
			t.Fatal(err)
		}
		if b.asked.Load() != 1 {
			t.Errorf("%d requests, want 1", b.asked.Load())
		}
	})
	for _, address := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "100.100.100.200", "168.63.129.16"} {
		t.Run("a name with the address "+address+" gets no request", func(t *testing.T) {
			t.Parallel()
			b, to, c := setUp(t, "127.0.0.9/32", []string{address})
			if err := c.CheckURL(to.URL); err != nil {
				t.Fatalf("CheckURL() error = %v", err)
			}
			_, err := c.Ask(t.Context(), to, liLei)
			f := wantFailure(t, err, "the address "+address)
			if f.Timeout() || b.asked.Load() != 0 {
				t.Errorf("failure %+v after %d requests, want no timeout and 0 requests", f, b.asked.Load())
			}
		})
	}
	t.Run("a name that changes to a forbidden address gets no request there", func(t *testing.T) {
		t.Parallel()
		b, to, c := setUp(t, "127.0.0.1/32", []string{"127.0.0.1"}, []string{"127.0.0.2"}, []string{"127.0.0.1"})
		if _, err := c.Ask(t.Context(), to, liLei); err != nil {
			t.Fatal(err)
		}
		_, err := c.Ask(t.Context(), to, liLei)
		wantFailure(t, err, "the address 127.0.0.2")
		if _, err := c.Ask(t.Context(), to, liLei); err != nil {
			t.Fatal(err)
		}
		if b.asked.Load() != 2 {
			t.Errorf("%d requests, want 2", b.asked.Load())
		}
	})
	t.Run("of several addresses only the allowed one is dialled", func(t *testing.T) {
		t.Parallel()
		b, to, c := setUp(t, "127.0.0.1/32", []string{"127.0.0.2", "10.0.0.1", "127.0.0.1"})
		if _, err := c.Ask(t.Context(), to, liLei); err != nil {
			t.Fatal(err)
		}
		if b.asked.Load() != 1 {
			t.Errorf("%d requests, want 1", b.asked.Load())
		}
	})
	t.Run("a name that does not exist is a failure", func(t *testing.T) {
		t.Parallel()
		_, to, c := setUp(t, "127.0.0.1/32", nil)
		_, err := c.Ask(t.Context(), to, liLei)
		wantFailure(t, err, "no such host")
	})
}

func TestNoProxyIsUsed(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	b := serve(t, answer(http.StatusOK, named))
	to := b.endpoint(t)
	// Not a loopback address or name, which the rules for proxies exempt anyway.
	to.URL = strings.Replace(to.URL, "127.0.0.1", "example.com", 1)
	c := newClient(t, b.trusting())
	c.SetResolver(nameServer(t, []string{"127.0.0.1"}))
	if _, err := c.Ask(t.Context(), to, liLei); err != nil {
		t.Errorf("Ask() error = %v", err)
	}
}
