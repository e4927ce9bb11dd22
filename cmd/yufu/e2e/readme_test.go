package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

// TestProductionAsPasted runs the README's commands for production, in a folder with only
// the built program and an AppSecret. Only the address of the database differs.
func TestProductionAsPasted(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Production\n")
	_, block, opened := strings.Cut(section, "```sh\n")
	block, _, closed := strings.Cut(block, "```")
	const example, serve, app = "postgres://yufu:password@127.0.0.1:5432/yufu", "\nbin/yufu serve\n", "wx0123456789abcdef"
	for _, part := range []string{example, serve, app, " appsecret"} {
		if !found || !opened || !closed || !strings.Contains(block, part) {
			t.Fatalf("the README's section on production has no commands with %q: %s", part, block)
		}
	}
	script := strings.NewReplacer(example, "'"+pgtest.Empty(t)+"'", serve, "\nexec bin/yufu serve\n").Replace(block)

	h := newHarness(t)
	dir := t.TempDir()
	secret := h.appSecret()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(dir, "bin", "yufu")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "appsecret"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sim := h.simulator(wechatsim.Config{Apps: map[string]string{app: secret}})
	p := h.prepare("the README's commands", nil, nil)
	p.cmd = exec.Command("sh", "-eu", "-c", script)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.stdout, p.stderr
	p.cmd.Env = settings{
		"YUFU_LISTEN": "127.0.0.1:0", "YUFU_ADMIN_LISTEN": "127.0.0.1:0", "YUFU_UNSAFE_WECHAT_URL": sim.base,
	}.environ()
	h.launch(p)

	s := &service{harness: h, base: p.base("public"), admin: p.base("admin"), app: app, sim: sim}
	key, err := os.ReadFile(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	h.secret("the master key", strings.TrimSpace(string(key)))
	s.eventually("it is ready", func() bool { return s.must(s.get(s.admin+"/readyz", "")).Status == http.StatusOK })
	alice := s.logIn("alice")
	s.refresh(alice.Doc.RefreshToken).want(s, http.StatusOK, "")
	if warned := strings.Contains(p.stderr.String(), "other users can read"); warned {
		t.Error("the commands leave a secret readable by others")
	}
	p.stop()
}
