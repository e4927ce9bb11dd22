package postgres_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/db/storetest"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func TestEveryStatementPrepares(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), migrated.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if n := len(postgres.Statements()); n < 20 {
		t.Errorf("found %d statements, want more", n)
	}
	for _, sql := range postgres.Statements() {
		if _, err := conn.Prepare(t.Context(), "", sql); err != nil {
			t.Errorf("Prepare() error = %v\n%s", err, sql)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	storetest.Migrations(t, func(t testing.TB) storetest.Empty {
		dsn := pgtest.Empty(t)
		return storetest.Empty{Open: func() storetest.Migrator { return openStore(t, dsn) }, DB: openRaw(t, dsn)}
	})
	t.Run("every table is in public for every role", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Empty(t)
		db := openRaw(t, dsn)
		// A schema with the role's name comes first in PostgreSQL's default path.
		if _, err := db.Exec(`create schema postgres`); err != nil {
			t.Fatal(err)
		}
		if err := openStore(t, dsn).Migrate(t.Context(), shardtest.Sealed); err != nil {
			t.Fatal(err)
		}
		var outside int
		err := db.QueryRow(`select count(*) from pg_tables where schemaname not in ('public', 'pg_catalog', 'information_schema')`).Scan(&outside)
		if err != nil || outside != 0 {
			t.Errorf("%d tables outside public, error %v; want 0, nil", outside, err)
		}
	})
}

// TestRefreshIsHOT checks that refreshing grows no index: every update stays in its page.
func TestRefreshIsHOT(t *testing.T) {
	t.Parallel()
	// Enough sessions to fill pages before the first refresh: then only the room that
	// pages keep (fillfactor) can hold the second version.
	const sessions, refreshes = 200, 10
	// A server of its own: how far pages can be cleaned up depends on every transaction
	// of the server.
	dsn := pgtest.NewServer(t).DSN("postgres")
	b := &bed{t: t, store: openStore(t, dsn), raw: openRaw(t, dsn)}
	if err := b.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	b.addApp()
	var ids []uuid.UUID
	for range sessions {
		ids = append(ids, b.exchange().ID)
	}
	if pages := b.number(b.raw, `select pg_relation_size('sessions') / current_setting('block_size')::int`); pages < 4 {
		t.Errorf("the sessions fill %d pages", pages)
	}
	for gen := uint32(1); gen <= refreshes; gen++ {
		for _, id := range ids {
			r := refreshParams(id, gen)
			r.Now = now.Add(time.Duration(gen) * time.Second)
			if _, err := b.store.Refresh(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A connection reports its statistics when it ends.
	b.store.Close()
	var updated, hot int
	deadline := time.Now().Add(30 * time.Second)
	for updated < sessions*refreshes {
		if time.Now().After(deadline) {
			t.Fatalf("only %d updates were reported", updated)
		}
		err := b.raw.QueryRow(`select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'sessions'`).Scan(&updated, &hot)
		if err != nil {
			t.Fatal(err)
		}
	}
	if updated != sessions*refreshes || hot != updated {
		t.Errorf("%d updates, %d of them HOT; want %d, all HOT", updated, hot, sessions*refreshes)
	}
}

func TestRefreshedColumnsAreNotIndexed(t *testing.T) {
	t.Parallel()
	var names []string
	db := openRaw(t, migrated.New(t))
	rows, err := db.Query(`
select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
where i.indrelid = 'sessions'::regclass order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"ended_at", "expires_at", "id", "identity_uuid", "shard"}; !slices.Equal(names, want) {
		t.Errorf("indexed columns of sessions: %v; want %v", names, want)
	}
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	h := open(t)
	b := &bed{t: t, store: h.Store.(*postgres.Store), raw: h.DB}
	b.addApp()
	count := func(what string, want int64, call func()) {
		before := h.RoundTrips()
		call()
		if got := h.RoundTrips() - before; got != want {
			t.Errorf("%s: %d round trips, want %d", what, got, want)
		}
	}
	s := b.exchange()
	count("exchange", 1, func() { b.exchange() })
	limited := func(limit int) func() {
		return func() {
			if _, err := b.store.Exchange(t.Context(), limitedParams(limit)); err != nil {
				t.Error(err)
			}
		}
	}
	count("exchange within the limit", 1, limited(session.DefaultMaxSessions))
	count("refresh", 1, func() { b.rotate(s.ID, 1) })
	count("replay", 3, func() { b.rotate(s.ID, 1) })
	count("exchange beyond the limit", 3, limited(1))
	gone := b.exchangeAs("o-2")
	count("log-out", 2, func() {
		if err := b.store.End(t.Context(), endParams(gone.ID)); err != nil {
			t.Error(err)
		}
	})
	revoke := func(target func(s auth.Session) session.Target) func() {
		s := b.exchangeAs("o-2")
		return func() {
			if _, err := b.store.Revoke(t.Context(), revokeParams(target(s))); err != nil {
				t.Error(err)
			}
		}
	}
	count("revocation of a session", 2, revoke(func(s auth.Session) session.Target { return session.Target{Session: s.ID} }))
	count("revocation of a user", 2, revoke(func(s auth.Session) session.Target { return session.Target{Identity: s.Identity} }))
	count("revocation of an app", 3, revoke(func(auth.Session) session.Target { return session.Target{AppID: appID} }))
	ban := b.exchangeAs("o-2")
	count("ban", 3, func() {
		_, err := b.store.DisableIdentity(t.Context(), person.IdentityChange{Identity: ban.Identity, Now: now, Event: adminEvent("x")})
		if err != nil {
			t.Error(err)
		}
	})
}
