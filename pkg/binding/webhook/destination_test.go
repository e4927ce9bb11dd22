package webhook

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	public := []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "223.255.255.255", "::ffff:8.8.8.8",
		"2606:4700:4700::1111", "2400:3200::1", "2001:200::1", "2003::1", "3ffe::1",
	}
	special := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
		"168.63.129.16", "169.254.0.23", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
		"192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1",
		"2001::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "2606:4700::1111%eth0", "fec0::1", "ff02::1",
	}
	var d destinations
	for _, a := range public {
		if !d.allows(netip.MustParseAddr(a)) {
			t.Errorf("allows(%s) = false, want true", a)
		}
	}
	for _, a := range special {
		if d.allows(netip.MustParseAddr(a)) {
			t.Errorf("allows(%s) = true, want false", a)
		}
		if strings.Contains(a, "%") {
			continue
		}
		if err := d.control("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 443).String(), nil); err == nil {
			t.Errorf("%s may be dialled", a)
		}
	}
	if d.allows(netip.Addr{}) || d.control("unix", "/run/docker.sock", nil) == nil {
		t.Error("a text that is not an address may be dialled")
	}

	t.Run("an allowed network allows its addresses only", func(t *testing.T) {
		t.Parallel()
		d := destinations{networks: prefixes("10.1.0.0/16", "fd12::/16", "127.0.0.2/32")}
		for a, want := range map[string]bool{
			"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "fd12::1": true, "fd13::1": false, "fd12::1%eth0": false,
			"127.0.0.2": true, "127.0.0.1": false, "8.8.8.8": true,
		} {
			if got := d.allows(netip.MustParseAddr(a)); got != want {
				t.Errorf("allows(%s) = %t, want %t", a, got, want)
			}
		}
	})
	t.Run("the unsafe option allows loopback addresses only", func(t *testing.T) {
		t.Parallel()
		d := destinations{unsafeLoopback: true}
		for a, want := range map[string]bool{"127.0.0.1": true, "::1": true, "::ffff:127.9.9.9": true, "10.0.0.1": false, "169.254.169.254": false, "0.0.0.0": false} {
			if got := d.allows(netip.MustParseAddr(a)); got != want {
				t.Errorf("allows(%s) = %t, want %t", a, got, want)
			}
		}
	})
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	client := func(t *testing.T, cfg Config) *Client {
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, tc := range map[string]struct {
		cfg       Config
		good, bad []string
	}{
		"by default": {
			good: []string{"https://hr.example.com", "https://hr.example.com:8443/yufu?tenant=1", "HTTPS://hr.example.com/", "https://8.8.8.8/", "https://[2606:4700::1111]:443/"},
			bad: []string{
				"", "hr.example.com", "/yufu", "https://", "https:///yufu", "https:hr.example.com", "http://hr.example.com", "ftp://hr.example.com",
				"https://user:hunter2@hr.example.com", "https://hunter2@hr.example.com", "https://hr.example.com/#hunter2", "https://hr.example.com/#",
				"https://hr.example.com/\x00", "https://hr.example.com/hunter2\r\nX: y", "https://hr.example.com/\u202e", "https://:443/", "https://hr.example.com:port/",
				"https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25eth0]/", "https://10.0.0.1/", "https://169.254.169.254/latest",
				"http://127.0.0.1/", "http://localhost/", "https://hr.example.com/" + strings.Repeat("hunter2", 400),
			},
		},
		"with networks allowed": {
			cfg:  Config{AllowNetworks: prefixes("10.1.0.0/16")},
			good: []string{"https://10.1.2.3/", "https://hr.example.com/"},
			bad:  []string{"https://10.2.2.3/", "http://10.1.2.3/"},
		},
		"with hosts allowed": {
			cfg:  Config{AllowHosts: []string{"HR.example.com", "*.corp.example.com"}},
			good: []string{"https://hr.example.com/", "https://Hr.Example.Com./", "https://a.corp.example.com/", "https://a.b.corp.example.com:8443/"},
			bad:  []string{"https://example.com/", "https://corp.example.com/", "https://evilcorp.example.com/", "https://hr.example.com.evil.example/", "https://8.8.8.8/"},
		},
		"with loopback allowed": {
			cfg:  Config{UnsafeLoopback: true},
			good: []string{"http://127.0.0.1:8090/", "http://[::1]:8090/", "http://localhost:8090/", "https://127.0.0.1/", "https://hr.example.com/"},
			bad:  []string{"http://hr.example.com/", "http://10.0.0.1/", "http://localhost.example.com/", "http://169.254.169.254/"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client(t, tc.cfg)
			for _, u := range tc.good {
				if err := c.CheckURL(u); err != nil {
					t.Errorf("CheckURL(%q) error = %v", u, err)
				}
			}
			for _, u := range tc.bad {
				err := c.CheckURL(u)
				if auth.CodeOf(err) != auth.InvalidRequest {
					t.Errorf("CheckURL(%q) error = %v, want %v", u, err, auth.InvalidRequest)
				} else if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error quotes the URL: %v", err)
				}
			}
		})
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"a network with bits beyond its length": {AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/16")}},
		"a network of mapped addresses":         {AllowNetworks: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
		"a network that is none":                {AllowNetworks: []netip.Prefix{{}}},
		"an empty host":                         {AllowHosts: []string{""}},
		"a star alone":                          {AllowHosts: []string{"*"}},
		"a star in the midst":                   {AllowHosts: []string{"hr.*.com"}},
		"a star before no dot":                  {AllowHosts: []string{"*example.com"}},
		"a URL for a host":                      {AllowHosts: []string{"https://hr.example.com"}},
		"a host with a port":                    {AllowHosts: []string{"hr.example.com:443"}},
		"a host with a dot at its end":          {AllowHosts: []string{"hr.example.com."}},
		"a negative timeout":                    {Timeout: -1},
		"a negative number":                     {Concurrency: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New() error = nil, want an error", name)
		}
	}
}
