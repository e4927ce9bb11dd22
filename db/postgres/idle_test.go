package postgres_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/postgres"
)

// counter counts the statements of a store.
type counter struct {
	mu         sync.Mutex
	statements []string
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statements = append(c.statements, q.SQL)
	return ctx
}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// take returns the number of statements since the last call.
func (c *counter) take() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.statements)
	c.statements = nil
	return n
}

// TestIdleStatements counts the statements for the queries of a follower, which asks once a
// second: one each, and one in five with a comparison of the connections.
func TestIdleStatements(t *testing.T) {
	t.Parallel()
	c := &counter{}
	s, err := postgres.Open(t.Context(), migrated.New(t), postgres.WithTracer(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ask := func(n int) {
		t.Helper()
		for range n {
			if _, err := s.Cutoffs(t.Context(), 0, 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(5) // makes the connections
	c.take()
	const seconds = 60
	ask(seconds)
	if n := c.take(); n > seconds+seconds/5 {
		t.Errorf("%d statements in %d idle seconds, want at most %d:\n%s", n, seconds, seconds+seconds/5, strings.Join(c.statements, "\n"))
	}
}
