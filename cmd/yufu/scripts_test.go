package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// machine is a folder with this repository's scripts, and a PATH with the programs that the
// test puts there: real tools that every machine has, and stand-ins that record their calls.
type machine struct {
	t        *testing.T
	dir, bin string
	env      []string
}

// newMachine returns a machine with PostgreSQL, sqlite3, git, proxies, a browser and a Python
// with its libraries, but without curl, openssl, Node and Go.
func newMachine(t *testing.T, uid string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), bin: t.TempDir()}
	m.env = []string{"PATH=" + m.bin, "HOME=" + m.dir, "CALLS=" + filepath.Join(m.bin, "calls"), "YUFU_PGBIN=" + m.bin}
	for _, name := range []string{"build", "check", "deps", "flaky", "folders", "generate", "heavy", "interop", "mirror-hint", "raceflags", "test", "vuln"} {
		content := read(t, ".ci/"+name)
		path := filepath.Join(m.dir, ".ci", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := writeProgram(path, content); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "awk", "cat", "chmod", "cmp", "cp", "dirname", "env", "grep", "ls", "mkdir", "sed", "uname"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(m.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.put("id", "echo "+uid)
	m.put("git", `case "$*" in *go.mod*) mkdir -p pkg/bearer; echo pkg/bearer/go.mod ;; esac`)
	for _, there := range []string{"nginx", "caddy", "haproxy", "pgbouncer", "php", "chromium", "python3", "sqlite3"} {
		m.put(there, "")
	}
	for _, starter := range []string{"systemctl", "service", "rc-service", "pg_ctlcluster", "launchctl"} {
		m.put(starter, "")
	}
	return m
}

// put adds a program that records its call and runs the script.
func (m *machine) put(name, script string) {
	m.t.Helper()
	script = "#!/bin/sh\necho " + name + ` "$@" >>"$CALLS"` + "\n" + script + "\n"
	if err := writeProgram(filepath.Join(m.bin, name), []byte(script)); err != nil {
		m.t.Fatal(err)
	}
}

// writeProgram writes an executable file. It holds the fork lock, because a process that a
// parallel test forks would inherit the open file, and a file that is open for writing cannot
// be run ("text file busy").
func writeProgram(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o700)
}

// run runs one of the scripts, with arguments if there are any, and returns its exit code and
// its output.
func (m *machine) run(script string, env ...string) (code int, out string) {
	m.t.Helper()
	words := strings.Fields(script)
	cmd := exec.CommandContext(m.t.Context(), filepath.Join(m.dir, ".ci", words[0]), words[1:]...)
	cmd.Dir = m.dir
	cmd.Env = append(slices.Clone(m.env), env...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// called returns the calls of a program, in order.
func (m *machine) called(name string) (calls []string) {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.bin, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == name || strings.HasPrefix(line, name+" ") {
			calls = append(calls, line)
		}
	}
	return calls
}

// wantOrder fails the test unless the text has the parts in this order.
func wantOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Fatalf("%q is missing, or in the wrong place, in:\n%s", part, text)
		}
		rest = after
	}
}

const hint = "export GOPROXY="

func TestScriptForTests(t *testing.T) {
	t.Parallel()
	const goTests = `echo "go $*"; case $1 in test) exit ${TESTS:-0} ;; mod) exit ${DOWNLOADS:-0} ;; esac`

	t.Run("prints on a laptop first how to install missing tools and last which", func(t *testing.T) {
		t.Parallel()
		for _, tests := range []string{"0", "1"} {
			m := newMachine(t, "1000")
			m.put("go", goTests)
			code, out := m.run("test", "TESTS="+tests)
			if (code == 0) != (tests == "0") {
				t.Errorf("exit code %d, want that of the tests, %s", code, tests)
			}
			wantOrder(t, out, "sudo make deps", "go mod download", "go test -timeout 30m ./...", "go test -timeout 30m ./...",
				"Missing here", "\ncurl\n", "openssl\n", "node (20 or newer) with npm\n")
			if strings.Contains(out, "PostgreSQL") {
				t.Errorf("the output names PostgreSQL, which is installed:\n%s", out)
			}
		}
	})
	t.Run("does not mention installed tools", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, "1000")
		m.put("go", goTests)
		m.put("curl", "")
		m.put("openssl", "")
		m.put("node", "echo 20")
		m.put("npm", "")
		code, out := m.run("test")
		if code != 0 || strings.Contains(out, "make deps") || strings.Contains(out, "issing") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		m.put("node", "echo 18")
		if _, out := m.run("test"); !strings.Contains(out, "node (20 or newer)") {
			t.Errorf("the output does not name Node, although Node 18 is too old:\n%s", out)
		}
	})
	t.Run("fails in CI before any test if a tool is missing", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, "1000")
		m.put("go", goTests)
		code, out := m.run("test", "CI=true")
		if code == 0 {
			t.Error("exit code 0, want a failure")
		}
		wantOrder(t, out, "Still missing", "\ncurl\n", "node (20 or newer) with npm\n")
		if calls := m.called("go"); len(calls) != 0 {
			t.Errorf("the script called %q, want no call of go", calls)
		}
	})
	t.Run("installs missing tools as root and starts no service", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, "0")
		m.put("go", goTests)
		m.put("apt-get", `d=${0%/*}; for p in "$@"; do case $p in
			curl | openssl | npm) printf '#!/bin/sh\n' >"$d/$p"; chmod 700 "$d/$p" ;;
			nodejs) printf '#!/bin/sh\necho 20\n' >"$d/node"; chmod 700 "$d/node" ;; esac; done`)
		code, out := m.run("test")
		if code != 0 || strings.Contains(out, "Missing") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		wantOrder(t, out, "Installing: curl openssl nodejs npm", "Everything the tests need is here", "go test -timeout 30m ./...")
		for _, call := range m.called("apt-get") {
			if strings.Contains(call, "postgres") {
				t.Errorf("the script called %q, but that package starts a server", call)
			}
		}
		for _, there := range []string{"nginx", "caddy", "haproxy", "pgbouncer", "php", "chromium", "python3"} {
			m.put(there, "")
		}
		for _, starter := range []string{"systemctl", "service", "rc-service", "pg_ctlcluster", "launchctl"} {
			if calls := m.called(starter); len(calls) != 0 {
				t.Errorf("the script called %q, want no service to start", calls)
			}
		}
	})
	t.Run("uses the race detector on demand, runs benchmarks, and asks for a C compiler", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, "1000")
		m.put("go", `case "$*" in env*) echo cc ;; list*) printf 'y/cmd/yufu\ny/cmd/yufu/e2e\n' ;; *) echo "go $* with CGO_ENABLED=$CGO_ENABLED" ;; esac
case "$*" in *e2e) exit ${E2E:-0} ;; esac`)
		for _, tool := range []string{"curl", "openssl", "npm"} {
			m.put(tool, "")
		}
		for _, name := range []string{"mktemp", "rm"} {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(m.bin, name)); err != nil {
				t.Fatal(err)
			}
		}
		m.put("node", "echo 20")
		if code, out := m.run("test --race", "CI=true"); code == 0 || !strings.Contains(out, "a C compiler (cc)") {
			t.Errorf("without a C compiler: exit code %d:\n%s", code, out)
		}
		m.put("cc", "")
		code, out := m.run("test --race", "CI=true")
		if code != 0 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		const (
			race       = "go test -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc/...=-race=false -vet=off -timeout 30m "
			benchmarks = " -args -test.bench=. -test.benchtime=1x with CGO_ENABLED=1\n"
		)
		wantOrder(t, out, "Everything the tests need is here", race+"./..."+benchmarks, race+"y/cmd/yufu"+benchmarks,
			"go test -timeout 30m ./cmd/yufu/e2e with CGO_ENABLED=0\n")
		if code, out := m.run("test --race", "CI=true", "E2E=1"); code == 0 {
			t.Errorf("with a failing test of the built program: exit code 0:\n%s", out)
		}
	})
	t.Run("refuses an unknown option", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, "1000")
		if code, out := m.run("test --rice"); code != 2 || !strings.Contains(out, "unknown option '--rice'") {
			t.Errorf("exit code %d, want 2:\n%s", code, out)
		}
	})
	t.Run("prints mirrors if modules cannot be downloaded", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, "1000")
		m.put("go", goTests)
		code, out := m.run("test", "DOWNLOADS=1")
		if code == 0 || !strings.Contains(out, hint) || strings.Contains(out, "go test") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
}

// The folders in .ci/heavy have a target of their own.
func TestHeavyFolders(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "1000")
	m.put("go", `echo "$PWD"`)
	m.put("npm", `echo "$PWD"`)
	m.put("git", `case "$*" in
*go.mod*) mkdir -p pkg/bearer heavy/go; echo pkg/bearer/go.mod; echo heavy/go/go.mod ;;
*package-lock.json*) mkdir -p js heavy/js; echo heavy/js/package-lock.json; echo js/package-lock.json ;; esac`)
	if err := os.WriteFile(filepath.Join(m.dir, ".ci", "heavy"), []byte("# Why.\nheavy/go\nheavy/js\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{"folders go.mod": "pkg/bearer\n", "folders package-lock.json": "js\n"} {
		if code, out := m.run(script); code != 0 || out != want {
			t.Errorf("%s: exit code %d, output %q, want %q", script, code, out, want)
		}
	}
	if err := os.WriteFile(filepath.Join(m.dir, "heavy/go/go.mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := m.run("interop")
	if code != 0 {
		t.Errorf("interop: exit code %d:\n%s", code, out)
	}
	want := []string{"go vet ./...", "go test -count=1 -timeout 30m ./..."}
	if calls := m.called("go"); !slices.Equal(calls, want) {
		t.Errorf("interop called %q, want %q", calls, want)
	}
	if calls := m.called("npm"); len(calls) != 2 || calls[1] != "npm test --silent" {
		t.Errorf("interop called %q, want npm ci and npm test", calls)
	}
	if strings.Contains(out, "pkg/bearer") {
		t.Errorf("interop ran the tests of a folder that is not heavy:\n%s", out)
	}
	m.put("go", "exit 1")
	if code, _ := m.run("interop"); code == 0 {
		t.Error("interop succeeds while a test fails")
	}
	for _, dir := range heavyFolders(t) {
		if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
			t.Errorf(".ci/heavy names a folder that does not exist: %v", err)
		}
	}
}

// heavyFolders returns the folders in .ci/heavy.
func heavyFolders(t *testing.T) []string {
	t.Helper()
	return strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(string(read(t, ".ci/heavy")), ""))
}

func TestScriptForDependencies(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "1000")
	m.put("git", `case "$*" in *package-lock.json*) mkdir -p js; echo '{}' >js/package-lock.json; echo js/package-lock.json ;; esac`)
	m.put("curl", "")
	m.put("openssl", "")
	m.put("node", "echo 20")

	t.Run("prints mirrors if packages cannot be downloaded", func(t *testing.T) {
		m.put("npm", "exit 1")
		code, out := m.run("deps")
		if code == 0 || !strings.Contains(out, "npm config set registry") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		if code, out := m.run("deps --missing"); code == 0 || out != "npm packages of js\n" {
			t.Errorf("deps --missing: exit code %d, want a failure and only the npm packages:\n%s", code, out)
		}
	})
	t.Run("installs the packages of the lock file once", func(t *testing.T) {
		m.put("npm", "mkdir -p js/node_modules")
		before := len(m.called("npm"))
		for range 2 {
			if code, out := m.run("deps"); code != 0 || !strings.Contains(out, "Everything the tests need is here") {
				t.Errorf("exit code %d:\n%s", code, out)
			}
		}
		calls := m.called("npm")[before:]
		if len(calls) != 1 || !strings.HasPrefix(calls[0], "npm ci --prefix js --ignore-scripts") {
			t.Errorf("the script called %q, want npm ci without the packages' scripts, once", calls)
		}
	})
}

func TestScriptForBuilding(t *testing.T) {
	t.Parallel()
	const first = "The first build takes a minute or two"
	m := newMachine(t, "1000")

	t.Run("requires a recent Go", func(t *testing.T) {
		if code, out := m.run("build"); code == 0 || !strings.Contains(out, "Go 1.26 or newer") {
			t.Errorf("without Go: exit code %d:\n%s", code, out)
		}
		for version, old := range map[string]bool{"go1.4": true, "go1.9.7": true, "go1.19.8": true, "go1.20.1": true, "go1.21.0": false, "go1.26.8": false, "go2.0": false} {
			m.put("go", `[ "$1" = build ] || echo "go version `+version+` linux/amd64"`)
			if code, out := m.run("build"); (code != 0) != old || strings.Contains(out, "needs Go 1.26") != old {
				t.Errorf("%s: exit code %d:\n%s", version, code, out)
			}
		}
	})
	t.Run("prints that the first build takes a while, and mirrors if it fails", func(t *testing.T) {
		m.put("go", `case $1 in version) echo go version go1.26.0 x/y ;; *) exit 1 ;; esac`)
		if code, out := m.run("build"); code == 0 || !strings.Contains(out, first) || !strings.Contains(out, hint) {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		m.put("go", `case $1 in version) echo go version go1.26.0 x/y ;; *) mkdir -p bin; echo >bin/yufu ;; esac`)
		if code, out := m.run("build"); code != 0 || !strings.Contains(out, first) {
			t.Errorf("first build: exit code %d, want 0 and a note:\n%s", code, out)
		}
		if code, out := m.run("build"); code != 0 || out != "" {
			t.Errorf("second build: exit code %d, want 0 and no output:\n%s", code, out)
		}
		if calls := m.called("go"); !slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, "go build ") }) {
			t.Errorf("the script called %q, want go build", calls)
		}
	})
}

func TestScriptForChecks(t *testing.T) {
	t.Parallel()
	onMachine := func(t *testing.T) *machine {
		m := newMachine(t, "1000")
		for _, name := range []string{"date"} {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(m.bin, name)); err != nil {
				t.Fatal(err)
			}
		}
		m.put("git", `mkdir -p pkg/bearer; echo go.mod; echo pkg/bearer/go.mod`)
		m.put("go", `case $* in
"env GOVERSION") echo go1.26.8 ;;
install*) mkdir -p "$GOBIN"; printf '#!/bin/sh\necho "lint $PWD $*" >>"$CALLS"\n' >"$GOBIN/golangci-lint"; chmod 700 "$GOBIN/golangci-lint" ;;
esac`)
		return m
	}
	t.Run("runs only the named steps, in every module", func(t *testing.T) {
		t.Parallel()
		m := onMachine(t)
		code, out := m.run("check lint")
		if code != 0 || strings.Count(out, "== ") != 1 {
			t.Errorf("exit code %d, want 0 and one heading:\n%s", code, out)
		}
		if calls := m.called("lint"); len(calls) != 2 {
			t.Errorf("the script called %q, want the linter in two modules", calls)
		}
	})
	t.Run("refuses a step that does not exist before any runs", func(t *testing.T) {
		t.Parallel()
		m := onMachine(t)
		code, out := m.run("check lint lnit")
		if code != 2 || !strings.Contains(out, "no step 'lnit'") || !strings.Contains(out, "subjects format lint typescript generated oldest norace fuzz") {
			t.Errorf("exit code %d, want 2 and the names of the steps:\n%s", code, out)
		}
		if calls := m.called("go"); len(calls) != 0 {
			t.Errorf("the script called %q, want no call", calls)
		}
	})
	t.Run("warns of a long commit subject and goes on", func(t *testing.T) {
		t.Parallel()
		m := onMachine(t)
		m.put("git", `echo "abc1234 `+strings.Repeat("x", 66)+`"; echo "def5678 `+strings.Repeat("x", 65)+`"`)
		code, out := m.run("check subjects")
		if code != 0 || !strings.Contains(out, "subject of abc1234 is longer") || strings.Contains(out, "def5678") {
			t.Errorf("exit code %d, want 0 and one warning:\n%s", code, out)
		}
	})
	t.Run("builds the linter once", func(t *testing.T) {
		t.Parallel()
		m := onMachine(t)
		for range 2 {
			if code, out := m.run("check lint"); code != 0 {
				t.Errorf("exit code %d:\n%s", code, out)
			}
		}
		installs := 0
		for _, call := range m.called("go") {
			if strings.HasPrefix(call, "go install ") {
				installs++
			}
		}
		if calls := m.called("lint"); installs != 1 || len(calls) != 4 {
			t.Errorf("%d builds and %q, want one build and a run in two modules, twice", installs, calls)
		}
	})
	t.Run("leaves out TypeScript on a laptop without its packages", func(t *testing.T) {
		t.Parallel()
		if code, out := onMachine(t).run("check typescript"); code != 0 || !strings.Contains(out, "make deps") {
			t.Errorf("exit code %d, want 0 and what to do:\n%s", code, out)
		}
	})
}

func TestScriptForFlakyTests(t *testing.T) {
	t.Parallel()
	// The built test is a script, which fails in its second and third run of package b.
	const program = `#!/bin/sh
n=$(($(cat "$PWD/runs" 2>/dev/null || echo 0) + 1))
echo $n >"$PWD/runs"
case $PWD:$n in *b:2) printf '%s\n' '--- FAIL: TestA (0.00s)' '    --- FAIL: TestA/in_part (0.00s)' '--- FAIL: TestA2 (0.00s)'; exit 1 ;;
*b:3) exit 2 ;; esac
`
	onMachine := func(t *testing.T) *machine {
		m := newMachine(t, "1000")
		for _, name := range []string{"cat", "mktemp", "rm", "rmdir", "sort", "tr", "uniq"} {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(m.bin, name)); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
		}
		for _, dir := range []string{"a", "b", "tmp"} {
			if err := os.Mkdir(filepath.Join(m.dir, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeProgram(filepath.Join(m.dir, "program"), []byte(program)); err != nil {
			t.Fatal(err)
		}
		m.env = append(m.env, "TMPDIR="+filepath.Join(m.dir, "tmp"), "ROOT="+m.dir)
		m.put("cc", "")
		m.put("getconf", "echo 3")
		m.put("go", `case $1 in env) echo cc ;; list) echo "$ROOT/a"; echo "$ROOT/b" ;; test) cp "$ROOT/program" "$7" ;; esac`)
		// The scripts run with /bin/sh. This sh is the one that they start as burners.
		if err := os.Remove(filepath.Join(m.bin, "sh")); err != nil {
			t.Fatal(err)
		}
		m.put("sh", `echo $$ >>"$ROOT/burners"; exec /bin/sh "$@"`)
		return m
	}
	runs := func(m *machine, dir string) string {
		b, err := os.ReadFile(filepath.Join(m.dir, dir, "runs"))
		if err != nil {
			m.t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	t.Run("continue after a failure and are reported at the end", func(t *testing.T) {
		t.Parallel()
		m := onMachine(t)
		code, out := m.run("flaky 4")
		if code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		wantOrder(t, out, "4 of 4: b ok", "Failed by chance, or always:")
		_, report, _ := strings.Cut(out, "or always:")
		for _, want := range []string{"1 of 4: b TestA/in_part\n", "1 of 4: b TestA2\n", "1 of 4: b (ended without naming a test)\n"} {
			if !strings.Contains(report, want) {
				t.Errorf("the report lacks %q:\n%s", want, report)
			}
		}
		if strings.Contains(report, "TestA\n") {
			t.Errorf("the report names the parent of a test:\n%s", report)
		}
		if runs(m, "a") != "4" || runs(m, "b") != "4" {
			t.Errorf("the packages ran %s and %s times, want 4 each", runs(m, "a"), runs(m, "b"))
		}
		logs, err := filepath.Glob(filepath.Join(m.dir, "tmp", "*", "*"))
		if err != nil || len(logs) != 3 { // two runs and the list of failures
			t.Errorf("the script left %q, error %v; want 3 files", logs, err)
		}
		if builds := m.called("go"); !slices.ContainsFunc(builds, func(c string) bool { return strings.HasPrefix(c, "go test -race -gcflags=modernc.org/") }) {
			t.Errorf("the script called %q, want the race detector", builds)
		}
		burners, err := os.ReadFile(filepath.Join(m.dir, "burners"))
		if err != nil || strings.Count(string(burners), "\n") != 2 {
			t.Errorf("the script kept cores busy with %q, error %v; want 2 of 3", burners, err)
		}
		for _, pid := range strings.Fields(string(burners)) {
			if n, err := strconv.Atoi(pid); err != nil || !errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
				t.Errorf("process %s still runs", pid)
			}
		}
	})
	t.Run("runs that pass leave no files", func(t *testing.T) {
		t.Parallel()
		m := onMachine(t)
		code, out := m.run("flaky 1 ./a ./b")
		if code != 0 || !strings.Contains(out, "No test failed in 1 runs") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		if left, err := filepath.Glob(filepath.Join(m.dir, "tmp", "*")); err != nil || len(left) != 0 {
			t.Errorf("the script left %q, error %v; want nothing", left, err)
		}
		if calls := m.called("go"); !slices.ContainsFunc(calls, func(c string) bool { return strings.HasSuffix(c, " ./a ./b") }) {
			t.Errorf("the script called %q, want the named packages", calls)
		}
	})
	t.Run("tests are not run an invalid number of times", func(t *testing.T) {
		t.Parallel()
		for _, times := range []string{"0", "-1", "x"} {
			if code, out := onMachine(t).run("flaky " + times); code != 2 || !strings.Contains(out, "TIMES") {
				t.Errorf("flaky %s: exit code %d, want 2:\n%s", times, code, out)
			}
		}
	})
}

func TestScriptForVulnerabilities(t *testing.T) {
	t.Parallel()
	// govulncheck is a stand-in, which finds FOUND in the module at the top.
	onMachine := func(t *testing.T) *machine {
		m := newMachine(t, "1000")
		for _, name := range []string{"mktemp", "rm"} {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(m.bin, name)); err != nil {
				t.Fatal(err)
			}
		}
		m.put("git", `mkdir -p pkg/bearer; echo go.mod; echo pkg/bearer/go.mod`)
		m.put("go", `case "$*" in
*vulndb@latest) [ -z "$DOWN" ] || exit 1; printf '{\n\t"Version": "v0.0.0-2026",\n\t"Dir": "/db"\n}\n' ;;
"env GOVERSION") echo go1.26.8 ;;
run*) case $PWD in */pkg/bearer) echo "No vulnerabilities found."; exit 0 ;; esac; printf "$FOUND"; [ -z "$FOUND" ] || { echo exit status 3; exit 1; } ;;
esac`)
		return m
	}
	const found = `Vulnerability #1: GO-1\n      #1: a\n      #2: b\n      #3: c\n      #4: d\nVulnerability #2: GO-2\n      #1: e\n`
	t.Run("checks every module and prints three traces of each finding", func(t *testing.T) {
		t.Parallel()
		m := onMachine(t)
		code, out := m.run("vuln", "FOUND="+found)
		if code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		wantOrder(t, out, "golang.org/x/vulndb v0.0.0-2026", "go1.26.8", "== .\n", "GO-1", "#3: c\n", "GO-2", "#1: e", "== pkg/bearer\n", "No vulnerabilities found.")
		if strings.Contains(out, "#4: d") {
			t.Errorf("the output has more than three traces:\n%s", out)
		}
		if n := strings.Count(strings.Join(m.called("go"), "\n"), "-db file:///db/data/osv ./..."); n != 2 {
			t.Errorf("the script called %q, want govulncheck with the database of the module twice", m.called("go"))
		}
	})
	t.Run("succeeds without a finding", func(t *testing.T) {
		t.Parallel()
		if code, out := onMachine(t).run("vuln"); code != 0 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
	t.Run("reports that it could not check", func(t *testing.T) {
		t.Parallel()
		if code, out := onMachine(t).run("vuln", "FOUND=does not compile\n"); code != 2 || !strings.Contains(out, "does not compile") {
			t.Errorf("with a module that does not compile: exit code %d, want 2:\n%s", code, out)
		}
		if code, out := onMachine(t).run("vuln", "DOWN=yes"); code != 2 || !strings.Contains(out, hint) {
			t.Errorf("without a database: exit code %d, want 2 and mirrors:\n%s", code, out)
		}
	})
	t.Run("is not part of the checks of every change", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"run", "test", "check"} {
			if text := string(read(t, ".ci/"+name)); strings.Contains(text, "vuln") || strings.Contains(text, "flaky") {
				t.Errorf(".ci/%s runs vuln or flaky", name)
			}
		}
	})
}

func TestMakefile(t *testing.T) {
	t.Parallel()
	makefile := string(read(t, "Makefile"))
	phony := regexp.MustCompile(`(?m)^\.PHONY: (.+)$`).FindStringSubmatch(makefile)
	if phony == nil {
		t.Fatal("the Makefile has no .PHONY")
	}
	targets := strings.Fields(phony[1])
	for _, want := range []string{"help", "run", "deps", "quick", "test", "lint", "generate", "check", "flaky", "vuln"} {
		if !slices.Contains(targets, want) {
			t.Errorf("the Makefile has no target %s", want)
		}
	}
	for _, target := range targets {
		if !regexp.MustCompile(`(?m)^` + target + `:.*## .+\.$`).MatchString(makefile) {
			t.Errorf("make help has no text for make %s", target)
		}
	}
	if !strings.Contains(makefile, "\n.DEFAULT_GOAL := help\n") {
		t.Error("make without a target does not print the help")
	}
}
