package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startTimeout bounds a start, including recovery after a crash.
const startTimeout = 60 * time.Second

// Option changes a server that [NewServer] starts.
type Option func(*Server)

// WithFsync makes the server flush commits to the disk, as in production. Without it,
// commits survive a kill of the server but not a crash of the machine.
func WithFsync() Option {
	return func(s *Server) {
		for _, name := range []string{"fsync", "full_page_writes"} {
			s.settings[name] = "on"
		}
	}
}

// WithSetting sets a configuration parameter of the server, for example
// "max_connections".
func WithSetting(name, value string) Option {
	return func(s *Server) { s.settings[name] = value }
}

// Server is a running PostgreSQL. Its methods are not safe for concurrent use.
type Server struct {
	bin, dir string
	copied   string // a copy of the programs, or ""
	port     int
	hold     io.Closer           // reserves the port
	owner    *syscall.Credential // nil: run as the current user
	settings map[string]string

	postgres *exec.Cmd
	watchdog *exec.Cmd
	exited   chan struct{} // closed when postgres has ended
	log      *logBuffer
}

// NewServer starts a server for t only. The server and its data are removed when t
// ends.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := newServer(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newServer(opts ...Option) (*Server, error) {
	return makeServer(func(s *Server) *exec.Cmd {
		return s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust",
			"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	}, opts...)
}

// makeServer starts a server. The command that fill returns creates its data directory.
func makeServer(fill func(s *Server) *exec.Cmd, opts ...Option) (_ *Server, err error) {
	s := &Server{settings: map[string]string{
		"fsync": "off", "full_page_writes": "off",
		// As many tests run at once as there are processors, some with a full pool.
		"max_connections": "1000", "shared_buffers": "64MB", "max_wal_size": "128MB", "unix_socket_directories": "",
		"timezone": "UTC", "log_min_messages": "warning", "jit": "off",
		// Databases live for seconds, and a vacuum at a random time would disturb
		// measurements.
		"autovacuum": "off",
	}}
	for _, o := range opts {
		o(s)
	}
	if s.bin, err = binDir(); err != nil {
		return nil, err
	}
	if s.owner, err = dropTo(); err != nil {
		return nil, err
	}
	if s.bin, s.copied, err = runnable(s.bin, s.owner); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.removeFiles()
		}
	}()
	if s.dir, err = os.MkdirTemp(s.parent(), "yufu-pgtest-"); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	if s.owner != nil {
		if err := os.Chown(s.dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return nil, fmt.Errorf("pgtest: %w", err)
		}
	}
	cmd := fill(s)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pgtest: %s: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	// Another program may take the free port before the server does.
	for range 5 {
		if s.port, s.hold, err = choosePort(); err != nil {
			return nil, err
		}
		if err = s.Start(); err == nil {
			return s, nil
		}
		_ = s.hold.Close()
	}
	return nil, err
}

// memory is a file system in memory, if there is one.
const memory = "/dev/shm"

// parent returns the directory for the server's directory; "" is the system's temporary
// directory. A server that need not outlive the machine is several times faster in
// memory. That is used only if it is large, since containers often have a small one.
func (s *Server) parent() string {
	var fs syscall.Statfs_t
	if s.settings["fsync"] == "off" && os.Getenv("TMPDIR") == "" && syscall.Statfs(memory, &fs) == nil &&
		fs.Bavail*uint64(fs.Bsize) >= 2<<30 {
		return memory
	}
	return ""
}

// DSN returns the URL of a database on this server, for the superuser. It stays the same
// across restarts.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, url.PathEscape(database))
}

// Addr returns the server's host and port, for proxies.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Start starts a stopped or killed server again, on the same port and data. It returns
// when the server accepts connections.
func (s *Server) Start() error {
	if s.running() {
		return errors.New("pgtest: the server is already running")
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := s.startOnce(ctx)
		// After a kill, the last of the old server's processes may hold its shared
		// memory until they notice.
		if err == nil || ctx.Err() != nil || !bytes.Contains(s.log.Bytes(), []byte("shared memory block")) {
			return err
		}
	}
}

func (s *Server) startOnce(ctx context.Context) error {
	s.log = &logBuffer{}
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1"}
	for name, value := range s.settings {
		args = append(args, "-c", name+"="+value)
	}
	s.postgres = s.command("postgres", args...)
	s.postgres.Stdout, s.postgres.Stderr = s.log, s.log
	// Every process of the server holds the log open, so Wait returns when the last one
	// has noticed the end of the first.
	s.postgres.WaitDelay = startTimeout
	if err := s.postgres.Start(); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.postgres, s.exited)
	if err := s.watch(); err != nil {
		_ = s.Kill()
		return err
	}
	for {
		conn, err := pgx.Connect(ctx, s.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			s.unwatch()
			return fmt.Errorf("pgtest: postgres ended at once:\n%s", s.log.Bytes())
		case <-ctx.Done():
			_ = s.Kill()
			return fmt.Errorf("pgtest: postgres takes no connections: %w\n%s", err, s.log.Bytes())
		case <-time.After(10 * time.Millisecond): // between two polls
		}
	}
}

// Stop shuts the server down: transactions in progress are rolled back and connections
// closed.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Kill ends the server as a crash does (SIGKILL).
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) error {
	if s.running() {
		if err := s.postgres.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("pgtest: %w", err)
		}
		<-s.exited
	}
	s.unwatch()
	return nil
}

func (s *Server) running() bool {
	if s.exited == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// remove ends the server and deletes its files.
func (s *Server) remove() error {
	err := s.end(syscall.SIGQUIT)
	return errors.Join(err, s.hold.Close(), s.removeFiles())
}

func (s *Server) removeFiles() error {
	return errors.Join(os.RemoveAll(s.dir), os.RemoveAll(s.copied))
}

// watch starts a process that waits for the end of its standard input, which closes when
// this process ends for any reason. Then it stops the server and removes its files.
func (s *Server) watch() error {
	const script = `trap '' INT TERM HUP; read _; kill -QUIT "$1" 2>/dev/null
while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; shift; rm -rf "$@"`
	s.watchdog = s.command("sh", "-c", script, "sh", strconv.Itoa(s.postgres.Process.Pid), s.dir, s.copied)
	in, err := s.watchdog.StdinPipe()
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if err := s.watchdog.Start(); err != nil {
		return fmt.Errorf("pgtest: watchdog: %w", err)
	}
	_ = in // held open by the command until Wait
	return nil
}

func (s *Server) unwatch() {
	if s.watchdog != nil && s.watchdog.Process != nil {
		_ = s.watchdog.Process.Kill()
		_ = s.watchdog.Wait()
	}
	s.watchdog = nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command prepares a program of the server. It runs as the server's owner, out of reach
// of the terminal's signals.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(s.bin, name)
	if name == "sh" {
		path = "/bin/sh"
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	// The test's environment may point PostgreSQL elsewhere (PGDATA, …).
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + s.dir, "TMPDIR=" + s.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.owner}
	return cmd
}

// dropTo returns the user to run the server as, or nil for the current user.
func dropTo() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("pgtest: user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("pgtest: PostgreSQL refuses to run as root, and neither user postgres nor user nobody exists")
}

// choosePort returns a port for a server, and a closer that releases it.
func choosePort() (port int, hold io.Closer, err error) {
	last := lastPort()
	for range 100 {
		port = firstPort + 2*rand.IntN((last-firstPort+1)/2)
		if hold, err = take(port); err == nil {
			return port, hold, nil
		}
	}
	return 0, nil, fmt.Errorf("pgtest: %w", err)
}

// firstPort is the first port for servers.
const firstPort = 10_000

// lastPort returns the last port for servers. It is below the ports that the system
// assigns to programs that ask for any (from 32768 on Linux, from 49152 elsewhere), so
// that no program gets a server's port while the server is stopped. If no ports are left
// below those, any port will do.
func lastPort() int {
	const highest, room = 32_767, 2_000
	var given int
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &given)
	}
	if given >= firstPort+room && given <= highest {
		return given - 1
	}
	return highest
}

// take reserves a port for a server until hold is closed or this process ends. The port
// itself must be free when the server starts, so take occupies the next port, which other
// test processes that want the first one do not get.
func take(port int) (hold io.Closer, err error) {
	next, err := listen(port + 1)
	if err != nil {
		return nil, err
	}
	itself, err := listen(port)
	if err == nil {
		err = itself.Close()
	}
	if err != nil {
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// logBuffer keeps the beginning of the server's output.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const logLimit = 64 << 10

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := logLimit - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Bytes returns a copy of the kept output.
func (l *logBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

var _ io.Writer = (*logBuffer)(nil)
