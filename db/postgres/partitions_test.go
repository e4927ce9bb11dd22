package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// partitionsVariable names a variable with a number of partitions, a power of two. With
// it, all tests of this package run on tables that are partitioned by shard as the guide
// says.
const partitionsVariable = "YUFU_TEST_PARTITIONS"

// partition divides the tables of a new database, if the variable says so.
func partition(ctx context.Context, dsn string) error {
	n := os.Getenv(partitionsVariable)
	if n == "" {
		return nil
	}
	return partitionInto(ctx, dsn, n)
}

var partitionBlock = regexp.MustCompile("(?s)```sql\n(begin;\nalter table sessions rename.*?)```")

// guideBlock returns the guide's statements that the expression finds.
func guideBlock(expression *regexp.Regexp) (string, error) {
	const page = "../../deploy/guide/en/operations.md"
	guide, err := os.ReadFile(page)
	if err != nil {
		return "", err
	}
	block := expression.FindSubmatch(guide)
	if block == nil {
		return "", errors.New(page + " has no statements of the form " + expression.String())
	}
	return string(block[1]), nil
}

// partitionInto runs the statements of the guide, with n partitions instead of 16.
func partitionInto(ctx context.Context, dsn, n string) error {
	block, err := guideBlock(partitionBlock)
	if err != nil {
		return err
	}
	var last int
	if _, err := fmt.Sscan(n, &last); err != nil {
		return fmt.Errorf("%s: %w", partitionsVariable, err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(block, "modulus 16", "modulus "+n), "0..15", fmt.Sprintf("0..%d", last-1))
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, text)
	return err
}

// TestPartitionsHaveTheSameSchema checks that the guide's statements change nothing but
// the partitions: later migrations find the same columns, keys, indexes and names.
func TestPartitionsHaveTheSameSchema(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	if err := openStore(t, dsn).Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	db := openRaw(t, dsn)
	schema := func() []string {
		rows, err := db.Query(`
select concat_ws(' ', 'column', table_name, column_name, ordinal_position, data_type, is_nullable, column_default, collation_name)
from information_schema.columns where table_schema = 'public' and table_name in ('identities', 'sessions')
union all
select concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
from pg_constraint where conrelid in ('identities'::regclass, 'sessions'::regclass) and conparentid = 0
union all
select replace(indexdef, ' ON ONLY ', ' ON ') from pg_indexes where tablename in ('identities', 'sessions')
order by 1`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			all = append(all, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := schema()
	if err := partitionInto(t.Context(), dsn, "4"); err != nil {
		t.Fatal(err)
	}
	after := schema()
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("the partitioned tables lack: %s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("the partitioned tables also have: %s", line)
		}
	}
}

// TestHotPathsTouchOnePartition checks which partitions PostgreSQL reads or writes,
// whatever plans it chooses.
func TestHotPathsTouchOnePartition(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	if err := openStore(t, dsn).Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := partitionInto(t.Context(), dsn, "8"); err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, raw: openRaw(t, dsn)}
	b.raw.SetMaxOpenConns(1)
	// with calls do with a store of its own, and returns when the server has counted what
	// the store did: a connection reports its statistics when it ends.
	with := func(do func(s *postgres.Store)) {
		t.Helper()
		b.store = openStore(t, dsn)
		do(b.store)
		b.store.Close()
		deadline := time.Now().Add(30 * time.Second)
		for b.number(b.raw, `
select count(*) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`) > 0 {
			if time.Now().After(deadline) {
				t.Fatal("the other connections did not end")
			}
		}
	}
	touched := func() map[string]int {
		t.Helper()
		rows, err := b.raw.Query(`
select relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd from pg_stat_user_tables where relname ~ '^(identities|sessions)_'`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		counts := map[string]int{}
		for rows.Next() {
			var (
				name string
				n    int
			)
			if err := rows.Scan(&name, &n); err != nil {
				t.Fatal(err)
			}
			counts[name] = n
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return counts
	}
	var s auth.Session
	p := auth.Person{ID: newID(), ExternalID: "E-1"}
	with(func(*postgres.Store) {
		b.addApp()
		s = b.exchange()
		b.exec(b.raw, `insert into persons (id, external_id, created_at) values ($1, 'E-1', $2)`, p.ID, now)
	})
	var partition string
	if err := b.raw.QueryRow(`select replace(tableoid::regclass::text, 'identities', '') from identities where uuid = $1 and shard = $2`, s.Identity, shard.Of(s.Identity)).Scan(&partition); err != nil {
		t.Fatal(err)
	}
	change := func() person.IdentityChange {
		return person.IdentityChange{Identity: s.Identity, Person: p.ID, Second: auth.SecondJoins, Now: now, Event: adminEvent("x")}
	}
	ctx := t.Context()
	for _, c := range []struct {
		name string
		do   func(store *postgres.Store) error
	}{
		// More often than PostgreSQL plans a statement for its values.
		{"refreshes", func(*postgres.Store) error {
			for generation := range uint32(12) {
				b.rotate(s.ID, generation+1)
			}
			return nil
		}},
		{"a replay", func(*postgres.Store) error { b.rotate(s.ID, 12); return nil }},
		{"log-ins", func(store *postgres.Store) error {
			for range 12 {
				if _, err := store.Exchange(ctx, limitedParams(session.DefaultMaxSessions)); err != nil {
					return err
				}
			}
			return nil
		}},
		{"a log-in over the limit", func(store *postgres.Store) error {
			_, err := store.Exchange(ctx, limitedParams(5))
			return err
		}},
		{"reading a session", func(store *postgres.Store) error { _, err := store.Session(ctx, s.ID); return err }},
		{"reading my sessions", func(store *postgres.Store) error {
			_, err := store.LiveSessions(ctx, s.Identity, now, 10)
			return err
		}},
		{"a binding", func(store *postgres.Store) error { _, err := store.BindIdentity(ctx, change()); return err }},
		{"an unbinding", func(store *postgres.Store) error { _, err := store.UnbindIdentity(ctx, change()); return err }},
		{"a log-out", func(store *postgres.Store) error { return store.End(ctx, endParams(b.exchange().ID)) }},
		{"a revocation", func(store *postgres.Store) error {
			_, err := store.Revoke(ctx, revokeParams(session.Target{Identity: s.Identity}))
			return err
		}},
		{"a ban", func(store *postgres.Store) error { _, err := store.DisableIdentity(ctx, change()); return err }},
		{"an erasure", func(store *postgres.Store) error { _, err := store.EraseIdentity(ctx, change()); return err }},
	} {
		before := touched()
		with(func(store *postgres.Store) {
			if err := c.do(store); err != nil {
				t.Errorf("%s: error = %v", c.name, err)
			}
		})
		after, own := touched(), 0
		for name, n := range after {
			switch {
			case n == before[name]:
			case strings.HasSuffix(name, partition):
				own++
			default:
				t.Errorf("%s: %s was read or written, want only partitions %s", c.name, name, partition)
			}
		}
		if own == 0 {
			t.Errorf("%s: no partition was read or written", c.name)
		}
	}
}
