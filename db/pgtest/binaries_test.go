package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestProgramsThatOnlyRootCanReach has what a checkout below /root has: as root
// the server runs as somebody else, who cannot enter it.
func TestProgramsThatOnlyRootCanReach(t *testing.T) {
	t.Parallel()
	owner, err := dropTo()
	if err != nil {
		t.Fatal(err)
	}
	install := func(prefix string) (bin string) {
		prefix = filepath.Join(t.TempDir(), "root", prefix)
		bin = filepath.Join(prefix, "bin")
		for _, dir := range []string{bin, filepath.Join(prefix, "lib")} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for name, content := range map[string]string{
			"bin/postgres": "#!/bin/sh\ncat \"${0%/*}/../lib/link\"\n", "lib/real": "it runs",
		} {
			if err := writeProgram(filepath.Join(prefix, name), []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("real", filepath.Join(prefix, "lib", "link")); err != nil {
			t.Fatal(err)
		}
		return bin
	}

	t.Run("run from a copy if they are from npm", func(t *testing.T) {
		bin := install(npmPrefix)
		dir, copied, err := runnable(bin, owner)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(copied); err != nil {
				t.Error(err)
			}
		})
		if (copied != "") != (owner != nil) {
			t.Errorf("the copy is %q, and we run it as %v", copied, owner)
		}
		cmd := exec.Command(filepath.Join(dir, "postgres"))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "it runs" {
			t.Errorf("%v: %s", err, out)
		}
	})

	t.Run("are refused with their directory if they are not from npm", func(t *testing.T) {
		bin := install("local")
		dir, copied, err := runnable(bin, owner)
		switch {
		case owner == nil && (err != nil || dir != bin || copied != ""):
			t.Errorf("our own programs: %q, %q, %v", dir, copied, err)
		case owner != nil && (err == nil || !strings.Contains(err.Error(), bin)):
			t.Errorf("the error is: %v", err)
		}
	})
}
