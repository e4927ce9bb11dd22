package pgtest

import (
	"context"
	"fmt"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5"
)

// standbyName is the standby's name at its primary.
const standbyName = "standby"

// Standby starts a hot standby of the server and removes it when t ends. It restarts the
// server, because the standby begins as a cold copy of its data. From then on every
// commit on the server waits for the standby (synchronous_standby_names). To make the
// standby silent, stop or kill it.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	s.settings["synchronous_standby_names"] = standbyName
	return s.AsyncStandby(t)
}

// AsyncStandby is [Server.Standby], but commits do not wait for the standby.
func (s *Server) AsyncStandby(t testing.TB) *Server {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	copied, err := makeServer(func(to *Server) *exec.Cmd {
		return to.command("sh", "-c", `cp -a "$1" "$2" && touch "$2/standby.signal"`, "sh", s.data(), to.data())
	}, WithSetting("primary_conninfo", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=%s", s.port, standbyName)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := copied.remove(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return copied
}

// LeaveBehind kills the standby and lets the server continue without waiting for it.
// Later commits are lost when the standby takes over. The server is restarted.
func (s *Server) LeaveBehind(standby *Server) error {
	if err := standby.Kill(); err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	delete(s.settings, "synchronous_standby_names")
	return s.Start()
}

// Promote makes a running standby a primary. If its primary is running, that one
// continues as a primary that was not fenced off.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var promoted bool
	if err := conn.QueryRow(ctx, `select pg_promote()`).Scan(&promoted); err != nil || !promoted {
		return fmt.Errorf("pgtest: promote: %t, %w", promoted, err)
	}
	return nil
}
