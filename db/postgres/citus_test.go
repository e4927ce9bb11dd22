package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// citusVariable names a variable that says that YUFU_TEST_POSTGRES is the coordinator of
// a Citus cluster. The store's tests then run on distributed tables (make citus).
const citusVariable = "YUFU_TEST_CITUS"

// databases makes databases for tests.
type databases interface {
	// New returns the DSN of a migrated database, which is dropped when t ends.
	New(t testing.TB) string
}

// chosen returns the databases that the environment asks for.
func chosen(plain databases) databases {
	if os.Getenv(citusVariable) != "" {
		return citus{&sync.Mutex{}}
	}
	return plain
}

// citus makes databases whose tables are distributed as the guide says. It makes one at a
// time, because adding a worker also writes to catalogs that all databases of the worker
// share.
type citus struct{ *sync.Mutex }

var distributeBlock = regexp.MustCompile("(?s)```sql\n(select create_reference_table.*?)```")

func (c citus) New(t testing.TB) string {
	t.Helper()
	c.Lock()
	defer c.Unlock()
	dsn := pgtest.Empty(t)
	admin := os.Getenv("YUFU_TEST_POSTGRES")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	servers := []string{admin}
	// The coordinator first: while its database exists, it connects to the others.
	t.Cleanup(func() {
		for _, server := range servers {
			execute(context.Background(), t, server, "drop database if exists "+name+" with (force)")
		}
	})
	setup := []string{"create extension citus", fmt.Sprintf("select citus_set_coordinator_host('%s', %s)", u.Hostname(), u.Port())}
	for _, worker := range workers(t, admin) {
		at := *u
		at.Host = worker
		maintenance := *server
		maintenance.Host = worker
		servers = append(servers, maintenance.String())
		execute(t.Context(), t, maintenance.String(), "create database "+name)
		execute(t.Context(), t, at.String(), "create extension citus")
		setup = append(setup, fmt.Sprintf("select citus_add_node('%s', %s)", at.Hostname(), at.Port()))
	}
	execute(t.Context(), t, dsn, setup...)
	s := openStore(t, dsn)
	if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	s.Close()
	block, err := guideBlock(distributeBlock)
	if err != nil {
		t.Fatal(err)
	}
	// Making 32 shards takes seconds.
	execute(t.Context(), t, dsn, strings.ReplaceAll(block, "shard_count := 32", "shard_count := 4"))
	wantInCitus(t, dsn)
	return dsn
}

// workers returns the addresses of the servers with shards.
func workers(t testing.TB, admin string) (addresses []string) {
	t.Helper()
	rows, err := openRaw(t, admin).QueryContext(t.Context(), `
select nodename || ':' || nodeport from pg_dist_node where shouldhaveshards and noderole = 'primary' and isactive`)
	if err != nil {
		t.Fatalf("%v: want a database with the extension citus and its workers", err)
	}
	defer rows.Close()
	for rows.Next() {
		var a string
		if err := rows.Scan(&a); err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, a)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return addresses
}

// execute runs statements on one connection, each in a transaction of its own.
func execute(ctx context.Context, t testing.TB, dsn string, statements ...string) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// wantInCitus checks that the guide's statements leave no table outside of Citus that a
// transaction writes together with a session. Such a transaction would commit on the
// session's server first, and a crash could lose the revocation.
func wantInCitus(t testing.TB, dsn string) {
	t.Helper()
	var outside string
	err := openRaw(t, dsn).QueryRowContext(t.Context(), `
select string_agg(relname, ' ' order by relname) from pg_class
where relkind = 'r' and relnamespace = 'public'::regnamespace and oid not in (select logicalrelid from pg_dist_partition)`).Scan(&outside)
	if err != nil {
		t.Fatal(err)
	}
	if want := "deployment fact_keys goose_db_version replicas service_keys shard_key"; outside != want {
		t.Errorf("tables outside of Citus: %s, want %s", outside, want)
	}
}
