package webhook

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// maxURL bounds a webhook's URL, in bytes.
const maxURL = 2048

// global is the prefix of IPv6 addresses of the public Internet.
var global = netip.MustParsePrefix("2000::/3")

// special are the networks that are not the public Internet, or that lead back to the
// host's own network (IANA, special-purpose address registries, RFC 6890).
var special = prefixes(
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // carriers, and the metadata of some clouds
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // the metadata of one cloud, among public addresses
	"169.254.0.0/16",   // link-local, and the metadata of most clouds
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // protocol assignments
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // relays to IPv6, deprecated
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, and broadcast
	// IPv6 networks outside of 2000::/3 need not be listed.
	"2001::/23",     // protocol assignments, and tunnels to IPv4
	"2001:db8::/32", // documentation
	"2002::/16",     // tunnels to any IPv4 address
	"3fff::/20",     // documentation
)

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// destinations are the allowed destinations of requests.
type destinations struct {
	// networks are allowed although they are not the public Internet.
	networks []netip.Prefix
	// hosts are the only allowed hosts, in lower case; empty means all.
	hosts []string
	// unsafeLoopback allows http to the loopback network.
	unsafeLoopback bool
}

// parse parses a webhook's URL. Errors are [auth.InvalidRequest] and hold no part of it.
func (d *destinations) parse(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, auth.Invalid("the webhook URL must have at most 2048 characters")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, !auth.CleanText(raw), u.Opaque != "", u.Hostname() == "":
		return nil, auth.Invalid("the webhook URL must look like https://hr.example.com/yufu")
	case u.User != nil:
		return nil, auth.Invalid("the webhook URL must not have a user name or password: requests are signed")
	case strings.Contains(raw, "#"):
		return nil, auth.Invalid("the webhook URL must not have a fragment")
	case u.Scheme == "http" && d.unsafeLoopback && isLoopback(u.Hostname()):
	case u.Scheme != "https":
		return nil, auth.Invalid("the webhook URL must begin with https://")
	}
	if !d.allowsHost(u.Hostname()) {
		return nil, auth.Invalid("the host of the webhook URL is not one that the operator allows")
	}
	// An IP address is checked now; a name is checked when it is dialled.
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !d.allows(ip) {
		return nil, auth.Invalid("the address in the webhook URL is neither on the public Internet nor in a network that the operator allows")
	}
	return u, nil
}

// isLoopback reports whether a host is localhost or a loopback address.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// allowsHost reports whether the host is allowed by name.
func (d *destinations) allowsHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return len(d.hosts) == 0 || slices.ContainsFunc(d.hosts, func(allowed string) bool {
		if domain, ok := strings.CutPrefix(allowed, "*"); ok {
			return len(host) > len(domain) && strings.HasSuffix(host, domain)
		}
		return host == allowed
	})
}

// allows reports whether the address may be dialled.
func (d *destinations) allows(ip netip.Addr) bool {
	if ip.Zone() != "" {
		return false // a zone is local to the host, and no public address has one
	}
	ip = ip.Unmap()
	in := func(p netip.Prefix) bool { return p.Contains(ip) }
	switch {
	case !ip.IsValid():
		return false
	case slices.ContainsFunc(d.networks, in), d.unsafeLoopback && ip.IsLoopback():
		return true
	case ip.Is6() && !global.Contains(ip):
		return false
	}
	return !slices.ContainsFunc(special, in)
}

// control is [net.Dialer.Control]: the final check before a connection is made.
func (d *destinations) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return &forbidden{address}
	}
	if !d.allows(at.Addr()) {
		return &forbidden{at.Addr().String()}
	}
	return nil
}

// forbidden is the error for an address that is not allowed.
type forbidden struct{ address string }

func (e *forbidden) Error() string {
	return "the address " + e.address + " is neither on the public Internet nor in a network that the operator allows"
}

// check refuses networks and hosts that do not match what they seem to.
func (d *destinations) check() error {
	for _, p := range d.networks {
		switch {
		case !p.IsValid(), p.Masked() != p:
			return errors.New("webhook: a network must look like 10.1.0.0/16, without bits beyond its length")
		case p.Addr().Is4In6():
			return errors.New("webhook: a network of IPv4 addresses must look like 10.1.0.0/16, not be mapped to IPv6")
		}
	}
	for _, h := range d.hosts {
		name := strings.TrimPrefix(h, "*.")
		if name == "" || strings.ContainsAny(name, "*/:@ ") || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
			return errors.New("webhook: a host must look like hr.example.com, or *.example.com for all its subdomains")
		}
	}
	return nil
}
