package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRunnable imitates a checkout below /root: the server of root's tests runs as a user
// who cannot enter it.
func TestRunnable(t *testing.T) {
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
			t.Errorf("copied = %q, server runs as %v", copied, owner)
		}
		cmd := exec.Command(filepath.Join(dir, "postgres"))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "it runs" {
			t.Errorf("running the copy: %v: %s", err, out)
		}
	})

	t.Run("binaries are refused with their directory if they are not from npm", func(t *testing.T) {
		bin := install("local")
		dir, copied, err := runnable(bin, owner)
		switch {
		case owner == nil && (err != nil || dir != bin || copied != ""):
			t.Errorf("runnable() of our own programs = %q, %q, %v", dir, copied, err)
		case owner != nil && (err == nil || !strings.Contains(err.Error(), bin)):
			t.Errorf("runnable() error = %v, want one that names %s", err, bin)
		}
	})
}
