package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// masterKeyLine returns a line of a master-key file.
func (h *harness) masterKeyLine() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return h.secret("a master key", base64.StdEncoding.EncodeToString(key)) + "\n"
}

// TestMasterKeyChange changes the master key of two replicas one after the other.
func TestMasterKeyChange(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	before, after := h.masterKeyLine(), h.masterKeyLine()
	// Each replica has its own file, as on two machines.
	files := [2]string{h.file("a.key", before), h.file("b.key", before)}
	put := func(i int, lines string) {
		t.Helper()
		if err := os.WriteFile(files[i], []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := func(i int) settings { return d.env.with(settings{"YUFU_MASTER_KEY_FILE": files[i]}) }
	h.mustRun(env(0), "", "migrate")

	var procs [2]*process
	var services [2]*service
	ready := func(i int) *answer { return h.must(h.get(services[i].admin+"/readyz", "")) }
	metric := func(i int, want string) {
		t.Helper()
		h.must(h.get(services[i].admin+"/metrics", "")).contains(services[i], "yufu_keys_unusable "+want)
	}
	start := func(i int, name string) {
		t.Helper()
		procs[i] = h.start(name, env(i), "serve")
		services[i] = d.service(procs[i])
		h.eventually(name+" is ready", func() bool { return ready(i).Status == 200 })
	}
	restart := func(i int, name string) {
		t.Helper()
		procs[i].stop()
		start(i, name)
	}
	start(0, "A")
	start(1, "B")
	h.mustRun(env(0), h.appSecret(), "app", "add", testApp, "--secret-file", "-")

	// used checks that each replica accepts the tokens of both, and that no session is
	// lost.
	alice := services[0].logIn("alice").Doc.RefreshToken
	used := func(when string) {
		t.Helper()
		for i, s := range services {
			got := s.refresh(alice).want(s, 200, "")
			alice = got.Doc.RefreshToken
			for j, other := range services {
				if me := other.me(got.Doc.AccessToken); me.Status != 200 {
					t.Errorf("%s: replica %d answers %d to a token of replica %d: %s", when, j, me.Status, i, me.Body)
				}
				if r := ready(j); r.Status != 200 {
					t.Errorf("%s: replica %d is not ready: %s", when, j, r.Body)
				}
				metric(j, "0")
			}
		}
	}
	// rotate promotes the next key. The new next key is sealed with the file of a replica.
	rotate := func(by int) {
		t.Helper()
		kid := kidOf(services[0].refresh(alice).want(services[0], 200, "").Doc.AccessToken)
		h.mustRun(env(by), "", "keys", "rotate", "--now", "--use", "access")
		for _, s := range services {
			h.eventually("another key signs", func() bool {
				return kidOf(s.refresh(alice).want(s, 200, "").Doc.AccessToken) != kid
			})
		}
	}
	used("at first")

	put(0, before+after)
	restart(0, "A, with the new key second")
	rotate(0)
	used("with the new key second at A")
	put(1, before+after)
	restart(1, "B, with the new key second")
	rotate(1)
	used("with the new key second at both")

	put(0, after+before)
	restart(0, "A, with the new key on top")
	rotate(0)
	rotate(0) // the key that was sealed with the new master key signs
	used("with the new key on top at A")
	put(1, after+before)
	restart(1, "B, with the new key on top")
	rotate(1)
	used("with the new key on top at both")

	// A replica without the new master key becomes unready with the reason, and ready
	// again when it has the key.
	third := h.masterKeyLine()
	put(0, third+after+before)
	put(1, after+before)
	restart(0, "A, with a third key on top at once")
	h.mustRun(env(0), "", "keys", "rotate", "--now", "--use", "access")
	h.eventually("B, which cannot open the new key, is not ready", func() bool {
		r := ready(1)
		return r.Status == 503 && strings.Contains(r.Doc.Reason, "the keys in the database cannot be used")
	})
	metric(1, "1")
	if r := ready(0); r.Status != 200 {
		t.Errorf("A is not ready: %s", r.Body)
	}
	put(1, after+third+before)
	restart(1, "B, with the third key second")
	used("with the third key at both")
}
