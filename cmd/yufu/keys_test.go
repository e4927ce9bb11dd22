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

// keysHere returns the environment of a database that is set up, with its keys.
func keysHere(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{
		"YUFU_DATABASE_URL":    "sqlite:" + filepath.Join(t.TempDir(), "yufu.db"),
		"YUFU_MASTER_KEY_FILE": write(t, "master.key", goodKey+"\n"),
	}
	if got := try(t, env, "", "migrate"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := try(t, env, "", "keys", "list"); got.code != 0 || !strings.Contains(got.errOut, "no keys yet") {
		t.Errorf("before the first start: %+v", got)
	}
	if got := try(t, env, "a-secret", "app", "add", "wx1", "--secret-file", "-"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	return env
}

// succeed runs a command, which must succeed.
func succeed(t *testing.T, env map[string]string, args ...string) outcome {
	t.Helper()
	got := try(t, env, "", args...)
	if got.code != 0 {
		t.Fatalf("%v: %+v", args, got)
	}
	return got
}

// listed returns the kids of a use and state, as yufu keys list has them.
func listed(t *testing.T, env map[string]string, use, state string) (kids []string) {
	t.Helper()
	// Who lists needs no master key.
	bare := map[string]string{"YUFU_DATABASE_URL": env["YUFU_DATABASE_URL"]}
	for line := range strings.Lines(succeed(t, bare, "keys", "list").out) {
		if f := strings.Fields(line); f[1] == use && f[3] == state {
			kids = append(kids, f[0])
		}
	}
	return kids
}

// only returns the one of them.
func only(t *testing.T, env map[string]string, use, state string) string {
	t.Helper()
	kids := listed(t, env, use, state)
	if len(kids) != 1 {
		t.Fatalf("%d %s %s keys", len(kids), state, use)
	}
	return kids[0]
}

func TestKeys(t *testing.T) {
	t.Run("rotate says from when on the next keys sign, and again the same", func(t *testing.T) {
		env := keysHere(t)
		next := only(t, env, "access", "next")
		for range 2 {
			got := succeed(t, env, "keys", "rotate")
			for _, want := range []string{next, "signs access tokens from 20", "yufu keys rotate --now", "when every replica knows it"} {
				if !strings.Contains(got.out, want) {
					t.Errorf("it does not say %q: %s", want, got.out)
				}
			}
			if n := len(listed(t, env, "access", "next")); n != 2 {
				t.Errorf("%d keys wait", n)
			}
		}
	})
	t.Run("rotate --now does not wait, and says what that costs", func(t *testing.T) {
		env := keysHere(t)
		was, next := only(t, env, "access", "current"), only(t, env, "access", "next")
		got := succeed(t, env, "keys", "rotate", "--now", "--use", "access", "--reason", "a test")
		if !strings.Contains(got.out, next+" (ES256) signs access tokens now") || !strings.Contains(got.errOut, "may refuse the tokens of "+next) {
			t.Errorf("%+v", got)
		}
		if only(t, env, "access", "current") != next || only(t, env, "access", "previous") != was || len(listed(t, env, "refresh", "next")) != 1 {
			t.Error("the list says otherwise")
		}
	})
	t.Run("retire refuses a key that is needed, and says until when", func(t *testing.T) {
		env := keysHere(t)
		was := only(t, env, "access", "current")
		if got := try(t, env, "", "keys", "retire", was); got.code != 1 || !strings.Contains(got.errOut, "signs now") || !strings.Contains(got.errOut, "yufu keys retire "+was+" --now") {
			t.Errorf("%+v", got)
		}
		succeed(t, env, "keys", "rotate", "--now")
		if got := try(t, env, "", "keys", "retire", was); got.code != 1 || !strings.Contains(got.errOut, "until 20") {
			t.Errorf("%+v", got)
		}
		if only(t, env, "access", "previous") != was {
			t.Error("it is gone")
		}
	})
	t.Run("retire --now ends a signing key, and says who signs", func(t *testing.T) {
		env := keysHere(t)
		dead, next := only(t, env, "access", "current"), only(t, env, "access", "next")
		got := succeed(t, env, "keys", "retire", dead, "--now", "--reason", "leaked")
		if !strings.Contains(got.out, "Retired "+dead) || !strings.Contains(got.out, "Sessions go on") || !strings.Contains(got.out, next+" (ES256) signs.") || !strings.Contains(got.errOut, "may refuse the tokens of "+next) {
			t.Errorf("%+v", got)
		}
		if only(t, env, "access", "retired") != dead || only(t, env, "access", "current") != next {
			t.Error("the list says otherwise")
		}
		succeed(t, env, "keys", "retire", dead, "--now") // harmless to repeat
	})
	t.Run("retire --now of a MAC key says that sessions have ended", func(t *testing.T) {
		env := keysHere(t)
		dead := only(t, env, "refresh", "current")
		if got := succeed(t, env, "keys", "retire", dead, "--now"); !strings.Contains(got.out, "Every session of every app has ended") {
			t.Errorf("%+v", got)
		}
		if got := succeed(t, env, "keys", "retire", dead, "--now"); strings.Contains(got.out, "Every session") {
			t.Errorf("again: %+v", got)
		}
	})
	t.Run("retire of a key that has signed nothing replaces it", func(t *testing.T) {
		env := keysHere(t)
		was := only(t, env, "access", "next")
		succeed(t, env, "keys", "retire", was)
		if only(t, env, "access", "next") == was {
			t.Error("it is still there")
		}
	})
	t.Run("what is not there is not retired", func(t *testing.T) {
		env := keysHere(t)
		if got := try(t, env, "", "keys", "retire", "nobody", "--now"); got.code != 1 || !strings.Contains(got.errOut, "yufu keys list") {
			t.Errorf("%+v", got)
		}
		if got := try(t, env, "", "keys", "rotate", "--alg", "RS256"); got.code != 2 || !strings.Contains(got.errOut, "yufu keys list") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("export prints the public keys, as a JWK set or in PEM", func(t *testing.T) {
		env := keysHere(t)
		succeed(t, env, "app", "update", "wx1", "--signing-alg", "EdDSA")
		var set struct{ Keys []map[string]string }
		if err := json.Unmarshal([]byte(succeed(t, env, "keys", "export").out), &set); err != nil || len(set.Keys) != 4 {
			t.Fatalf("%d keys, %v", len(set.Keys), err)
		}
		rest := []byte(succeed(t, env, "keys", "export", "--pem").out)
		for _, k := range set.Keys {
			var block *pem.Block
			above := "# kid " + k["kid"] + ", alg " + k["alg"] + "\n-----BEGIN"
			if !strings.HasPrefix(string(rest), above) {
				t.Fatalf("%q does not begin with %q", rest, above)
			}
			if block, rest = pem.Decode(rest); block == nil || block.Type != "PUBLIC KEY" {
				t.Fatalf("%+v", block)
			}
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if _, ec := key.(*ecdsa.PublicKey); err != nil || ec != (k["alg"] == "ES256") {
				t.Errorf("%T, %v", key, err)
			}
		}
		if len(rest) != 0 {
			t.Errorf("%q is left", rest)
		}
	})
}

func TestSigningAlg(t *testing.T) {
	env := keysHere(t)
	got := succeed(t, env, "app", "update", "wx1", "--signing-alg", "EdDSA")
	if !strings.Contains(got.out, "signed with EdDSA from 20") || !strings.Contains(got.out, "until then with ES256") {
		t.Errorf("%+v", got)
	}
	if kids := listed(t, env, "access", "next"); len(kids) != 3 {
		t.Errorf("%d keys wait: %v", len(kids), kids)
	}
	if list := succeed(t, env, "app", "list").out; !strings.Contains(list, "EdDSA") {
		t.Error(list)
	}
	if got := try(t, env, "a-secret", "app", "add", "wx2", "--secret-file", "-", "--signing-alg", "EdDSA"); got.code != 0 || !strings.Contains(got.out, "from 20") {
		t.Errorf("%+v", got)
	}
	if kids := listed(t, env, "access", "next"); len(kids) != 3 {
		t.Errorf("%d keys wait after the second app", len(kids))
	}
	if got := succeed(t, env, "app", "update", "wx1", "--signing-alg", "ES256"); got.out != "Updated wx1.\n" {
		t.Errorf("%+v", got)
	}
	delete(env, "YUFU_MASTER_KEY_FILE")
	if got := try(t, env, "", "app", "update", "wx1", "--signing-alg", "RS256"); got.code != 2 || !strings.Contains(got.errOut, "YUFU_MASTER_KEY_FILE") {
		t.Errorf("%+v", got)
	}
}
