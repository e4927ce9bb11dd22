package pgtest_test

import (
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

func TestStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewServer(t)
	run(t, connect(t, primary.DSN("postgres")), `create table before (n int)`)
	standby := primary.Standby(t)
	run(t, connect(t, primary.DSN("postgres")), `create table after (n int)`)
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, standby.DSN("postgres"))
	if n := number(t, conn, `select count(*) from pg_tables where tablename in ('before', 'after')`); n != 2 {
		t.Errorf("the standby has %d tables, want 2", n)
	}
	run(t, conn, `create table later (n int)`)
}

func TestAsyncStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewServer(t)
	standby := primary.AsyncStandby(t)
	if err := standby.Kill(); err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, primary.DSN("postgres")), `create table alone (n int)`)
}
