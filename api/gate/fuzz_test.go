package gate_test

import (
	"net/url"
	"testing"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// FuzzParseDemands checks that a query that is accepted says nothing that is
// not heeded.
func FuzzParseDemands(f *testing.F) {
	for _, query := range []string{
		"", "aud=https://api.example.com", "app=wx1&bound=required", "aud=a&app=b&bound=required", "bound=", "aud=x&aud=y", "a;b", "%zz",
		"aud=%00", "Aud=x", "app=%e9%b1%bc", "&&&", "access_token=x", "aud",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		audience, app, bound, err := gate.ParseDemands(query)
		if err != nil {
			if auth.CodeOf(err) != auth.InvalidRequest {
				t.Fatalf("%q: %v", query, err)
			}
			return
		}
		said, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q was accepted: %v", query, err)
		}
		heeded := url.Values{}
		if audience != "" {
			heeded.Set("aud", audience)
		}
		if app != "" {
			heeded.Set("app", app)
		}
		if bound {
			heeded.Set("bound", "required")
		}
		if said.Encode() != heeded.Encode() {
			t.Fatalf("%q says %q, and heeded is %q", query, said.Encode(), heeded.Encode())
		}
	})
}
