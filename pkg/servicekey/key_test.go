package servicekey_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

var t0 = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)

func draft(t *testing.T, name string, scopes, apps []string) servicekey.Draft {
	t.Helper()
	d, err := servicekey.NewDraft(name, scopes, apps)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^yfk_[0-9a-z]{16}_[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 200 {
		k, p := servicekey.Generate(draft(t, "orders", []string{"service"}, nil), t0)
		text := p.Key().Reveal()
		if !form.MatchString(text) {
			t.Fatalf("Generate() returned a malformed key: %q", text)
		}
		if seen[k.ID] || seen[text] {
			t.Fatalf("Generate() returned the id %s twice", k.ID)
		}
		seen[k.ID], seen[text] = true, true
		if k.Hash != sha256.Sum256([]byte(text[len("yfk_")+17:])) {
			t.Fatal("the hash is not the SHA-256 of the secret part")
		}
		if k.ID != p.ID || !k.CreatedAt.Equal(t0.Truncate(time.Microsecond)) || !k.RevokedAt.IsZero() || !k.LastUsedAt.IsZero() {
			t.Fatalf("key = %+v, want the new key, created now, without other times", k)
		}
		if shown := fmt.Sprintf("%v %+v %s", k, p, p.Secret); strings.Contains(shown, p.Secret.Reveal()) {
			t.Fatalf("the output shows the secret: %s", shown)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	_, p := servicekey.Generate(draft(t, "orders", []string{"service"}, nil), t0)
	good := p.Key().Reveal()
	t.Run("a generated key parses", func(t *testing.T) {
		t.Parallel()
		got, err := servicekey.Parse(auth.Secret(good))
		if err != nil || got != p {
			t.Errorf("Parse() = %v, %v; want the generated key", got, err)
		}
	})
	secret := strings.Repeat("A", 42)
	for name, bad := range map[string]string{
		"nothing":                            "",
		"the prefix alone":                   "yfk_",
		"another prefix":                     "yfr_" + good[4:],
		"a prefix in upper case":             "YFK_" + good[4:],
		"an id in upper case":                "yfk_AAAAAAAAAAAAAAAA_" + secret + "A",
		"an id with an underscore":           "yfk_aaaaaaaaaaaaaa_a_" + secret + "A",
		"a short id":                         "yfk_aaaaaaaaaaaaaaa_" + secret + "AA",
		"no separator":                       "yfk_aaaaaaaaaaaaaaaaa" + secret + "A",
		"a character less":                   good[:len(good)-1],
		"a character more":                   good + "A",
		"padding":                            good[:len(good)-1] + "=",
		"the other base64 alphabet":          "yfk_aaaaaaaaaaaaaaaa_" + strings.Repeat("/", 42) + "A",
		"bits behind the last byte":          "yfk_aaaaaaaaaaaaaaaa_" + secret + "B",
		"a line break in the secret":         "yfk_aaaaaaaaaaaaaaaa_" + secret + "\n",
		"a space before it":                  " " + good[:len(good)-1],
		"a NUL":                              good[:len(good)-1] + "\x00",
		"an access token of the same length": strings.Repeat("a", len(good)),
	} {
		t.Run(name+" is not a key", func(t *testing.T) {
			t.Parallel()
			if got, err := servicekey.Parse(auth.Secret(bad)); !errors.Is(err, auth.ServiceKeyInvalid) || got != (servicekey.Presented{}) {
				t.Errorf("Parse() = %v, %v; want service_key_invalid", got, err)
			}
		})
	}
}

// FuzzParse checks that a key has one form: a parsed key is written as the same bytes.
func FuzzParse(f *testing.F) {
	f.Add("")
	f.Add("yfk_0123456789abcdef_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("yfk_0123456789abcdef_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB")
	f.Add("yfk_0123456789abcdef_AAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := servicekey.Parse(auth.Secret(s))
		if err != nil {
			if !errors.Is(err, auth.ServiceKeyInvalid) || p != (servicekey.Presented{}) {
				t.Fatalf("Parse(%q) = %v, %v", s, p, err)
			}
			return
		}
		if p.Key().Reveal() != s {
			t.Fatalf("Parse(%q).Key() = %q", s, p.Key().Reveal())
		}
		if again, err := servicekey.New(p.ID, p.Secret); err != nil || again != p {
			t.Fatalf("New() with the parts of %q: error = %v", s, err)
		}
	})
}

func TestNewDraft(t *testing.T) {
	t.Parallel()
	t.Run("scopes and apps are normalised", func(t *testing.T) {
		t.Parallel()
		got := draft(t, "  订单 back end ", []string{"admin", "service", "admin"}, []string{"wxb", "wxa", "wxb"})
		want := servicekey.Draft{
			Name:   "订单 back end",
			Scopes: []servicekey.Scope{servicekey.ScopeService, servicekey.ScopeAdmin},
			Apps:   []string{"wxa", "wxb"},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
	many := make([]string, servicekey.MaxApps+1)
	for i := range many {
		many[i] = fmt.Sprintf("wx%d", i)
	}
	service := []string{"service"}
	for name, tc := range map[string]struct {
		name         string
		scopes, apps []string
	}{
		"no name":                  {"", service, nil},
		"a name of spaces":         {"   ", service, nil},
		"a long name":              {strings.Repeat("名", 65), service, nil},
		"a name with a line break": {"a\nb", service, nil},
		"a name that is no text":   {"a\xff", service, nil},
		"no scope":                 {"a", nil, nil},
		"an unknown scope":         {"a", []string{"service", "root"}, nil},
		"an empty scope":           {"a", []string{""}, nil},
		"a scope in upper case":    {"a", []string{"Admin"}, nil},
		"what is no appid":         {"a", service, []string{"wx-1"}},
		"an empty appid":           {"a", service, []string{""}},
		"too many apps":            {"a", service, many},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			if _, err := servicekey.NewDraft(tc.name, tc.scopes, tc.apps); !errors.Is(err, auth.InvalidRequest) {
				t.Errorf("error = %v, want %v", err, auth.InvalidRequest)
			}
		})
	}
}

func TestHas(t *testing.T) {
	t.Parallel()
	includes := map[servicekey.Scope][]servicekey.Scope{
		"support": {"read"}, "admin": {"read", "support", "persons", "audit"},
	}
	if d := cmp.Diff([]servicekey.Scope{"service", "openid", "decrypt", "read", "support", "persons", "audit", "admin"}, servicekey.Scopes()); d != "" {
		t.Errorf("scopes (-want +got):\n%s", d)
	}
	for _, has := range servicekey.Scopes() {
		for _, wants := range servicekey.Scopes() {
			k := servicekey.Key{Scopes: []servicekey.Scope{has}}
			want := has == wants || slices.Contains(includes[has], wants)
			if got := k.Has(wants); got != want {
				t.Errorf("Has(%[2]s) of a key with %[1]s = %[3]t, want %[4]t", has, wants, got, want)
			}
		}
	}
	var none servicekey.Key
	if none.Has(servicekey.ScopeRead) || none.Has("") {
		t.Error("Has() of a key without scopes = true")
	}
}
