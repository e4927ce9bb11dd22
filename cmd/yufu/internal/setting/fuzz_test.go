package setting

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// FuzzParseDatabaseURL checks that a URL is one kind of database or refused, and that no error
// shows a part of it, which may be a password.
func FuzzParseDatabaseURL(f *testing.F) {
	refusals := map[string]bool{}
	for _, s := range []string{"", "mysql:x", "postgres:/@", "sqlite:x?y"} {
		_, err := ParseDatabaseURL("YUFU_DATABASE_URL", s)
		refusals[err.Error()] = true
	}
	f.Fuzz(func(t *testing.T, s string) {
		db, err := ParseDatabaseURL("YUFU_DATABASE_URL", s)
		switch {
		case err != nil && (db != Database{} || !refusals[err.Error()]):
			t.Fatalf("ParseDatabaseURL(%q) = %+v, %v; want a known refusal and no database", s, db, err)
		case err == nil && (db.PostgresDSN == "") == (db.SQLitePath == ""):
			t.Fatalf("%q is %+v", s, db)
		case err == nil && !strings.HasSuffix(strings.TrimSpace(s), db.PostgresDSN+db.SQLitePath):
			t.Fatalf("%q became %+v", s, db)
		}
	})
}

// FuzzCheckIssuer checks that an issuer is a scheme and a host that can be reached, so that
// validators can fetch the addresses made from it.
func FuzzCheckIssuer(f *testing.F) {
	f.Fuzz(func(t *testing.T, issuer string) {
		if CheckIssuer("YUFU_ISSUER", issuer) != nil {
			return
		}
		const path = "/.well-known/jwks.json"
		u, err := url.Parse(issuer + path)
		if err != nil || u.Hostname() == "" || u.Path != path || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.String() != issuer+path {
			t.Fatalf("url.Parse(%q + path) = %+v, %v; want the same host and path only", issuer, u, err)
		}
		if strings.HasSuffix(u.Host, ":") {
			t.Fatalf("%q has an empty port", issuer)
		}
		if u.Scheme != "https" && !(u.Scheme == "http" && isLoopbackHost(u.Hostname())) {
			t.Fatalf("%q is not safe", issuer)
		}
		if strings.ContainsFunc(issuer, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q has characters that are not printable ASCII", issuer)
		}
	})
}

// FuzzParsePrefixes checks that a network is the one that was written, and that no other way to
// write it trusts other addresses.
func FuzzParsePrefixes(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		prefixes, err := ParsePrefixes("YUFU_TRUSTED_PROXIES", []string{s})
		if err != nil {
			if prefixes != nil {
				t.Fatalf("%q: prefixes = %v, error %v; want no prefixes with an error", s, prefixes, err)
			}
			return
		}
		p := prefixes[0]
		if len(prefixes) != 1 || !p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			t.Fatalf("%q is %v", s, prefixes)
		}
		text, _, _ := strings.Cut(strings.TrimSpace(s), "/")
		if addr, err := netip.ParseAddr(text); err != nil || !p.Contains(addr.Unmap()) {
			t.Fatalf("%q is parsed as %v, which does not contain it", s, p)
		}
		if again, err := ParsePrefixes("", []string{p.String()}); err != nil || again[0] != p {
			t.Fatalf("%q is parsed as %v, and that as %v, error %v", s, p, again, err)
		}
	})
}
