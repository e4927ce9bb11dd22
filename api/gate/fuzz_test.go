package gate_test

import (
	"net/url"
	"testing"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// FuzzParseRequirements checks that a query that is accepted has no parameter that is
// ignored.
func FuzzParseRequirements(f *testing.F) {
	for _, query := range []string{
		"", "aud=https://api.example.com", "app=wx1&bound=required", "aud=a&app=b&bound=required", "bound=", "aud=x&aud=y", "a;b", "%zz",
		"aud=%00", "Aud=x", "app=%e9%b1%bc", "&&&", "access_token=x", "aud",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		audience, app, bound, err := gate.ParseRequirements(query)
		if err != nil {
			if auth.CodeOf(err) != auth.InvalidRequest {
				t.Fatalf("ParseRequirements(%q) error = %v, want invalid_request", query, err)
			}
			return
		}
		parsed, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q was accepted: %v", query, err)
		}
		accepted := url.Values{}
		if audience != "" {
			accepted.Set("aud", audience)
		}
		if app != "" {
			accepted.Set("app", app)
		}
		if bound {
			accepted.Set("bound", "required")
		}
		if parsed.Encode() != accepted.Encode() {
			t.Fatalf("%q has the parameters %q, but requires %q", query, parsed.Encode(), accepted.Encode())
		}
	})
}
