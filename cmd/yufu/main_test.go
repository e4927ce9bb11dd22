package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// outcome is the outcome of a command.
type outcome struct {
	args        []string
	code        int
	out, errOut string
}

// String returns the command and its outcome, for failure messages.
func (o outcome) String() string {
	return fmt.Sprintf("yufu %s: exit code %d, stdout %q, stderr %q", strings.Join(o.args, " "), o.code, o.out, o.errOut)
}

// try runs a command in this process, with these YUFU_ variables and no others.
func try(t *testing.T, env map[string]string, stdin string, args ...string) outcome {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "YUFU_") {
			t.Setenv(name, "") // restores the value when the test ends
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	var out, errOut bytes.Buffer
	code := run(t.Context(), args, os.Environ(), streams{strings.NewReader(stdin), &out, &errOut})
	return outcome{args, code, out.String(), errOut.String()}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func TestSettings(t *testing.T) {
	// with returns valid settings with these changes.
	with := func(changes ...string) map[string]string {
		env := map[string]string{
			"YUFU_ISSUER":          "https://auth.example.com",
			"YUFU_DATABASE_URL":    "sqlite:" + filepath.Join(t.TempDir(), "yufu.db"),
			"YUFU_MASTER_KEY_FILE": write(t, "master.key", goodKey+"\n"),
			"YUFU_LISTEN":          "127.0.0.1:0",
			"YUFU_ADMIN_LISTEN":    "127.0.0.1:0",
		}
		for i := 0; i < len(changes); i += 2 {
			env[changes[i]] = changes[i+1]
		}
		return env
	}
	const hunter2 = "hunter2" // a secret, never to be shown
	serve := []string{"serve"}

	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		says []string
	}{
		{"no settings", nil, serve, 2, []string{
			"yufu: YUFU_ISSUER is missing", "yufu: YUFU_DATABASE_URL is missing", "yufu: YUFU_MASTER_KEY_FILE is missing", "openssl rand -base64 32", "yufu serve --help",
		}},
		{"no issuer", with("YUFU_ISSUER", ""), serve, 2, []string{"YUFU_ISSUER is missing", "https://auth.example.com"}},
		{"an http issuer", with("YUFU_ISSUER", "http://auth.example.com"), serve, 2, []string{"YUFU_ISSUER", "must begin with https"}},
		{"an issuer with a path", with("YUFU_ISSUER", "https://example.com/auth"), serve, 2, []string{"YUFU_ISSUER", "write https://example.com"}},
		{"an issuer with a slash", with("YUFU_ISSUER", "https://example.com/"), serve, 2, []string{"YUFU_ISSUER", "write https://example.com"}},

		{"no database", with("YUFU_DATABASE_URL", ""), serve, 2, []string{"YUFU_DATABASE_URL is missing", "postgres://", "sqlite:PATH"}},
		{"a database of another kind", with("YUFU_DATABASE_URL", "mysql://u:"+hunter2+"@h/d"), serve, 2, []string{"YUFU_DATABASE_URL", "postgres://", "sqlite:"}},
		{"a database URL that does not parse", with("YUFU_DATABASE_URL", "postgres://u:"+hunter2+"%zz@h/d"), serve, 1, []string{"YUFU_DATABASE_URL", "want postgres://USER@HOST:PORT/DATABASE", "percent-encoded"}},
		{"a slash in a database password", with("YUFU_DATABASE_URL", "postgres://u:"+hunter2+"/"+hunter2+"@db.example.com/d"), serve, 2, []string{"YUFU_DATABASE_URL has a special character that is not percent-encoded", "write / as %2F"}},
		{"a slash behind digits in a database password", with("YUFU_DATABASE_URL", "postgres://u:12/"+hunter2+"@db.example.com/d"), serve, 2, []string{"YUFU_DATABASE_URL has a special character that is not percent-encoded"}},
		{"an @ in a database password", with("YUFU_DATABASE_URL", "postgres://u:p@"+hunter2+"@127.0.0.1:1/d"), serve, 2, []string{"YUFU_DATABASE_URL has a special character that is not percent-encoded", "@ as %40"}},
		{"a missing certificate file of the database", with("YUFU_DATABASE_URL", "postgres://u:"+hunter2+"@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=/nonexistent/ca.pem"), serve, 1, []string{"YUFU_DATABASE_URL", "sslrootcert", "open /nonexistent/ca.pem: no such file"}},
		{"a wrong value of a parameter of the database URL", with("YUFU_DATABASE_URL", "postgres://u:"+hunter2+"@h/d?pool_max_conns=0"), serve, 1, []string{"YUFU_DATABASE_URL", "pool_max_conns in the database URL has an invalid value"}},
		{"a certificate file of the database without a certificate", with("YUFU_DATABASE_URL", "postgres://u:"+hunter2+"@127.0.0.1:1/d?sslmode=verify-full&sslrootcert="+write(t, "ca.pem", "x")), serve, 1, []string{"YUFU_DATABASE_URL", "sslrootcert in the database URL has an invalid value"}},
		{"two database URLs", with("YUFU_DATABASE_URL_FILE", "f"), serve, 2, []string{"YUFU_DATABASE_URL and YUFU_DATABASE_URL_FILE", "unset one"}},
		{"a missing file of the database URL", with("YUFU_DATABASE_URL", "", "YUFU_DATABASE_URL_FILE", "/nonexistent/url"), serve, 2, []string{"YUFU_DATABASE_URL_FILE", "does not exist: /nonexistent/url"}},
		{"an SQLite file in a missing folder", with("YUFU_DATABASE_URL", "sqlite:/nonexistent/yufu.db"), serve, 1, []string{"YUFU_DATABASE_URL", "does not exist: /nonexistent;", "make the folder first"}},
		{"migrate of an SQLite file in a missing folder", with("YUFU_DATABASE_URL", "sqlite:/nonexistent/yufu.db"), []string{"migrate"}, 1, []string{"YUFU_DATABASE_URL", "does not exist: /nonexistent;", "make the folder first"}},
		{"a missing SQLite file", with(), serve, 1, []string{"YUFU_DATABASE_URL", "does not exist: /", "/yufu.db;", "run yufu migrate"}},
		{"a text file as the SQLite file", with("YUFU_DATABASE_URL", "sqlite:"+write(t, "text", strings.Repeat("this is a text. ", 100))), serve, 1, []string{"YUFU_DATABASE_URL", "not a database"}},
		{"an empty database", with("YUFU_DATABASE_URL", "sqlite:"+write(t, "yufu.db", "")), serve, 1, []string{"YUFU_DATABASE_URL", "run yufu migrate"}},

		{"no master key", with("YUFU_MASTER_KEY_FILE", ""), serve, 2, []string{"YUFU_MASTER_KEY_FILE is missing", "the master key of this database", "For a new database", "openssl rand -base64 32"}},
		{"a missing master key file", with("YUFU_MASTER_KEY_FILE", "/nonexistent/key"), serve, 2, []string{"YUFU_MASTER_KEY_FILE", "does not exist: /nonexistent/key"}},
		{"a master key file that is a folder", with("YUFU_MASTER_KEY_FILE", t.TempDir()), serve, 2, []string{"YUFU_MASTER_KEY_FILE", "got a directory"}},
		{"a master key file that is empty", with("YUFU_MASTER_KEY_FILE", write(t, "key", "\n")), serve, 2, []string{"YUFU_MASTER_KEY_FILE", "is empty"}},
		{"a master key that is not base64", with("YUFU_MASTER_KEY_FILE", write(t, "key", hunter2)), serve, 2, []string{"YUFU_MASTER_KEY_FILE", "line 1", "openssl rand -base64 32"}},
		{"a master key that is too short", with("YUFU_MASTER_KEY_FILE", write(t, "key", "c2hvcnQ=")), serve, 2, []string{"YUFU_MASTER_KEY_FILE", "line 1", "32 bytes"}},

		{"an unknown variable", with("YUFU_ISUER", hunter2), serve, 2, []string{"no setting is called YUFU_ISUER"}},
		{"an access token lifetime that is too long", with("YUFU_ACCESS_TOKEN_TTL", "2h"), serve, 2, []string{"YUFU_ACCESS_TOKEN_TTL", "1h", "2h"}},
		{"an access token lifetime of zero", with("YUFU_ACCESS_TOKEN_TTL", "0s"), serve, 2, []string{"YUFU_ACCESS_TOKEN_TTL"}},
		{"a duration without a unit", with("YUFU_ACCESS_TOKEN_TTL", "600"), serve, 2, []string{`yufu: --access-token-ttl: must be a duration such as 90s, 15m or 720h, got "600" (from YUFU_ACCESS_TOKEN_TTL="600")`}},
		{"a refresh grace that is too long", with("YUFU_REFRESH_GRACE", "1h"), serve, 2, []string{"YUFU_REFRESH_GRACE", "10m"}},
		{"an idle lifetime longer than the lifetime of a session", with("YUFU_SESSION_IDLE_TTL", "9000h"), serve, 2, []string{"YUFU_SESSION_IDLE_TTL", "YUFU_SESSION_MAX_TTL"}},
		{"a maximum staleness that is too long", with("YUFU_MAX_STALENESS", "6m"), serve, 2, []string{"YUFU_MAX_STALENESS must be between 10s and 5m, got "}},
		{"a maximum staleness that is too short", with("YUFU_MAX_STALENESS", "1s"), serve, 2, []string{"YUFU_MAX_STALENESS must be between 10s and 5m, got "}},
		{"a limit that is too high", with("YUFU_SESSION_LIMIT", "2000"), serve, 2, []string{"yufu: YUFU_SESSION_LIMIT must be between 0 and 1000, got 2000\n"}},
		{"a limit that is too high, by its flag", with(), []string{"serve", "--session-limit", "2000"}, 2, []string{"yufu: --session-limit must be between 0 and 1000, got 2000\n"}},
		{"two settings out of bounds", with("YUFU_SESSION_LIMIT", "-1", "YUFU_SHUTDOWN_DELAY", "2h"), serve, 2, []string{"YUFU_SESSION_LIMIT", "yufu: YUFU_SHUTDOWN_DELAY must be between 0s and 1h, got 2h\n"}},
		{"settings missing, out of bounds and wrong", with("YUFU_ISSUER", "", "YUFU_MASTER_KEY_FILE", "", "YUFU_SESSION_LIMIT", "2000", "YUFU_SHUTDOWN_TIMEOUT", "0s", "YUFU_LOG_FORMAT", "xml"), serve, 2, []string{
			"yufu: YUFU_ISSUER is missing", "yufu: YUFU_MASTER_KEY_FILE is missing", "yufu: YUFU_SESSION_LIMIT must be between 0 and 1000, got 2000\n",
			"yufu: YUFU_SHUTDOWN_TIMEOUT must be at least 1ms, got 0s\n", "yufu: YUFU_LOG_FORMAT must be json or text, got \"xml\"\n",
		}},
		{"dev on all addresses, with a setting out of bounds", nil, []string{"dev", "--listen", ":8080", "--session-limit", "2000"}, 2, []string{
			"yufu: --listen must be a loopback address", "yufu: --session-limit must be between 0 and 1000, got 2000\n",
		}},
		{"a JWK set lifetime with half a second", with("YUFU_JWKS_MAX_AGE", "1500ms"), serve, 2, []string{"YUFU_JWKS_MAX_AGE must be a multiple of 1s, got 1.5s"}},
		{"a JWK set lifetime of zero", with("YUFU_JWKS_MAX_AGE", "0s"), serve, 2, []string{"YUFU_JWKS_MAX_AGE must be between 1s and 24h, got 0s"}},
		{"keys that rotate every minute", with("YUFU_KEY_ROTATION", "1m"), serve, 2, []string{"YUFU_KEY_ROTATION", "1h"}},
		{"keys that rotate before they are published long enough", with("YUFU_KEY_ROTATION", "1h", "YUFU_JWKS_MAX_AGE", "2h"), serve, 2, []string{"YUFU_KEY_ROTATION", "longer than YUFU_JWKS_MAX_AGE"}},
		{"no time to shut down", with("YUFU_SHUTDOWN_TIMEOUT", "0s"), serve, 2, []string{"YUFU_SHUTDOWN_TIMEOUT"}},
		{"an unknown log format", with("YUFU_LOG_FORMAT", "xml"), serve, 2, []string{"YUFU_LOG_FORMAT", "json or text"}},
		{"an unknown log level", with("YUFU_LOG_LEVEL", "loud"), serve, 2, []string{"YUFU_LOG_LEVEL", "debug, info, warn or error"}},
		{"a missing file of the log level", with("YUFU_LOG_LEVEL_FILE", "/nowhere/level"), serve, 2, []string{"YUFU_LOG_LEVEL_FILE", "/nowhere/level"}},
		{"a listen address without a host", with("YUFU_LISTEN", "8080"), serve, 1, []string{"YUFU_LISTEN", "host:port"}},
		{"a WeChat URL that is not a URL", with("YUFU_UNSAFE_WECHAT_URL", "localhost"), []string{"serve", "--migrate"}, 2, []string{"YUFU_UNSAFE_WECHAT_URL"}},
		{"an unknown flag", with(), []string{"serve", "--prot", "1"}, 2, []string{"unknown flag --prot", "yufu serve --help"}},
		{"a database URL without its flag", with(), []string{"serve", "postgres://u:" + hunter2 + "@h/d"}, 2, []string{"unexpected argument postgres://u:", "yufu serve --help"}},
		{"a database URL behind another flag", with(), []string{"serve", "--session-idle-ttl", "postgres://u:xy/" + hunter2 + "@h/d"}, 2, []string{"--session-idle-ttl", "duration"}},
		{"a flag without its value", with(), []string{"serve", "--issuer"}, 2, []string{"yufu: --issuer: expected string value but the command line ends\n", "yufu serve --help"}},
		{"a limit that is not a number", with("YUFU_SESSION_LIMIT", "many"), serve, 2, []string{`yufu: --session-limit: must be a whole number, got "many" (from YUFU_SESSION_LIMIT="many")`}},
		{"an unknown command", with(), []string{"srve"}, 2, []string{`did you mean "serve"?`, "yufu --help"}},

		{"dev on all addresses", nil, []string{"dev", "--listen", ":8080"}, 2, []string{"--listen must be a loopback address", "yufu serve"}},
		{"dev with the admin listener on all addresses", nil, []string{"dev", "--admin-listen", "0.0.0.0:0"}, 2, []string{"--admin-listen must be a loopback address"}},
		{"dev with the simulator on a private network", nil, []string{"dev", "--sim-listen", "10.0.0.1:0"}, 2, []string{"--sim-listen must be a loopback address"}},
		{"dev with an app without a secret", nil, []string{"dev", "--app", "wx1"}, 2, []string{"--app and --secret-file must be given together"}},
		{"dev with a secret without an app", nil, []string{"dev", "--secret-file", "f"}, 2, []string{"--app and --secret-file must be given together"}},
		{"dev with a missing secret file", nil, []string{"dev", "--app", "wx1", "--secret-file", "/nonexistent/secret"}, 2, []string{"--secret-file", "does not exist: /nonexistent/secret"}},
		{"dev with a file as its folder", nil, []string{"dev", "--data-dir", write(t, "file", "")}, 2, []string{"--data-dir", "not a directory"}},

		{"a simulator on all addresses", nil, []string{"wechatsim", "--sim-listen", ":0"}, 2, []string{"--sim-listen must be a loopback address"}},
		{"a simulator of an app without a secret", nil, []string{"wechatsim", "--app", "wx1"}, 2, []string{"--app must be APPID:SECRET; value number 1"}},
		{"a simulator of an app with a bad appid", nil, []string{"wechatsim", "--app", "wx1:s", "--app", "wx-2:" + hunter2}, 2, []string{"--app must be APPID:SECRET; value number 2"}},

		{"a token memory without a unit", with("YUFU_TOKEN_MEMORY", "64"), serve, 2, []string{"YUFU_TOKEN_MEMORY must be between 1MiB and 1GiB, got 64"}},
		{"a token memory in a unit that is none", with("YUFU_TOKEN_MEMORY", "64MB"), serve, 2, []string{"YUFU_TOKEN_MEMORY", `must be a size such as 64MiB`, `got "64MB"`}},
		{"app without a subcommand", nil, []string{"app"}, 2, []string{`"add", "list", "show", "update", "disable"`}},
		{"app add without a secret", with(), []string{"app", "add", "wx1"}, 2, []string{"--secret-file"}},
		{"app add with the secret as an argument", with(), []string{"app", "add", "wx1", "--secret", hunter2}, 2, []string{`did you mean "--secret-file"?`}},
		{"app add with a bad appid", with(), []string{"app", "add", "wx-1", "--secret-file", "-"}, 2, []string{"an appid is 1 to 64 letters and digits"}},
		{"app add with a bad audience", with(), []string{"app", "add", "wx1", "--secret-file", "-", "--audience", "a b"}, 2, []string{"--audience", "without spaces"}},
		{"app update of nothing", with(), []string{"app", "update", "wx1"}, 2, []string{"nothing to change"}},
		{"app update with contradictory flags", with(), []string{"app", "update", "wx1", "--no-audiences", "--audience", "a"}, 2, []string{"contradict"}},
		{"app update with an unknown algorithm", with(), []string{"app", "update", "wx1", "--signing-alg", "none"}, 2, []string{"--signing-alg: the signing algorithm must be ES256, EdDSA or RS256"}},
		{"app disable with a reason with a control character", with(), []string{"app", "disable", "wx1", "--reason", "a\x00b"}, 2, []string{"--reason"}},
		{"service-key without a subcommand", nil, []string{"service-key"}, 2, []string{`"create", "list", "pin", "revoke"`}},
		{"service-key create with an unknown scope", with(), []string{"service-key", "create", "--name", "x", "--scope", "service,root"}, 2, []string{"scope must be one or more of"}},
		{"service-key revoke with the whole key", with(), []string{"service-key", "revoke", "yfk_0123456789abcdef_" + strings.Repeat("A", 43)}, 2, []string{"got a whole key"}},
		{"service-key revoke with a reason with a line break", with(), []string{"service-key", "revoke", "0123456789abcdef", "--reason", "a\nb"}, 2, []string{"--reason"}},
		{"app list of an empty database", with("YUFU_DATABASE_URL", "sqlite:"+write(t, "yufu.db", "")), []string{"app", "list"}, 1, []string{"run yufu migrate"}},
		{"app add with an unknown algorithm", with(), []string{"app", "add", "wx1", "--secret-file", "-", "--signing-alg", "none"}, 2, []string{"--signing-alg", "ES256"}},
		{"audit list from no time", nil, []string{"audit", "list", "--from", "yesterday"}, 2, []string{`--from: must be a time such as 2026-01-31T08:00:00+08:00, got "yesterday"`}},
		{"audit list of no id", nil, []string{"audit", "list", "--uuid", "x"}, 2, []string{`--uuid: must be an id such as `, `got "x"`}},
		{"audit list with two beginnings", nil, []string{"audit", "list", "--since", "1h", "--from", "2026-01-31T08:00:00+08:00"}, 2, []string{"--since must be longer than 0, and not together with --from"}},
		{"audit export since a negative time", nil, []string{"audit", "export", "--since=-1h"}, 2, []string{"--since must be longer than 0"}},
		{"person list of too many", nil, []string{"person", "list", "--limit", "1001"}, 2, []string{"--limit must be between 1 and 1000, got 1001"}},
		{"keys without a subcommand", nil, []string{"keys"}, 2, []string{`"list", "rotate", "retire", "export"`}},
		{"keys list of an empty database", with("YUFU_DATABASE_URL", "sqlite:"+write(t, "yufu.db", "")), []string{"keys", "list"}, 1, []string{"run yufu migrate"}},
		{"keys rotate without a master key", with("YUFU_MASTER_KEY_FILE", "", "YUFU_DATABASE_URL", "sqlite:"+write(t, "yufu.db", "")), []string{"keys", "rotate"}, 2, []string{"YUFU_MASTER_KEY_FILE is missing"}},
		{"keys rotate of an empty database", with("YUFU_DATABASE_URL", "sqlite:"+write(t, "yufu.db", "")), []string{"keys", "rotate"}, 1, []string{"run yufu migrate"}},
		{"keys rotate of an unknown use", with(), []string{"keys", "rotate", "--use", "id"}, 2, []string{"--use must be access or refresh, got "}},
		{"keys rotate with a reason with a line break", with(), []string{"keys", "rotate", "--reason", "a\nb"}, 2, []string{"--reason"}},
		{"keys retire without a kid", with(), []string{"keys", "retire"}, 2, []string{"<kid>"}},
		{"keys retire with a max-age out of bounds", with("YUFU_JWKS_MAX_AGE", "25h"), []string{"keys", "retire", "k"}, 2, []string{"YUFU_JWKS_MAX_AGE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := try(t, c.env, "a secret\n", c.args...)
			if got.code != c.code {
				t.Errorf("exit code %d, want %d", got.code, c.code)
			}
			for _, say := range c.says {
				if !strings.Contains(got.errOut, say) {
					t.Errorf("stderr is %q, want %q in it", got.errOut, say)
				}
			}
			if got.out != "" {
				t.Errorf("stdout is %q, want nothing", got.out)
			}
			if strings.Contains(got.errOut, hunter2) {
				t.Errorf("stderr shows a secret: %s", got.errOut)
			}
		})
	}

	t.Run("a mistyped path does not become a database", func(t *testing.T) {
		env := with()
		for _, args := range [][]string{serve, {"app", "list"}, {"app", "add", "wx1", "--secret-file", "-"}, {"service-key", "list"}} {
			if got := try(t, env, "secret", args...); got.code != 1 || !strings.Contains(got.errOut, "run yufu migrate") {
				t.Errorf("%v; want a hint to run yufu migrate", got)
			}
		}
		path := strings.TrimPrefix(env["YUFU_DATABASE_URL"], "sqlite:")
		if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 0 {
			t.Errorf("the commands left the files %q, error %v; want no file", left, err)
		}
		if got := try(t, env, "", "migrate"); got.code != 0 {
			t.Errorf("%v; want exit code 0", got)
		}
		if got := try(t, env, "", "app", "list"); got.code != 0 {
			t.Errorf("after migrate: %v; want exit code 0", got)
		}
	})

	t.Run("variables that Kubernetes injects for a Service named yufu are ignored", func(t *testing.T) {
		got := try(t, map[string]string{
			"YUFU_SERVICE_HOST": "10.0.0.1", "YUFU_SERVICE_PORT": "80", "YUFU_SERVICE_PORT_HTTP": "80",
			"YUFU_PORT": "tcp://10.0.0.1:80", "YUFU_PORT_80_TCP": "tcp://10.0.0.1:80",
		}, "", "version")
		if got.code != 0 || !strings.HasPrefix(got.out, "yufu ") || got.errOut != "" {
			t.Errorf("%v; want the version", got)
		}
	})

	t.Run("variables with an empty value count as unset", func(t *testing.T) {
		env := with("YUFU_ACCESS_TOKEN_TTL", "", "YUFU_MIGRATE", "", "YUFU_LOG_FORMAT", "", "YUFU_LOG_LEVEL", "",
			"YUFU_DATABASE_URL_FILE", "", "YUFU_UNSAFE_WECHAT_URL", "", "YUFU_SIM_LISTEN", "", "YUFU_DATA_DIR", "")
		// The start fails only at the database.
		if got := try(t, env, "", "serve"); got.code != 1 || !strings.Contains(got.errOut, "run yufu migrate") {
			t.Errorf("%v; want a hint to run yufu migrate", got)
		}
	})

	t.Run("a flag wins over its variable", func(t *testing.T) {
		env := with("YUFU_ISSUER", "https://auth.example.com")
		if got := try(t, env, "", "serve", "--issuer", "ftp://x"); got.code != 2 || !strings.Contains(got.errOut, "ftp://x") {
			t.Errorf("%v; want an error about ftp://x", got)
		}
	})

	t.Run("a secret file that others can read is accepted with a warning", func(t *testing.T) {
		env := with()
		if err := os.Chmod(env["YUFU_MASTER_KEY_FILE"], 0o644); err != nil {
			t.Fatal(err)
		}
		got := try(t, env, "", "serve")
		if !strings.Contains(got.errOut, "chmod 600") || !strings.Contains(got.errOut, "run yufu migrate") {
			t.Errorf("%v; want a warning with chmod 600", got)
		}
	})
}

// wrongs are a command line and an environment in which as much as possible is wrong, and the
// beginnings of the lines that say so.
type wrongs struct {
	args []string
	env  map[string]string
	says []string
}

// newWrongs returns what can be wrong for a command: in its settings and, with bounds, also in
// its flags and in everything with bounds.
func newWrongs(t *testing.T, command *kong.Node, bounds bool) wrongs {
	t.Helper()
	w := wrongs{args: strings.Fields(command.FullPath())[1:], env: map[string]string{}}
	for range command.Positional {
		w.args = append(w.args, "x")
	}
	set := func(name, value string) {
		w.env[name] = value
		w.says = append(w.says, name)
	}
	for _, f := range command.Flags {
		name := append(f.Envs, "--"+f.Name)[0]
		switch {
		case f.Tag.Get("min") != "":
			if _, next := beside(t, f.Tag.Get("min"), false); bounds && len(f.Envs) > 0 {
				set(name, next)
			} else if bounds {
				w.args = append(w.args, name+"="+next)
				w.says = append(w.says, name)
			}
		case name == "--reason" && bounds:
			w.args = append(w.args, name, "a\nb")
			w.says = append(w.says, name)
		case name == "YUFU_DATABASE_URL", name == "YUFU_MASTER_KEY_FILE", name == "YUFU_ADMIN_KEY_FILE", name == "YUFU_ISSUER":
			w.says = append(w.says, name+" is missing")
		case name == "YUFU_LOG_LEVEL", name == "YUFU_LOG_FORMAT", name == "YUFU_VERIFY_COOKIE", name == "YUFU_ADMIN_URL":
			set(name, "a b")
		case name == "YUFU_SIM_LISTEN":
			set(name, ":0")
		case name == "--secret-file" && f.Required, name == "--policy-file", name == "--webhook-secret-file":
			w.args = append(w.args, name, "/nonexistent/file")
			w.says = append(w.says, name)
		case f.Required && len(f.Xor) == 0:
			w.args = append(w.args, name, "service")
		case name == "--none":
			w.args = append(w.args, name)
		}
	}
	return w
}

func TestAllWrongSettings(t *testing.T) {
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(false) {
		for _, bounds := range []bool{false, true} {
			w := newWrongs(t, command, bounds)
			if len(w.says) == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s reports at once: %s", command.FullPath(), strings.Join(w.says, ", ")), func(t *testing.T) {
				got := try(t, w.env, "", w.args...)
				if got.code != 2 {
					t.Errorf("%v; want exit code 2", got)
				}
				for _, say := range w.says {
					if !strings.Contains("\n"+got.errOut, "\nyufu: "+say) {
						t.Errorf("%v; want a line about %s", got, say)
					}
				}
				if n := strings.Count(got.errOut, "\n"); n != len(w.says)+1 {
					t.Errorf("%v; want %d lines and a hint", got, len(w.says))
				}
			})
		}
	}
}

func TestMasterKey(t *testing.T) {
	env := map[string]string{
		"YUFU_ISSUER":          "https://auth.example.com",
		"YUFU_DATABASE_URL":    "sqlite:" + filepath.Join(t.TempDir(), "yufu.db"),
		"YUFU_MASTER_KEY_FILE": write(t, "master.key", goodKey+"\n"),
		"YUFU_LISTEN":          "127.0.0.1:0",
		"YUFU_ADMIN_LISTEN":    "127.0.0.1:0",
	}
	for _, args := range [][]string{{"migrate"}, {"app", "add", "wx1", "--secret-file", "-"}} {
		if got := try(t, env, "a-secret", args...); got.code != 0 {
			t.Fatalf("%v; want exit code 0", got)
		}
	}
	right, other := env["YUFU_MASTER_KEY_FILE"], write(t, "other.key", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
	// The master key is checked also after all keys have ended.
	for _, migrate := range [][]string{{"migrate"}, {"migrate", "--restored"}} {
		env["YUFU_MASTER_KEY_FILE"] = right
		if got := try(t, env, "", migrate...); got.code != 0 {
			t.Fatalf("%v; want exit code 0", got)
		}
		env["YUFU_MASTER_KEY_FILE"] = other
		for _, args := range [][]string{migrate, {"serve"}, {"serve", "--migrate"}, {"app", "add", "wx2", "--secret-file", "-"}, {"app", "update", "wx1", "--secret-file", "-"},
			{"keys", "rotate"}, {"keys", "retire", "k"}, {"keys", "export"}, {"app", "update", "wx1", "--signing-alg", "RS256"},
		} {
			got := try(t, env, "a-secret", args...)
			if got.code != 1 || !strings.Contains(got.errOut, "YUFU_MASTER_KEY_FILE is not the master key that the database was set up with") {
				t.Errorf("with another master key: %v; want exit code 1 and an error about the master key", got)
			}
		}
	}
	// The first key seals, all keys open. This is how a master key is replaced.
	env["YUFU_MASTER_KEY_FILE"] = write(t, "both.key", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"+goodKey+"\n")
	if got := try(t, env, "a-secret", "app", "add", "wx2", "--secret-file", "-"); got.code != 0 {
		t.Errorf("with the other key first and the right key second: %v; want exit code 0", got)
	}
}

// flags returns a command's flags, or those of all commands.
func flags(t *testing.T, command string) []*kong.Flag {
	t.Helper()
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	var found []*kong.Flag
	for _, leaf := range parser.Model.Leaves(false) {
		if command == "" || leaf.Name == command {
			found = append(found, leaf.Flags...)
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has no flags", command)
	}
	return found
}

// boundPhrases are the words for bounds on a page of settings.
type boundPhrases struct{ between, orZero, atLeast, multiple string }

// of returns the bounds in a flag's tag as the page shows them, or "".
func (p boundPhrases) of(tag *kong.Tag) (text string) {
	minimum, maximum := tag.Get("min"), tag.Get("max")
	switch {
	case minimum == "" && maximum == "":
		return ""
	case maximum != "":
		text = fmt.Sprintf(p.between, minimum, maximum)
	case tag.Get("zero") != "":
		text = fmt.Sprintf(p.orZero, minimum)
	default:
		text = fmt.Sprintf(p.atLeast, minimum)
	}
	if unit := tag.Get("unit"); unit != "" {
		text += fmt.Sprintf(p.multiple, unit)
	}
	return text
}

func TestHelp(t *testing.T) {
	t.Run("help is printed without a command", func(t *testing.T) {
		got := try(t, nil, "")
		if got.code != 0 || !strings.Contains(got.out, "yufu dev") || got.errOut != "" {
			t.Errorf("%v; want the help on stdout", got)
		}
	})

	t.Run("help shows no empty default", func(t *testing.T) {
		for _, f := range flags(t, "") {
			if f.HasDefault && f.Default == "" {
				t.Errorf("--%s has an empty default", f.Name)
			}
		}
	})

	t.Run("help asks for only one of two exclusive flags", func(t *testing.T) {
		got := try(t, nil, "", "service-key", "pin", "--help")
		help := strings.Join(strings.Fields(got.out), " ")
		if strings.Count(help, "[one of these is required]") != 2 || strings.Contains(help, "[required]") {
			t.Errorf("the help of service-key pin is %q, want one of two flags required", help)
		}
	})

	for _, command := range []string{"serve", "dev", "wechatsim", "migrate"} {
		t.Run("help of "+command+" names every setting, its variable and its default", func(t *testing.T) {
			// The help must work also with a wrong setting.
			got := try(t, map[string]string{"YUFU_ISUER": "x"}, "", command, "--help")
			if got.code != 0 || got.errOut != "" {
				t.Fatalf("%v; want exit code 0 and no errors", got)
			}
			help := strings.Join(strings.Fields(got.out), " ") // without the line breaks
			for _, f := range flags(t, command) {
				if !strings.Contains(help, "--"+f.Name) {
					t.Errorf("--%s is not in the help", f.Name)
				}
				for _, env := range f.Envs {
					note := "[$" + env + "]"
					if f.HasDefault {
						note = "[$" + env + ", default " + f.Default + "]"
					}
					if !strings.Contains(help, note) {
						t.Errorf("--%s: the help has no %s", f.Name, note)
					}
				}
			}
			for _, line := range strings.Split(got.out, "\n") {
				if len(line) > 100 {
					t.Errorf("a line of the help is %d characters long: %s", len(line), line)
				}
			}
		})
	}

	for page, phrases := range map[string]boundPhrases{
		"en/settings.md": {between: "`%s` to `%s`", orZero: "`0`, or at least `%s`", atLeast: "at least `%s`", multiple: ", in multiples of `%s`"},
		"zh/settings.md": {between: "`%s` 到 `%s`", orZero: "`0`，或至少 `%s`", atLeast: "至少 `%s`", multiple: "，且为 `%s` 的整数倍"},
	} {
		t.Run("help and "+page+" list the same settings, defaults and bounds", func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "guide", page))
			if err != nil {
				t.Fatal(err)
			}
			listed := map[string]bool{}
			for _, row := range regexp.MustCompile("(?m)^\\| `(YUFU_[A-Z_]+)` \\| `--([a-z-]+)` \\| (?:`([^`]*)` )?\\| (?:([^|]+) )?\\|").FindAllStringSubmatch(string(text), -1) {
				listed[row[1]+" --"+row[2]+" "+row[3]+" "+row[4]] = true
			}
			for _, f := range flags(t, "") {
				for _, env := range f.Envs {
					def := f.Default
					if f.IsBool() {
						def = "false"
					}
					if row := env + " --" + f.Name + " " + def + " " + phrases.of(f.Tag); !listed[row] {
						t.Errorf("the page has no row for %s", row)
					}
				}
			}
		})
	}
}
