package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/masterkey"
)

const (
	oldLine = goodKey + "\n"
	newLine = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"
)

func TestMasterKeyCommands(t *testing.T) {
	env := newDatabaseEnv(t)
	file := env["YUFU_MASTER_KEY_FILE"]
	use := func(lines string) { env["YUFU_MASTER_KEY_FILE"] = write(t, "master.key", lines) }
	wantLines := func(out string, want ...string) {
		t.Helper()
		for _, line := range want {
			if !slices.ContainsFunc(strings.Split(out, "\n"), func(got string) bool { return strings.Join(strings.Fields(got), " ") == line }) {
				t.Errorf("the output has no line %q:\n%s", line, out)
			}
		}
	}

	use(newLine + oldLine)
	var before []masterkey.Count
	if err := json.Unmarshal([]byte(succeed(t, env, "master-key", "status", "--json").out), &before); err != nil {
		t.Fatal(err)
	}
	first, second := before[0].Fingerprint, before[len(before)-1].Fingerprint
	wantLines(succeed(t, env, "master-key", "status").out, "LINE FINGERPRINT VALUES WHAT",
		"1 "+first+" 0 AppSecrets", "2 "+second+" 1 AppSecrets", "2 "+second+" 4 signing and MAC keys", "2 "+second+" 1 key of the shards")

	var done masterkey.Rewrapped
	if err := json.Unmarshal([]byte(succeed(t, env, "master-key", "rewrap", "--json", "--reason", "a test").out), &done); err != nil {
		t.Fatal(err)
	}
	if done.Rows != 7 || done.Late != 0 || len(done.Counts) != len(before) {
		t.Errorf("rewrap = %+v, want 7 rows", done)
	}
	again := succeed(t, env, "master-key", "rewrap")
	wantLines(again.errOut, "yufu: 0 rows were sealed again")
	wantLines(again.out, "1 "+first+" 1 AppSecrets", "2 "+second+" 0 AppSecrets")

	use(newLine)
	wantLines(succeed(t, env, "master-key", "status").out, "1 "+first+" 1 AppSecrets", "1 "+first+" 4 signing and MAC keys")
	succeed(t, env, "keys", "rotate")

	env["YUFU_MASTER_KEY_FILE"] = file
	for _, command := range []string{"status", "rewrap"} {
		got := try(t, env, "", "master-key", command)
		if got.code != 1 || !strings.Contains(got.errOut, "no line of the master-key file opens some values") {
			t.Errorf("without the line that seals: %v; want exit code 1 and an error", got)
		}
		wantLines(got.out, "none "+first+` 1 AppSecrets, the first in the row "wx1"`)
	}
}
