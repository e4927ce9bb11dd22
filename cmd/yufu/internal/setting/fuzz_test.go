package setting

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// FuzzParseDatabaseURL holds that a URL is one kind of database or none, and
// that no error shows any of it: there may be a password in it.
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
			t.Fatalf("%q: %+v, %v", s, db, err)
		case err == nil && (db.PostgresDSN == "") == (db.SQLitePath == ""):
			t.Fatalf("%q is %+v", s, db)
		case err == nil && !strings.HasSuffix(strings.TrimSpace(s), db.PostgresDSN+db.SQLitePath):
			t.Fatalf("%q became %+v", s, db)
		}
	})
}

// FuzzCheckIssuer holds that an issuer is a scheme and a host that can be
// reached, so that the addresses made from it are those validators fetch.
func FuzzCheckIssuer(f *testing.F) {
	f.Fuzz(func(t *testing.T, issuer string) {
		if CheckIssuer("YUFU_ISSUER", issuer) != nil {
			return
		}
		const path = "/.well-known/jwks.json"
		u, err := url.Parse(issuer + path)
		if err != nil || u.Hostname() == "" || u.Path != path || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.String() != issuer+path {
			t.Fatalf("%q: %+v, %v", issuer, u, err)
		}
		if strings.HasSuffix(u.Host, ":") {
			t.Fatalf("%q has an empty port", issuer)
		}
		if u.Scheme != "https" && !(u.Scheme == "http" && isLoopbackHost(u.Hostname())) {
			t.Fatalf("%q is not safe", issuer)
		}
		if strings.ContainsFunc(issuer, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q is not what anybody types", issuer)
		}
	})
}

// FuzzParsePrefixes holds that a network is what was written, and that there is
// no second way to write it that trusts anybody else.
func FuzzParsePrefixes(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		prefixes, err := ParsePrefixes("YUFU_TRUSTED_PROXIES", []string{s})
		if err != nil {
			if prefixes != nil {
				t.Fatalf("%q: %v, %v", s, prefixes, err)
			}
			return
		}
		p := prefixes[0]
		if len(prefixes) != 1 || !p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			t.Fatalf("%q is %v", s, prefixes)
		}
		text, _, _ := strings.Cut(strings.TrimSpace(s), "/")
		if addr, err := netip.ParseAddr(text); err != nil || !p.Contains(addr.Unmap()) {
			t.Fatalf("%q is %v, which does not hold it", s, p)
		}
		if again, err := ParsePrefixes("", []string{p.String()}); err != nil || again[0] != p {
			t.Fatalf("%q is %v, which reads as %v, %v", s, p, again, err)
		}
	})
}
