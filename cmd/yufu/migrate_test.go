package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/session"
)

func TestMigrateRestored(t *testing.T) {
	env := newDatabaseEnv(t)
	file, err := sql.Open("sqlite", strings.TrimPrefix(env["YUFU_DATABASE_URL"], "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := func(epoch, apps, keys, events int) {
		t.Helper()
		var gotEpoch, gotApps, gotKeys, living, gotEvents int
		err := file.QueryRowContext(t.Context(), `select (select epoch from apps), (select count(*) from cutoffs where kind = 'app'),
(select count(*) from cutoffs where kind = 'key'), (select count(*) from signing_keys where retired_at is null or length(sealed) > 0),
(select count(*) from audit where action = 'store.rolled_back' and actor = 'cli' and detail like '{"apps":1,"keys":%}' and at > 1700000000000000)`).
			Scan(&gotEpoch, &gotApps, &gotKeys, &living, &gotEvents)
		if err != nil || gotEpoch != epoch || gotApps != apps || gotKeys != keys || gotEvents != events || (events > 0) != (living == 0) {
			t.Errorf("epoch %d of the app, %d cutoffs of it, %d cutoffs of keys, %d keys left, %d audit events, error %v; want %d, %d, %d, no keys left after an event, %d",
				gotEpoch, gotApps, gotKeys, living, gotEvents, err, epoch, apps, keys, events)
		}
	}
	succeed(t, env, "migrate")
	want(0, 0, 0, 0)
	signing := len(listed(t, env, "access", "current")) + len(listed(t, env, "access", "next"))
	for n := 1; n <= 2; n++ {
		if got := succeed(t, env, "migrate", "--restored"); !strings.Contains(got.out, "All sessions and keys have ended (apps: 1).") {
			t.Errorf("%v; want the sessions and keys of one app to have ended", got)
		}
		want(n*session.MaxRaise, n, signing, n)
	}
}

func TestMigrateRestoredRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	env := map[string]string{"YUFU_DATABASE_URL": "sqlite:" + path, "YUFU_MASTER_KEY_FILE": write(t, "master.key", goodKey+"\n")}
	wants := func(text string) {
		t.Helper()
		if got := try(t, env, "", "migrate", "--restored"); got.code != 1 || !strings.Contains(got.errOut, text) {
			t.Errorf("%v; want exit code 1 and %q", got, text)
		}
	}
	wants("YUFU_DATABASE_URL names a file that does not exist: " + path)
	succeed(t, env, "migrate")
	wants("YUFU_DATABASE_URL names a database without apps")
}
