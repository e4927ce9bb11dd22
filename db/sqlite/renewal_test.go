package sqlite_test

import (
	"testing"

	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestRenewals(t *testing.T) {
	t.Parallel()
	bindingtest.Renewals(t, func(t *testing.T) *bindingtest.Fixture {
		store := open(t).Store
		return bindingtest.New(t, sessiontest.New(t, store, session.Lifetimes{}), store)
	})
}
