package postgres_test

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // direct access to the database

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/db/storetest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var migrated = chosen(pgtest.NewTemplate(func(ctx context.Context, dsn string) error {
	s, err := postgres.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Migrate(ctx, shardtest.Sealed); err != nil {
		return err
	}
	return partition(ctx, dsn)
}))

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, open)
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }

func open(t testing.TB) storetest.Harness {
	dsn := migrated.New(t)
	var trips tripCounter
	_, distributed := migrated.(citus)
	return storetest.Harness{
		Store: openStore(t, dsn, postgres.WithTracer(&trips)), DB: openRaw(t, dsn), Dollar: true,
		Time:        func(t time.Time) any { return t },
		RoundTrips:  trips.n.Load,
		Bytes:       `select pg_total_relation_size('identities') + pg_total_relation_size('sessions')`,
		Distributed: distributed,
	}
}

func openStore(t testing.TB, dsn string, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func openRaw(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// tripCounter counts queries and batches; each waits for the server once.
type tripCounter struct{ n atomic.Int64 }

func (c *tripCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *tripCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *tripCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *tripCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (c *tripCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
