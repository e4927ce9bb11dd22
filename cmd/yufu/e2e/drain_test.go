package e2e

import (
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

func TestDrain(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	p, s := d.serve("yufu", "--migrate")
	d.addApp()

	// A login is in progress: WeChat has been asked and does not answer yet.
	code := d.sim.mustCode("alice")
	holds := d.sim.hold()
	answers := make(chan *answer, 1)
	failed := make(chan error, 1)
	go func() {
		a, err := s.exchangeCode(code)
		answers <- a
		failed <- err
	}()
	call := <-holds
	p.signal(syscall.SIGTERM)

	t.Run("new connections are refused", func(t *testing.T) {
		h := h.in(t)
		h.eventually("the public listener is closed", func() bool {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	})

	t.Run("readyz says that the service is shutting down", func(t *testing.T) {
		s := s.in(t)
		ready := s.must(s.get(s.admin+"/readyz", ""))
		if ready.Status != 503 || ready.Doc.Reason != "shutting down" {
			t.Errorf("readyz answers %d %s", ready.Status, ready.Body)
		}
		s.must(s.get(s.admin+"/healthz", "")).want(s, 200, "")
	})

	t.Run("requests in progress are answered, and the exit code is 0", func(t *testing.T) {
		s := s.in(t)
		close(call.release)
		a := s.must(<-answers, <-failed).want(s, 200, "")
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		// The session that began while draining exists after the restart.
		_, restarted := d.serve("yufu, restarted")
		restarted = restarted.in(t)
		restarted.refresh(a.Doc.RefreshToken).want(restarted, 200, "")
	})
}

func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	d.env["YUFU_SHUTDOWN_TIMEOUT"] = "50ms"
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	code := d.sim.mustCode("alice")
	holds := d.sim.hold()
	failed := make(chan error, 1)
	go func() {
		_, err := s.exchangeCode(code)
		failed <- err
	}()
	call := <-holds
	defer close(call.release)
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 1 {
		t.Errorf("exit code %d after requests were cut, want 1", code)
	}
	if err := <-failed; err == nil {
		t.Error("the cut request got an answer")
	}
	if text := p.stderr.String(); !strings.Contains(text, "requests cut off that were still running after 50ms") {
		t.Errorf("the log does not say that requests were cut: %s", text)
	}
}

func TestShutdownDelay(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	d.env["YUFU_SHUTDOWN_DELAY"] = "1h"
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	early := s.logIn("alice")
	p.signal(syscall.SIGTERM)
	h.eventually("readyz says that the service is shutting down", func() bool {
		ready := s.must(s.get(s.admin+"/readyz", ""))
		return ready.Status == 503 && ready.Doc.Reason == "shutting down"
	})
	// It still serves, and knows what is revoked.
	late := s.logIn("bob")
	s.refresh(early.Doc.RefreshToken).want(s, 200, "")
	s.verify("", late.Doc.AccessToken).want(s, 200, "")
	s.logOut(late.Doc.RefreshToken)
	s.verify("", late.Doc.AccessToken).want(s, 401, "session_revoked")
	s.must(s.get(s.admin+"/healthz", "")).want(s, 200, "")
	// A second signal ends the delay.
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestHangUp(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	s.logIn("alice")
	file := d.env["YUFU_MASTER_KEY_FILE"]
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	next, err := os.ReadFile(h.masterKey())
	if err != nil {
		t.Fatal(err)
	}
	const reread, kept = "file reread", "file reread failed, old value kept"
	message := func(what string) func(logLine) bool {
		return func(l logLine) bool { return l.Msg == what && l.Setting == "YUFU_MASTER_KEY_FILE" }
	}

	// A file without the key in use changes nothing.
	write(t, file, string(next))
	p.signal(syscall.SIGHUP)
	p.waitLog("that the service keeps its keys", message(kept))
	s.logIn("bob")

	// An AppSecret that is sealed with a new key can be opened after the file is reread.
	write(t, file, string(next)+string(old))
	p.signal(syscall.SIGHUP)
	p.waitLog("that the service has new keys", message(reread))
	d.mustRun(d.env, d.appSecret(), "app", "add", otherApp, "--secret-file", "-")
	other := *s
	other.app = otherApp
	other.logIn("carol")
	s.logIn("alice")

	// Without that key the AppSecret could not be opened.
	write(t, file, string(old))
	p.signal(syscall.SIGHUP)
	p.waitLog("that the service keeps its keys for the app", func(l logLine) bool {
		return l.Msg == kept && strings.Contains(l.Cause, otherApp)
	})
	other.logIn("carol")
	p.stop()
}

// The password or address of the database and the log level change without a restart.
func TestHangUpRereadsSettings(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	server := pgtest.NewServer(t)
	before, after := pgtest.NewProxy(t, server.Addr()), pgtest.NewProxy(t, server.Addr())
	dsn := func(p *pgtest.Proxy) string { return "postgres://postgres@" + p.Addr() + "/postgres?sslmode=disable" }
	urlFile, levelFile := h.file("url", dsn(before)), h.file("level", "info\n")
	d := deploy(h, "")
	delete(d.env, "YUFU_DATABASE_URL")
	d.env = d.env.with(settings{"YUFU_DATABASE_URL_FILE": urlFile, "YUFU_LOG_LEVEL_FILE": levelFile})
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	alice := s.logIn("alice").Doc
	reread := func(setting, msg string) {
		t.Helper()
		p.signal(syscall.SIGHUP)
		p.waitLog(setting+": "+msg, func(l logLine) bool { return l.Setting == setting && l.Msg == msg })
	}

	// At the first no server listens, the last is not a URL: the value in use stays.
	for _, bad := range []string{"postgres://postgres@" + netreasontest.UnusedAddr(t) + "/postgres?sslmode=disable", "sqlite:/tmp/x.db", "nonsense"} {
		write(t, urlFile, bad)
		n := len(p.log())
		p.signal(syscall.SIGHUP)
		h.eventually("the log says that the old URL stays", func() bool {
			return slices.ContainsFunc(p.log()[n:], func(l logLine) bool {
				return l.Setting == "YUFU_DATABASE_URL_FILE" && l.Msg == "file reread failed, old value kept"
			})
		})
		s.me(alice.AccessToken).want(s, 200, "")
	}
	write(t, urlFile, dsn(after))
	reread("YUFU_DATABASE_URL_FILE", "file reread")
	h.eventually("all connections go to the new address", func() bool {
		return before.Connections() == 0 && after.Connections() > 0
	})
	s.refresh(alice.RefreshToken).want(s, 200, "")

	write(t, levelFile, "loud")
	reread("YUFU_LOG_LEVEL_FILE", "file reread failed, old value kept")
	write(t, levelFile, "debug")
	reread("YUFU_LOG_LEVEL_FILE", "file reread")
	h.eventually("a lost connection is logged, at the level debug", func() bool {
		after.Cut()
		return slices.ContainsFunc(p.log(), func(l logLine) bool { return l.Level == "DEBUG" })
	})
	p.stop()
}
