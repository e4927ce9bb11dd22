package postgres_test

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
	dsn := migrated.New(t)
	store := openStore(t, dsn)
	return bindingtest.New(t, sessiontest.New(t, store, session.Lifetimes{}), store), storetest.Tail(openRaw(t, dsn),
		`select tablename from pg_tables where schemaname = 'public'
				and tablename not like 'saved%' and tablename not in ('goose_db_version', 'audit', 'replicas', 'deployment')`,
		`begin; set local session_replication_role = replica; truncate cutoffs;`,
		`select setval(pg_get_serial_sequence('cutoffs', 'id'), coalesce(max(id), 1), max(id) is not null) from cutoffs`)
}
