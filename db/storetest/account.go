package storetest

import (
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
)

var accountTests = []test{
	{"an identity has its openid and the unionid if known", func(t *testing.T, f *fixture) {
		for _, told := range []string{"", "u-1"} {
			x := params(appA, "o-1", t0)
			x.Account.UnionID = told
			g, err := f.Store.Exchange(t.Context(), x)
			wantCode(t, err, "")
			account, err := f.Store.PlatformAccount(t.Context(), g.Session.Identity)
			wantCode(t, err, "")
			wantEqual(t, "account", account, x.Account)
		}
	}},
	{"an unknown identity has no account", func(t *testing.T, f *fixture) {
		f.exchange(t, "o-1", t0)
		_, err := f.Store.PlatformAccount(t.Context(), newID())
		wantCode(t, err, auth.NotFound)
	}},
	{"an erased identity has no account", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.erase(t, s.Identity, t0)
		_, err := f.Store.PlatformAccount(t.Context(), s.Identity)
		wantCode(t, err, auth.NotFound)
	}},
}
