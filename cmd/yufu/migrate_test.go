package main

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/session"
)

func TestMigrateRestored(t *testing.T) {
	env := keysHere(t)
	file, err := sql.Open("sqlite", strings.TrimPrefix(env["YUFU_DATABASE_URL"], "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := func(epoch, events int) {
		t.Helper()
		var gotEpoch, cutoffs, gotEvents int
		err := file.QueryRowContext(t.Context(), `select (select epoch from apps), (select count(*) from cutoffs),
(select count(*) from audit where action = 'store.rolled_back' and actor = 'cli' and detail = '{"apps":1}' and at > 1700000000000000)`).
			Scan(&gotEpoch, &cutoffs, &gotEvents)
		if err != nil || gotEpoch != epoch || cutoffs != events || gotEvents != events {
			t.Errorf("the app is at epoch %d with %d cutoffs and %d audit events (%v), want %d, %d and %d", gotEpoch, cutoffs, gotEvents, err, epoch, events, events)
		}
	}
	succeed(t, env, "migrate")
	want(0, 0)
	for n := 1; n <= 2; n++ {
		if got := succeed(t, env, "migrate", "--restored"); !strings.Contains(got.out, "All sessions have ended (apps: 1).") {
			t.Errorf("%+v", got)
		}
		want(n*session.MaxRaise, n)
	}
}
