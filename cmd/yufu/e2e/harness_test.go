// Package e2e tests the whole program as its users meet it: the built binary,
// started with a scrubbed environment, a real PostgreSQL, real HTTP.
//
// A test uses a [harness], which starts processes, keeps their output, and knows every
// secret of the test. At the end it searches the output for the secrets, so every test
// also proves that no secret was printed or answered. All HTTP traffic is checked
// against openapi.yaml. No test waits for a fixed time: the state of a process is read
// from its log or requested over HTTP.
package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/api/apitest"
	"github.com/yufu-auth/yufu/db/pgtest"
)

// patience bounds every wait. It is long, because only failing tests reach it.
const patience = 60 * time.Second

// binary is the built program.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "yufu-e2e-")
	if err == nil {
		binary = filepath.Join(dir, "yufu")
		err = build(binary, "..")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := pgtest.Run(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the command in dir, which may be of another module.
func build(path, dir string) error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// lookAtSources makes the sources inputs of the test. Another process builds the
// program, so go test would report a cached result although the program has changed. Go
// test records the folders that a test lists, with the times of their entries.
var lookAtSources = sync.OnceValue(func() error {
	return filepath.WalkDir(filepath.Join("..", "..", ".."), func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a concurrent test removed it
		}
		// Files of npm are no sources of the program.
		built := d != nil && (d.Name() == "node_modules" || d.Name() == "dist" || d.Name() == "miniprogram_dist")
		if err == nil && d.IsDir() && (built || d.Name() != ".." && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		return err
	})
})

// harness is the environment of one test. It is safe for concurrent use.
type harness struct {
	t        *testing.T
	http     *http.Client
	contract *apitest.Transport // the transport of http
	// client is the address that requests carry in X-Forwarded-For, as from a proxy.
	// Empty means no such header.
	client string
	*records
}

// records are the secrets and outputs of a test and its subtests.
type records struct {
	mu      sync.Mutex
	secrets map[string]string // secret → what it is
	outputs []*output
	texts   []publicText
}

// newHarness returns the harness of a test. Make it first, because its cleanup must run
// last.
func newHarness(t *testing.T) *harness {
	t.Helper()
	if err := lookAtSources(); err != nil {
		t.Fatal(err)
	}
	transport := apitest.NewTransport(t, &http.Transport{MaxIdleConnsPerHost: 64})
	h := &harness{
		t:        t,
		http:     &http.Client{Transport: transport, Timeout: patience},
		contract: transport,
		records:  &records{secrets: map[string]string{}},
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		h.findLeaks()
		if t.Failed() {
			for _, o := range h.outputs {
				t.Logf("---- %s\n%s", o.name, o)
			}
		}
	})
	return h
}

// in returns the harness for a subtest.
func (h *harness) in(t *testing.T) *harness {
	sub := *h
	sub.t = t
	return &sub
}

// secret makes the harness search all output for s.
func (h *harness) secret(what, s string) string {
	if s != "" {
		h.mu.Lock()
		h.secrets[s] = what
		h.mu.Unlock()
	}
	return s
}

// masterKey writes a new master-key file and returns its path.
func (h *harness) masterKey() string {
	h.t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return h.file("master.key", h.secret("the master key", base64.StdEncoding.EncodeToString(key))+"\n")
}

// appSecret returns a new AppSecret.
func (h *harness) appSecret() string {
	return h.secret("an AppSecret", strings.ToLower(rand.Text()))
}

// file writes a file that only its owner may read and returns its path.
func (h *harness) file(name, content string) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// output is one stream of one process.
type output struct {
	name string

	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed and replaced when text grows
}

func (h *harness) output(name string) *output {
	o := &output{name: name, more: make(chan struct{})}
	h.mu.Lock()
	h.outputs = append(h.outputs, o)
	h.mu.Unlock()
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.more)
	o.more = make(chan struct{})
	return len(p), nil
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

// read returns the text so far, and a channel that closes when there is more.
func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

// process is a started program.
type process struct {
	h              *harness
	name           string
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{}
	code           int // valid after exited is closed
}

// settings is the environment of a process: YUFU_ variables, in addition to those that
// every program needs.
type settings map[string]string

func (s settings) environ() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	for name, value := range s {
		env = append(env, name+"="+value)
	}
	return env
}

// with returns the settings with others added.
func (s settings) with(more settings) settings {
	out := maps.Clone(s)
	maps.Copy(out, more)
	return out
}

// start starts the program. It is killed at the end of the test if it still runs.
func (h *harness) start(name string, env settings, args ...string) *process {
	h.t.Helper()
	p := h.prepare(name, env, nil, args...)
	h.launch(p)
	return p
}

func (h *harness) prepare(name string, env settings, stdin io.Reader, args ...string) *process {
	p := &process{
		h: h, name: name,
		cmd:    exec.Command(binary, args...),
		stdout: h.output(name + " stdout"), stderr: h.output(name + " stderr"),
		exited: make(chan struct{}),
	}
	p.cmd.Env = env.environ()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, p.stdout, p.stderr
	return p
}

func (h *harness) launch(p *process) {
	h.t.Helper()
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code has the result
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	h.t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.exited
	})
}

// result is the result of a program that ended by itself.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the program to its end.
func (h *harness) run(env settings, stdin string, args ...string) result {
	h.t.Helper()
	p := h.prepare("yufu "+strings.Join(args, " "), env, strings.NewReader(stdin), args...)
	h.launch(p)
	code := p.wait()
	return result{code, p.stdout.String(), p.stderr.String()}
}

// mustRun is run for commands that must succeed. It returns their output.
func (h *harness) mustRun(env settings, stdin string, args ...string) string {
	h.t.Helper()
	r := h.run(env, stdin, args...)
	if r.code != 0 {
		h.t.Fatalf("yufu %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// signal sends a signal to the process, if it still runs.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.exited:
	default:
		if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.h.t.Error(err)
		}
	}
}

// kill ends the process like a crash.
func (p *process) kill() {
	p.h.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait()
}

// stop ends the process gracefully.
func (p *process) stop() {
	p.h.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		p.h.t.Errorf("%s: exit code %d after SIGTERM, want 0", p.name, code)
	}
}

// wait waits for the end of the process and returns its exit code.
func (p *process) wait() int {
	p.h.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.signal(syscall.SIGQUIT) // the goroutines' stacks show where it hangs
		<-p.exited
		p.h.t.Fatalf("%s did not end", p.name)
	}
	return p.code
}

// logLine has the members of a line of the JSON log that the tests read.
type logLine struct {
	Level    string `json:"level"`
	Msg      string `json:"msg"`
	Listener string `json:"listener"`
	Addr     string `json:"addr"`
	Route    string `json:"route"`
	Client   string `json:"client"`
	Outcome  string `json:"outcome"`
	Cause    string `json:"cause"`
	Code     string `json:"error_code"`
	URL      string `json:"url"`
	Setting  string `json:"setting"`
}

// log returns the lines of the log so far.
func (p *process) log() []logLine { return logLines(p.stderr.String()) }

func logLines(text string) []logLine {
	var lines []logLine
	for line := range strings.Lines(text) {
		var l logLine
		// Text that is not JSON does not belong to the log, such as the error at the end.
		if json.Unmarshal([]byte(line), &l) == nil {
			lines = append(lines, l)
		}
	}
	return lines
}

// waitLog waits for a line of the log.
func (p *process) waitLog(what string, found func(logLine) bool) (line logLine) {
	p.h.t.Helper()
	p.await(p.stderr, what, func(text string) bool {
		for _, l := range logLines(text) {
			if found(l) {
				line = l
				return true
			}
		}
		return false
	})
	return line
}

// await waits until enough is true for the text of a stream, and returns the text.
func (p *process) await(o *output, what string, enough func(text string) bool) string {
	p.h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		text, more := o.read()
		if enough(text) {
			return text
		}
		select {
		case <-more:
		case <-p.exited:
			if o.String() == text {
				p.h.t.Fatalf("%s ended before it printed %s: exit code %d", o.name, what, p.code)
			}
		case <-ctx.Done():
			p.h.t.Fatalf("%s did not print %s", o.name, what)
		}
	}
}

// base returns the base URL of one of the process's listeners, once it listens. From
// then on the harness checks its answers against openapi.yaml.
func (p *process) base(listener string) string {
	p.h.t.Helper()
	l := p.waitLog("that "+listener+" listens", func(l logLine) bool {
		return l.Msg == "listening" && l.Listener == listener
	})
	base := "http://" + l.Addr
	if served := apitest.Listener(listener); served == apitest.Public || served == apitest.Admin {
		p.h.contract.Watch(base, served)
	}
	return base
}

// eventually polls a condition until it holds.
func (h *harness) eventually(what string, holds func() bool) {
	h.t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-poll.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("timed out waiting until %s", what)
		}
	}
}
