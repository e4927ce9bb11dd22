package postgres_test

import (
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
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
			if err := s.Migrate(b.Context()); err != nil {
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
