package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/yufu-auth/yufu/db/sqlite"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, other := filepath.Join(dir, "yufu.db"), filepath.Join(dir, "other name.db")
	first := migratedStore(t, path)
	if err := os.Symlink(path, other); err != nil {
		t.Fatal(err)
	}
	if err := first.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, other} {
		second := openStore(t, name)
		if err := second.Claim(t.Context()); !errors.Is(err, sqlite.ErrClaimed) {
			t.Errorf("second Claim of %s: error = %v, want ErrClaimed", name, err)
		}
	}
	addApp(t, openStore(t, path)) // a store without a claim
	exchange(t, first, "o-1")

	third := openStore(t, path)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := third.Claim(t.Context()); err != nil {
		t.Errorf("Claim() after the first store is closed: error = %v", err)
	}
	exchange(t, third, "o-2")
}
