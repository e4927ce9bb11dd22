package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func TestTranslate(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	live := t.Context()
	pg := func(code string) error {
		return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code, Message: "it says secret", ConstraintName: "con"})
	}
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want error
	}{
		{"nothing", live, nil, nil},
		{"a domain error", live, auth.AppUnknown, auth.AppUnknown},
		{"a domain error with a done context", cancelled, auth.AppUnknown, auth.AppUnknown},
		{"a cancelled caller", cancelled, pg("57014"), context.Canceled},
		{"a statement timeout", live, pg("57014"), auth.StorageUnavailable},
		{"shutdown", live, pg("57P01"), auth.StorageUnavailable},
		{"starting up", live, pg("57P03"), auth.StorageUnavailable},
		{"connection failure", live, pg("08006"), auth.StorageUnavailable},
		{"too many connections", live, pg("53300"), auth.StorageUnavailable},
		{"disk full", live, pg("53100"), auth.StorageUnavailable},
		{"deadlock", live, pg("40P01"), auth.StorageUnavailable},
		{"serialization failure", live, pg("40001"), auth.StorageUnavailable},
		{"an input/output error", live, pg("58030"), auth.StorageUnavailable},
		{"a transaction idle for too long", live, pg("25P03"), auth.StorageUnavailable},
		{"a timeout of pgx itself", live, fmt.Errorf("dial: %w", errTimeout{}), auth.StorageUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := postgres.Translate(c.ctx, "Op", c.err); !errors.Is(got, c.want) {
				t.Errorf("translate() = %v, want %v", got, c.want)
			}
		})
	}
	for _, code := range []string{"23505", "22021", "42P01", "XX000"} {
		t.Run("defect "+code, func(t *testing.T) {
			err := postgres.Translate(live, "Op", pg(code))
			if auth.CodeOf(err) != auth.Internal || !strings.Contains(err.Error(), "Op") || !strings.Contains(err.Error(), code) {
				t.Errorf("translate() = %v, want a defect that names the method and the SQLSTATE", err)
			}
			if strings.HasPrefix(code, "22") && strings.Contains(err.Error(), "secret") {
				t.Errorf("translate() = %v, which quotes data from the server", err)
			}
		})
	}
}

type errTimeout struct{}

func (errTimeout) Error() string   { return "i/o timeout" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

func TestOpenHidesDSN(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://user:hunter2@host:port/db", "postgres://user:hun/ter2@host/db", "postgres://u:%zzhunter2@h/d",
		"host=h password=hunter2 port=x", "hunter2",
	} {
		s, err := postgres.Open(t.Context(), dsn)
		if err == nil {
			s.Close()
			t.Errorf("Open(%s) succeeded, want an error", dsn)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
			t.Errorf("Open() error shows the password: %v", err)
		}
	}
}

func TestNow(t *testing.T) {
	t.Parallel()
	s := openStore(t, pgtest.Empty(t))
	a, err := s.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a.Location() != time.UTC || !b.After(a) {
		t.Errorf("Now() = %v, then %v; want increasing times in UTC", a, b)
	}
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	s := openStore(t, server.DSN("postgres"))
	ctx := t.Context()
	if err := s.Migrate(ctx, shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, store: s, raw: openRaw(t, server.DSN("postgres"))}
	b.addApp()
	live, ended := b.exchange(), b.exchange()
	b.rotate(live.ID, 1)
	if err := s.End(ctx, endParams(ended.ID)); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func() error{"stopped": server.Stop, "killed": server.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		// More calls than connections in the pool, so that both dead and refused
		// connections are used.
		for range 3 {
			for what, call := range map[string]func() error{
				"Ping":          func() error { return s.Ping(ctx) },
				"Now":           func() error { _, err := s.Now(ctx); return err },
				"App":           func() error { _, err := s.App(ctx, appID); return err },
				"Exchange":      func() error { _, err := s.Exchange(ctx, exchangeParams()); return err },
				"Refresh":       func() error { _, err := s.Refresh(ctx, refreshParams(live.ID, 2)); return err },
				"End":           func() error { return s.End(ctx, endParams(live.ID)) },
				"Session":       func() error { _, err := s.Session(ctx, live.ID); return err },
				"Keys":          func() error { _, err := s.Keys(ctx); return err },
				"CheckSchema":   func() error { return s.CheckSchema(ctx) },
				"DeleteExpired": func() error { _, err := s.DeleteExpired(ctx, now, now, 1); return err },
				"Revoke":        func() error { _, err := s.Revoke(ctx, revokeParams(session.Target{Session: live.ID})); return err },
				"Revoke (all)":  func() error { _, err := s.Revoke(ctx, revokeParams(session.Target{All: true})); return err },
				"Cutoffs":       func() error { _, err := s.Cutoffs(ctx, 0, 1); return err },
				"Listen":        func() error { return s.Listen(ctx, func() {}) },
				"ServiceKey":    func() error { _, err := s.ServiceKey(ctx, "k"); return err },
			} {
				if err := call(); auth.CodeOf(err) != auth.StorageUnavailable {
					t.Errorf("%s, %s: error = %v, want storage_unavailable", name, what, err)
				}
			}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(ctx); err != nil {
			t.Errorf("Ping after the restart: %v", err)
		}
		// The earlier results are still there.
		g, err := s.Refresh(ctx, refreshParams(live.ID, 1))
		if err != nil || g.Verdict != session.Replay || g.Session.Generation != 2 {
			t.Errorf("Refresh() after %s = verdict %v, generation %d, error %v; want a replay of 2", name, g.Verdict, g.Session.Generation, err)
		}
		if _, err := s.Refresh(ctx, refreshParams(ended.ID, 1)); !errors.Is(err, auth.SessionRevoked) {
			t.Errorf("Refresh() after %s: error = %v, want session_revoked", name, err)
		}
	}
}

func TestDatabaseReadOnly(t *testing.T) {
	t.Parallel()
	dsn := migrated.New(t)
	b := &bed{t: t, store: openStore(t, dsn), raw: openRaw(t, dsn)}
	b.addApp()
	s := b.exchange()
	b.exec(b.raw, `do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`)
	readOnly := openStore(t, dsn)
	ctx := t.Context()
	if err := readOnly.Ping(ctx); auth.CodeOf(err) != auth.StorageUnavailable {
		t.Errorf("Ping() error = %v, want storage_unavailable", err)
	}
	if _, err := readOnly.Refresh(ctx, refreshParams(s.ID, 1)); auth.CodeOf(err) != auth.StorageUnavailable {
		t.Errorf("Refresh() error = %v, want storage_unavailable", err)
	}
	if _, err := readOnly.Cutoffs(ctx, 0, 1); auth.CodeOf(err) != auth.StorageUnavailable {
		t.Errorf("Cutoffs() error = %v, want storage_unavailable: what it knows may be old", err)
	}
	// When the database accepts writes again, the same store works.
	b.exec(b.raw, `do $$ begin
  set transaction read write;
  execute format('alter database %I reset default_transaction_read_only', current_database()); end $$`)
	if err := readOnly.Ping(ctx); err != nil {
		t.Errorf("Ping() error = %v", err)
	}
	if _, err := readOnly.Cutoffs(ctx, 0, 1); err != nil {
		t.Errorf("Cutoffs() error = %v", err)
	}
	if _, err := readOnly.Refresh(ctx, refreshParams(s.ID, 1)); err != nil {
		t.Errorf("Refresh() error = %v", err)
	}
}

func TestOpenSeveralHosts(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	down := pgtest.NewServer(t)
	if err := down.Stop(); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, "postgres://postgres@"+down.Addr()+","+server.Addr()+"/postgres?sslmode=disable&target_session_attrs=read-write")
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping() error = %v", err)
	}
}
