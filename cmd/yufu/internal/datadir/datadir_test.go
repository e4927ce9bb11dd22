package datadir

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	d, err := Open("X", filepath.Join(t.TempDir(), "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(string(d)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, error %v; want 0700", info.Mode(), err)
	}
	file := d.Path("file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", file, filepath.Join(file, "x")} {
		if _, err := Open("YUFU_DATA_DIR", bad); err == nil || !strings.Contains(err.Error(), "YUFU_DATA_DIR") {
			t.Errorf("Open(%q): error = %v, want one that names YUFU_DATA_DIR", bad, err)
		}
	}
}

func TestReadOrCreate(t *testing.T) {
	t.Parallel()
	d, err := Open("X", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	got := make([]string, 16)
	for i := range got {
		wg.Go(func() {
			b, err := d.ReadOrCreate("key", func() []byte { return []byte(rand.Text()) })
			if err != nil {
				t.Error(err)
			}
			got[i] = string(b)
		})
	}
	wg.Wait()
	for _, g := range got {
		if g == "" || g != got[0] {
			t.Fatalf("callers disagree: %q", got)
		}
	}
	if info, err := os.Stat(d.Path("key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, error %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(d.Path("key.*")); len(left) > 0 {
		t.Errorf("the files %v are left, want none", left)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	d, err := Open("X", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", "second"} {
		if err := d.Replace("key", []byte(content)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(d.Path("key"))
		if err != nil || string(b) != content {
			t.Errorf("the file has %q, error %v; want %q", b, err, content)
		}
	}
	if info, err := os.Stat(d.Path("key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, error %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(d.Path("key.*")); len(left) > 0 {
		t.Errorf("the files %v are left, want none", left)
	}
}
