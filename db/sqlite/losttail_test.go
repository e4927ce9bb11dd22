package sqlite_test

import (
	"testing"

	"github.com/yufu-auth/yufu/db/storetest"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestLostTail(t *testing.T) {
	t.Parallel()
	bindingtest.LostTail(t, openTail)
}

func TestLostTailCases(t *testing.T) {
	t.Parallel()
	bindingtest.LostTailCases(t, openTail)
}

func openTail(t *testing.T) (*bindingtest.Fixture, bindingtest.Tail) {
	t.Helper()
	h := open(t)
	return bindingtest.New(t, sessiontest.New(t, h.Store, session.Lifetimes{}), h.Store), storetest.Tail(h.DB,
		`select name from sqlite_schema where type = 'table' and name not like 'sqlite%'
				and name not like 'saved%' and name not in ('goose_db_version', 'audit', 'replicas', 'deployment')`,
		`begin immediate; pragma defer_foreign_keys = on;`,
		``)
}
