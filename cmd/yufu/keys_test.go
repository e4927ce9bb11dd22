package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
)

// newDatabaseEnv returns the environment of a new database with keys and the app wx1.
func newDatabaseEnv(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{
		"YUFU_DATABASE_URL":    "sqlite:" + filepath.Join(t.TempDir(), "yufu.db"),
		"YUFU_MASTER_KEY_FILE": write(t, "master.key", goodKey+"\n"),
	}
	if got := try(t, env, "", "migrate"); got.code != 0 {
		t.Fatalf("%v; want exit code 0", got)
	}
	if got := try(t, env, "", "keys", "list"); got.code != 0 || !strings.Contains(got.errOut, "no keys yet") {
		t.Errorf("%v; want a note that there are no keys yet", got)
	}
	if got := try(t, env, "a-secret", "app", "add", "wx1", "--secret-file", "-"); got.code != 0 {
		t.Fatalf("%v; want exit code 0", got)
	}
	return env
}

// succeed runs a command and fails the test unless the exit code is 0.
func succeed(t *testing.T, env map[string]string, args ...string) outcome {
	t.Helper()
	got := try(t, env, "", args...)
	if got.code != 0 {
		t.Fatalf("%v; want exit code 0", got)
	}
	return got
}

// listed returns the kids of a use and state, from the output of yufu keys list.
func listed(t *testing.T, env map[string]string, use, state string) (kids []string) {
	t.Helper()
	// keys list needs no master key.
	bare := map[string]string{"YUFU_DATABASE_URL": env["YUFU_DATABASE_URL"]}
	for line := range strings.Lines(succeed(t, bare, "keys", "list").out) {
		if f := strings.Fields(line); f[1] == use && f[3] == state {
			kids = append(kids, f[0])
		}
	}
	return kids
}

// only returns the kid of a use and state, of which there must be exactly one.
func only(t *testing.T, env map[string]string, use, state string) string {
	t.Helper()
	kids := listed(t, env, use, state)
	if len(kids) != 1 {
		t.Fatalf("keys list has %d %s keys of use %s, want 1", len(kids), state, use)
	}
	return kids[0]
}

func TestKeys(t *testing.T) {
	t.Run("rotate prints when the next keys sign, and the same when repeated", func(t *testing.T) {
		env := newDatabaseEnv(t)
		next := only(t, env, "access", "next")
		for range 2 {
			got := succeed(t, env, "keys", "rotate")
			for _, want := range []string{next, "signs access tokens from 20", "yufu keys rotate --now", "when every replica knows it"} {
				if !strings.Contains(got.out, want) {
					t.Errorf("%v; want %q", got, want)
				}
			}
			if n := len(listed(t, env, "access", "next")); n != 2 {
				t.Errorf("keys list has %d next keys, want 2", n)
			}
		}
	})
	t.Run("rotate --now does not wait and prints a warning", func(t *testing.T) {
		env := newDatabaseEnv(t)
		was, next := only(t, env, "access", "current"), only(t, env, "access", "next")
		got := succeed(t, env, "keys", "rotate", "--now", "--use", "access", "--reason", "a test")
		if !strings.Contains(got.out, next+" (ES256) signs access tokens now") || !strings.Contains(got.errOut, "may refuse the tokens of "+next) {
			t.Errorf("%v; want %s to sign now, and a warning", got, next)
		}
		if only(t, env, "access", "current") != next || only(t, env, "access", "previous") != was || len(listed(t, env, "refresh", "next")) != 1 {
			t.Errorf("keys list does not have %s current, %s previous and one next refresh key", next, was)
		}
	})
	t.Run("retire refuses a key that is needed and prints until when", func(t *testing.T) {
		env := newDatabaseEnv(t)
		was := only(t, env, "access", "current")
		if got := try(t, env, "", "keys", "retire", was); got.code != 1 || !strings.Contains(got.errOut, "signs now") || !strings.Contains(got.errOut, "yufu keys retire "+was+" --now") {
			t.Errorf("%v; want a refusal, because the key signs now", got)
		}
		succeed(t, env, "keys", "rotate", "--now")
		if got := try(t, env, "", "keys", "retire", was); got.code != 1 || !strings.Contains(got.errOut, "until 20") {
			t.Errorf("%v; want a refusal with a time", got)
		}
		if only(t, env, "access", "previous") != was {
			t.Errorf("keys list does not have %s previous", was)
		}
	})
	t.Run("retire --now ends a signing key and prints which key signs", func(t *testing.T) {
		env := newDatabaseEnv(t)
		dead, next := only(t, env, "access", "current"), only(t, env, "access", "next")
		got := succeed(t, env, "keys", "retire", dead, "--now", "--reason", "leaked")
		if !strings.Contains(got.out, "Retired "+dead) || !strings.Contains(got.out, "Sessions go on") || !strings.Contains(got.out, next+" (ES256) signs.") || !strings.Contains(got.errOut, "may refuse the tokens of "+next) {
			t.Errorf("%v; want %s retired and %s to sign", got, dead, next)
		}
		if only(t, env, "access", "retired") != dead || only(t, env, "access", "current") != next {
			t.Errorf("keys list does not have %s retired and %s current", dead, next)
		}
		succeed(t, env, "keys", "retire", dead, "--now") // harmless to repeat
	})
	t.Run("retire --now of a MAC key prints that all sessions have ended", func(t *testing.T) {
		env := newDatabaseEnv(t)
		dead := only(t, env, "refresh", "current")
		if got := succeed(t, env, "keys", "retire", dead, "--now"); !strings.Contains(got.out, "Every session of every app has ended") {
			t.Errorf("%v; want that every session has ended", got)
		}
		if got := succeed(t, env, "keys", "retire", dead, "--now"); strings.Contains(got.out, "Every session") {
			t.Errorf("repeated: %v; want no line about sessions", got)
		}
	})
	t.Run("retire of a key that has signed nothing replaces it", func(t *testing.T) {
		env := newDatabaseEnv(t)
		was := only(t, env, "access", "next")
		succeed(t, env, "keys", "retire", was)
		if only(t, env, "access", "next") == was {
			t.Errorf("keys list still has %s as the next key", was)
		}
	})
	t.Run("retire and rotate refuse keys that do not exist", func(t *testing.T) {
		env := newDatabaseEnv(t)
		if got := try(t, env, "", "keys", "retire", "unknown", "--now"); got.code != 1 || !strings.Contains(got.errOut, "yufu keys list") {
			t.Errorf("%v; want a refusal", got)
		}
		if got := try(t, env, "", "keys", "rotate", "--alg", "RS256"); got.code != 2 || !strings.Contains(got.errOut, "yufu keys list") {
			t.Errorf("%v; want a refusal", got)
		}
	})
	t.Run("export prints the public keys, as a JWK set or in PEM", func(t *testing.T) {
		env := newDatabaseEnv(t)
		succeed(t, env, "app", "update", "wx1", "--signing-alg", "EdDSA")
		var set struct{ Keys []map[string]string }
		if err := json.Unmarshal([]byte(succeed(t, env, "keys", "export").out), &set); err != nil || len(set.Keys) != 4 {
			t.Fatalf("keys export has %d keys, error %v; want 4 keys", len(set.Keys), err)
		}
		rest := []byte(succeed(t, env, "keys", "export", "--pem").out)
		for _, k := range set.Keys {
			var block *pem.Block
			above := "# kid " + k["kid"] + ", alg " + k["alg"] + "\n-----BEGIN"
			if !strings.HasPrefix(string(rest), above) {
				t.Fatalf("the rest of the PEM output is %q, want it to begin with %q", rest, above)
			}
			if block, rest = pem.Decode(rest); block == nil || block.Type != "PUBLIC KEY" {
				t.Fatalf("PEM block = %+v, want a PUBLIC KEY", block)
			}
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if _, ec := key.(*ecdsa.PublicKey); err != nil || ec != (k["alg"] == "ES256") {
				t.Errorf("the PEM key is a %T, error %v; want one of %s", key, err, k["alg"])
			}
		}
		if len(rest) != 0 {
			t.Errorf("%q follows the last PEM key, want nothing", rest)
		}
	})
}

func TestSigningAlg(t *testing.T) {
	env := newDatabaseEnv(t)
	got := succeed(t, env, "app", "update", "wx1", "--signing-alg", "EdDSA")
	if !strings.Contains(got.out, "signed with EdDSA from 20") || !strings.Contains(got.out, "Until then they are signed with ES256") {
		t.Errorf("%v; want a time from which EdDSA signs", got)
	}
	if kids := listed(t, env, "access", "next"); len(kids) != 3 {
		t.Errorf("the next keys are %v, want 3", kids)
	}
	if list := succeed(t, env, "app", "list").out; !strings.Contains(list, "EdDSA") {
		t.Errorf("app list prints %q, want EdDSA", list)
	}
	if got := try(t, env, "a-secret", "app", "add", "wx2", "--secret-file", "-", "--signing-alg", "EdDSA"); got.code != 0 || !strings.Contains(got.out, "from 20") {
		t.Errorf("%v; want a time from which EdDSA signs", got)
	}
	if kids := listed(t, env, "access", "next"); len(kids) != 3 {
		t.Errorf("the next keys after the second app are %v, want 3", kids)
	}
	if got := succeed(t, env, "app", "update", "wx1", "--signing-alg", "ES256"); got.out != "Updated wx1.\n" {
		t.Errorf("%v; want no time", got)
	}
	delete(env, "YUFU_MASTER_KEY_FILE")
	if got := try(t, env, "", "app", "update", "wx1", "--signing-alg", "RS256"); got.code != 2 || !strings.Contains(got.errOut, "YUFU_MASTER_KEY_FILE") {
		t.Errorf("%v; want exit code 2, because the master key is missing", got)
	}
}
