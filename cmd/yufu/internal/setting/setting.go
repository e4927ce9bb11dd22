// Package setting holds the settings of the program, and reads and checks them.
//
// It owns the names, defaults, bounds and help texts of the settings, the rules for
// addresses, URLs and secret files, and the error messages: each names the setting, says
// what is wrong and what to do. It does not own the subcommands and what they do with a
// value. It opens no database and no listener.
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

// envPrefix is the prefix of all variables.
const envPrefix = "YUFU_"

// CheckEnviron refuses YUFU_ variables that no command reads: a failed start is better than a
// misspelt setting that keeps its default. Variables that Kubernetes injects are allowed.
// Known holds the variables of all commands.
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
	return fmt.Errorf("no setting is called %s; unset it, or correct its name (yufu serve --help lists the settings)", strings.Join(unknown, ", "))
}

// serviceVariable matches the variables that Kubernetes injects into every container for a
// Service named yufu, or with a name such as yufu-admin, in the same namespace: the name in
// capitals, and one of these endings.
var serviceVariable = regexp.MustCompile(
	`^YUFU_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// serviceURL matches the values that Kubernetes gives to variables that end in _PORT. A
// number is a misspelt setting.
var serviceURL = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// injected reports whether Kubernetes injects this variable for a Service.
func injected(name, value string) bool {
	return serviceVariable.MatchString(name) || strings.HasSuffix(name, "_PORT") && serviceURL.MatchString(value)
}

// maxSecretFile is the maximum size of a secret file in bytes. A larger file is some other
// file.
const maxSecretFile = 64 << 10

// ReadSecretFile reads a secret from a file, or from stdin for "-". It calls warn when
// users other than the owner may read the file.
func ReadSecretFile(setting, path string, stdin io.Reader, warn func(string)) ([]byte, error) {
	var r io.Reader
	if path == "-" {
		r = stdin
	} else {
		f, err := os.Open(path) //nolint:gosec // the operator names the file
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, Errorf(setting, "names a file that does not exist: %s", path)
		case err != nil:
			return nil, Errorf(setting, "cannot be read: %w", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		info, err := f.Stat()
		switch {
		case err != nil:
			return nil, Errorf(setting, "cannot be read: %w", err)
		case info.IsDir():
			return nil, Errorf(setting, "must name a file, got a directory: %s", path)
		case info.Mode().Perm()&0o077 != 0:
			warn(fmt.Sprintf("%s: other users can read %s (mode %04o); run: chmod 600 %s", setting, path, info.Mode().Perm(), path))
		}
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxSecretFile+1))
	switch {
	case err != nil:
		return nil, Errorf(setting, "cannot be read: %w", err)
	case len(b) > maxSecretFile:
		return nil, Errorf(setting, "names a file that is too large for a secret: %s", path)
	case strings.TrimSpace(string(b)) == "" && path == "-":
		return nil, Errorf(setting, "must come on standard input, which is empty")
	case strings.TrimSpace(string(b)) == "":
		return nil, Errorf(setting, "names a file that is empty: %s", path)
	}
	return b, nil
}

// CheckIssuer refuses an issuer that tokens must not contain. An issuer is https, or http
// on loopback, without path, query and trailing slash: validators compare it byte for byte.
func CheckIssuer(setting, issuer string) error {
	if issuer == "" {
		return Errorf(setting, "is missing: set it to the public address of this service, for example https://auth.example.com")
	}
	u, err := url.Parse(issuer)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.HasSuffix(u.Host, ":") {
		return Errorf(setting, "must be a URL such as https://auth.example.com, got %q", issuer)
	}
	if strings.ContainsFunc(issuer, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Errorf(setting, "must be ASCII, got %q; write an international name in its xn-- form", issuer)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopbackHost(u.Hostname())) {
		return Errorf(setting, "must begin with https (http is for loopback addresses only), got %q", issuer)
	}
	if issuer != u.Scheme+"://"+u.Host {
		return Errorf(setting, "must be scheme and host only, because validators compare it byte for byte; got %q, write %s://%s", issuer, u.Scheme, u.Host)
	}
	return nil
}

// CheckLoopback refuses a listen address that other machines can reach.
func CheckLoopback(setting, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return Errorf(setting, "must be host:port, got %q", addr)
	}
	if !isLoopbackHost(host) {
		return Errorf(setting, "must be a loopback address, for example 127.0.0.1:8080, got %q: with a simulated platform, everyone who reaches it can log in as any user; run yufu serve to serve others", addr)
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

// Database is a PostgreSQL database or an SQLite file. Exactly one of the two is set.
type Database struct {
	// Setting is the name of the setting, for messages.
	Setting     string
	PostgresDSN string
	SQLitePath  string
}

// ParseDatabaseURL parses postgres://… or sqlite:PATH. The error does not quote the URL,
// which may contain a password.
func ParseDatabaseURL(setting, s string) (Database, error) {
	s = strings.TrimSpace(s)
	switch scheme, rest, _ := strings.Cut(s, ":"); {
	case s == "":
		return Database{}, Errorf(setting, "is missing: set it to postgres://user:password@host/database, or to sqlite:PATH for a single small server")
	case (scheme == "postgres" || scheme == "postgresql") && misread(rest):
		return Database{}, Errorf(setting, "has a special character that is not percent-encoded: in a user name and a password write / as %%2F, ? as %%3F, # as %%23 and @ as %%40")
	case scheme == "postgres" || scheme == "postgresql":
		return Database{Setting: setting, PostgresDSN: s}, nil
	case scheme == "sqlite" && strings.Contains(rest, "?"):
		return Database{}, Errorf(setting, "must be sqlite:PATH without parameters; remove the ? and what follows it")
	case scheme == "sqlite" && strings.TrimPrefix(rest, "//") != "":
		return Database{Setting: setting, SQLitePath: strings.TrimPrefix(rest, "//")}, nil
	default:
		return Database{}, Errorf(setting, "must begin with postgres:// or be sqlite:PATH")
	}
}

// misread reports whether the driver would read a part of the password as the host, the
// database or a parameter, and print it. It does so if the password has an unescaped /, ?,
// # or @: the host begins behind the first @.
func misread(rest string) bool {
	authority := strings.TrimPrefix(rest, "//")
	end := strings.IndexAny(authority, "/?#")
	return strings.Count(authority, "@") > 1 || end >= 0 && strings.Contains(authority[end:], "@")
}

// ParsePrefixes parses networks in CIDR notation. An address is a network of one address. An
// IPv4-mapped IPv6 network becomes the IPv4 network, because client addresses are compared in
// that form.
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
				err = errors.New("network includes more than IPv4 addresses")
			} else {
				p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
			}
		}
		if err != nil {
			return nil, Errorf(setting, "must list networks such as 10.0.0.0/8 or addresses, got %q", s)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}
