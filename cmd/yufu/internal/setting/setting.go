// Package setting reads and checks what an operator sets: environment, secret
// files, addresses, URLs.
//
// It owns the rules and the sentences; every error names the setting and says
// what to do. It does not own flags and defaults (the command line does).
package setting

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// envPrefix starts all our variables.
const envPrefix = "YUFU_"

// CheckEnviron refuses YUFU_ variables that no command reads: a misspelled setting
// silently left at its default is worse than a start that fails. What Kubernetes
// injects is let through. Known holds the names that some subcommand reads.
func CheckEnviron(environ []string, known []string) error {
	var unknown []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || injected(name, value) {
			continue
		}
		unknown = append(unknown, name)
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("no setting is called %s; unset it, or correct its name (yufu serve --help lists them)", strings.Join(unknown, ", "))
}

// serviceVariable matches the names of variables that Kubernetes gives every
// container for a Service of its namespace that is called yufu, yufu-admin or
// yufu-postgresql: the Service's name in capitals, and one of these endings.
var serviceVariable = regexp.MustCompile(
	`^YUFU_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// serviceURL matches the value of the variable that ends in _PORT alone. A number
// there is no Service's: it is a misspelled setting.
var serviceURL = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// injected reports whether Kubernetes makes this variable for a Service.
func injected(name, value string) bool {
	return serviceVariable.MatchString(name) || strings.HasSuffix(name, "_PORT") && serviceURL.MatchString(value)
}

// maxSecretFile bounds a secret file: whatever is larger is another file.
const maxSecretFile = 64 << 10

// ReadSecretFile reads a secret from a file, or from stdin for "-". It warns,
// through warn, when others than the owner may read the file.
func ReadSecretFile(setting, path string, stdin io.Reader, warn func(string)) ([]byte, error) {
	var r io.Reader
	if path == "-" {
		r = stdin
	} else {
		f, err := os.Open(path) //nolint:gosec // the operator names the file
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%s: there is no file %s", setting, path)
		case err != nil:
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		info, err := f.Stat()
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", setting, err)
		case info.IsDir():
			return nil, fmt.Errorf("%s: %s is a directory, want a file", setting, path)
		case info.Mode().Perm()&0o077 != 0:
			warn(fmt.Sprintf("%s: %s is readable by others (mode %04o); chmod 600 it", setting, path, info.Mode().Perm()))
		}
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxSecretFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", setting, err)
	case len(b) > maxSecretFile:
		return nil, fmt.Errorf("%s: %s is larger than any secret", setting, path)
	case strings.TrimSpace(string(b)) == "":
		return nil, fmt.Errorf("%s: %s is empty", setting, path)
	}
	return b, nil
}

// CheckIssuer refuses an issuer that tokens should not carry: it is https, or
// http on loopback, with neither path nor query nor trailing slash, because
// validators compare it byte for byte.
func CheckIssuer(setting, issuer string) error {
	if issuer == "" {
		return fmt.Errorf("%s is missing: set it to the address the public reaches this service by, for example https://auth.example.com", setting)
	}
	u, err := url.Parse(issuer)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.HasSuffix(u.Host, ":") {
		return fmt.Errorf("%s: %q is not a URL such as https://auth.example.com", setting, issuer)
	}
	if strings.ContainsFunc(issuer, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s: %q is not ASCII; write an international name in its xn-- form", setting, issuer)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopbackHost(u.Hostname())) {
		return fmt.Errorf("%s: %q is not https (http is for loopback addresses only)", setting, issuer)
	}
	if issuer != u.Scheme+"://"+u.Host {
		return fmt.Errorf("%s: %q has more than scheme and host; validators compare it byte for byte, so write %s://%s", setting, issuer, u.Scheme, u.Host)
	}
	return nil
}

// CheckLoopback refuses an address to listen on that others could reach.
func CheckLoopback(setting, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port", setting, addr)
	}
	if !isLoopbackHost(host) {
		return fmt.Errorf("%s: %q is not a loopback address; where the platform is simulated anybody can log in as anybody, so this listens on loopback only, for example 127.0.0.1:8080 (yufu serve is for everything else)", setting, addr)
	}
	return nil
}

func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Database is where the data lives: a PostgreSQL DSN or an SQLite file; exactly
// one is set.
type Database struct {
	// Setting is the name of the setting that says so, for messages.
	Setting     string
	PostgresDSN string
	SQLitePath  string
}

// ParseDatabaseURL reads postgres://… or sqlite:PATH. The error does not quote
// the URL: there may be a password in it.
func ParseDatabaseURL(setting, s string) (Database, error) {
	s = strings.TrimSpace(s)
	switch scheme, rest, _ := strings.Cut(s, ":"); {
	case s == "":
		return Database{}, fmt.Errorf("%s is missing: set it to postgres://user:password@host/database, or to sqlite:PATH for a single small server", setting)
	case (scheme == "postgres" || scheme == "postgresql") && misread(rest):
		return Database{}, fmt.Errorf("%s has an @ behind the host: in a user name and a password write / as %%2F, ? as %%3F, # as %%23 and @ as %%40", setting)
	case scheme == "postgres" || scheme == "postgresql":
		return Database{Setting: setting, PostgresDSN: s}, nil
	case scheme == "sqlite" && strings.Contains(rest, "?"):
		return Database{}, fmt.Errorf("%s: sqlite: takes a path and no parameters; take out the ? and what follows it", setting)
	case scheme == "sqlite" && strings.TrimPrefix(rest, "//") != "":
		return Database{Setting: setting, SQLitePath: strings.TrimPrefix(rest, "//")}, nil
	default:
		return Database{}, fmt.Errorf("%s begins with neither postgres:// nor sqlite: followed by a path", setting)
	}
}

// misread reports whether a part of the password would be taken for the host, the
// database or a parameter, because an unescaped /, ? or # ends what stands before
// the host. The driver would look that up, and print it.
func misread(rest string) bool {
	authority := strings.TrimPrefix(rest, "//")
	end := strings.IndexAny(authority, "/?#")
	return end >= 0 && strings.Contains(authority[end:], "@")
}

// ParsePrefixes reads networks in CIDR notation; a bare address is a network of
// its own. An IPv4 network in its IPv6-mapped form is that IPv4 network: so
// clients' addresses are compared.
func ParsePrefixes(setting string, list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range list {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if addr, addrErr := netip.ParseAddr(s); addrErr == nil && addr.Zone() == "" {
			p, err = addr.Prefix(addr.BitLen())
		}
		if err == nil && p.Addr().Is4In6() {
			if p.Bits() < 96 {
				err = errors.New("a network of more than IPv4 addresses in IPv4's form")
			} else {
				p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not a network such as 10.0.0.0/8 or an address", setting, s)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}
