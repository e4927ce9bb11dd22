package postgres_test

import (
	"log/slog"
	"runtime/debug"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// BenchmarkQuestion measures a follower's query without new cutoffs, on a disk and with a
// synchronous standby.
func BenchmarkQuestion(b *testing.B) {
	for name, start := range map[string]func() *pgtest.Server{
		"disk": func() *pgtest.Server { return pgtest.NewServer(b, pgtest.WithFsync()) },
		"standby": func() *pgtest.Server {
			s := pgtest.NewServer(b, pgtest.WithFsync())
			s.Standby(b)
			return s
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := openStore(b, start().DSN("postgres"))
			if err := s.Migrate(b.Context(), shardtest.Sealed); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := s.Cutoffs(b.Context(), 0, 1000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad measures how long a replica takes at its start to load the live cutoffs,
// with the garbage collector set as the program sets it.
func BenchmarkLoad(b *testing.B) {
	const n = 100_000
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	dsn := migrated.New(b)
	s := openStore(b, dsn)
	raw := openRaw(b, dsn)
	if _, err := raw.ExecContext(b.Context(), `
insert into cutoffs (kind, session_id, session_appid, ver, created_at, expires_at)
select 'session', gen_random_uuid(), 'wx1', 0, now(), now() + interval '65 minutes' from generate_series(1, $1)`, n); err != nil {
		b.Fatal(err)
	}
	// As PostgreSQL itself does within a minute.
	if _, err := raw.ExecContext(b.Context(), `analyze cutoffs`); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, err := cutoffs.Open(b.Context(), cutoffs.Config{
			Store: s, MaxStaleness: 30 * time.Second, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			b.Fatal(err)
		}
		if got := f.Set().Len(); got != n {
			b.Fatalf("Set().Len() = %d, want %d", got, n)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/load")
}
