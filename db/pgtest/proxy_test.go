package pgtest_test

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// echo returns every line that it receives.
func echo(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

type caller struct {
	net.Conn
	lines *bufio.Reader
}

func call(t *testing.T, p *pgtest.Proxy) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{conn, bufio.NewReader(conn)}
}

// ask sends a line and returns the error of reading it back.
func (c *caller) ask(patience time.Duration) error { return c.askFor("hello", patience) }

func (c *caller) askFor(line string, patience time.Duration) error {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := c.lines.ReadString('\n')
	return err
}

func TestProxy(t *testing.T) {
	t.Parallel()
	const long, short = time.Minute, 50 * time.Millisecond
	timedOut := func(err error) bool {
		e, ok := err.(net.Error) //nolint:errorlint // as net returns it
		return ok && e.Timeout()
	}
	t.Run("carries both ways", func(t *testing.T) {
		t.Parallel()
		p := pgtest.NewProxy(t, echo(t))
		c := call(t, p)
		for range 3 {
			if err := c.ask(long); err != nil {
				t.Fatal(err)
			}
		}
		if p.Connections() != 1 {
			t.Errorf("Connections() = %d", p.Connections())
		}
	})
	t.Run("swallows data on old connections and carries new ones", func(t *testing.T) {
		t.Parallel()
		p := pgtest.NewProxy(t, echo(t))
		old := call(t, p)
		if err := old.ask(long); err != nil {
			t.Fatal(err)
		}
		p.Swallow()
		if err := old.ask(short); !timedOut(err) {
			t.Errorf("error = %v, want a timeout", err)
		}
		if err := call(t, p).ask(long); err != nil {
			t.Error(err)
		}
	})
	t.Run("swallows data on the first connection with a text and carries others", func(t *testing.T) {
		t.Parallel()
		p := pgtest.NewProxy(t, echo(t))
		swallowed := p.SwallowAt("good")
		first, second := call(t, p), call(t, p)
		for _, c := range []*caller{first, second} {
			if err := c.ask(long); err != nil {
				t.Fatal(err)
			}
		}
		if err := first.askFor("goodbye", short); !timedOut(err) {
			t.Errorf("error = %v, want a timeout", err)
		}
		if !swallowed() {
			t.Error("the text was not noticed")
		}
		if err := first.ask(short); !timedOut(err) {
			t.Errorf("the next line: error = %v, want a timeout", err)
		}
		if err := second.askFor("goodbye", long); err != nil {
			t.Errorf("another connection: error = %v", err)
		}
	})
	t.Run("deafened, it accepts and sends nothing", func(t *testing.T) {
		t.Parallel()
		p := pgtest.NewProxy(t, echo(t))
		p.Deafen(true)
		if err := call(t, p).ask(short); !timedOut(err) {
			t.Errorf("error = %v, want a timeout", err)
		}
		p.Deafen(false)
		if err := call(t, p).ask(long); err != nil {
			t.Error(err)
		}
	})
	t.Run("redirected, it leads new connections elsewhere", func(t *testing.T) {
		t.Parallel()
		p := pgtest.NewProxy(t, echo(t))
		old := call(t, p)
		if err := old.ask(long); err != nil {
			t.Fatal(err)
		}
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		p.Redirect(silent.Addr().String())
		if err := call(t, p).ask(short); !timedOut(err) {
			t.Errorf("error = %v, want a timeout from the other target", err)
		}
		if err := old.ask(long); err != nil {
			t.Error(err)
		}
	})
	t.Run("a cut is noticed by both sides", func(t *testing.T) {
		t.Parallel()
		p := pgtest.NewProxy(t, echo(t))
		c := call(t, p)
		if err := c.ask(long); err != nil {
			t.Fatal(err)
		}
		p.Cut()
		if err := c.ask(long); err == nil || timedOut(err) {
			t.Errorf("error = %v, want the end of the connection", err)
		}
	})
}
