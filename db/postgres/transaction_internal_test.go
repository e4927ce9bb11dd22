package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
)

func TestTransaction(t *testing.T) {
	t.Parallel()
	// One connection, so that what a transaction leaves behind meets the next one.
	s, err := Open(t.Context(), pgtest.Empty(t)+"&pool_max_conns=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ctx := t.Context()
	for _, sql := range []string{`create sequence durability`, `create table kept (n integer unique deferrable initially deferred)`} {
		if _, err := s.pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int) {
		t.Helper()
		if err := s.pool.QueryRow(ctx, `select count(*) from kept`).Scan(&n); err != nil {
			t.Fatalf("the connection cannot be used: %v", err)
		}
		return n
	}
	const insert = `insert into kept values ($1)`
	queue := func(n int) *pgx.Batch {
		b := &pgx.Batch{}
		b.Queue(insert, n)
		return b
	}
	refused := errors.New("refused")
	for _, c := range []struct {
		name string
		do   func(tx *transaction) error
		want error // nil: any error, if nothing is kept
		kept int
	}{
		{"a batch that commits", func(tx *transaction) error { return tx.commit(ctx, queue(1)) }, nil, 1},
		{"a statement, then the commit", func(tx *transaction) error { _, err := tx.Exec(ctx, insert, 2); return err }, nil, 1},
		{"a batch, then the commit", func(tx *transaction) error { return run(ctx, tx, queue(3)) }, nil, 1},
		{"two statements and a batch that commits", func(tx *transaction) error {
			for n := range 2 {
				var got int
				if err := tx.QueryRow(ctx, insert+` returning n`, 4+n).Scan(&got); err != nil || got != 4+n {
					t.Errorf("QueryRow() = %d, error %v, want %d", got, err, 4+n)
				}
			}
			return tx.commit(ctx, queue(6))
		}, nil, 3},
		{"an error after the first statement", func(tx *transaction) error { _, _ = tx.Exec(ctx, insert, 7); return refused }, refused, 0},
		{"an error before any statement", func(*transaction) error { return refused }, refused, 0},
		{"no row in the first statement", func(tx *transaction) error {
			var n int
			return tx.QueryRow(ctx, `select 1 where false`).Scan(&n)
		}, pgx.ErrNoRows, 0},
		{"a first statement that fails", func(tx *transaction) error { _, err := tx.Exec(ctx, `select 1/$1::int`, 0); return err }, nil, 0},
		{"a batch that fails", func(tx *transaction) error {
			b := queue(7)
			b.Queue(`select 1/$1::int`, 0)
			return tx.commit(ctx, b)
		}, nil, 0},
		{"a constraint that fails at the commit", func(tx *transaction) error { return tx.commit(ctx, queue(1)) }, nil, 0},
		// The server never gets BEGIN, because the statement cannot be prepared.
		{"an error of a first statement that the function hides", func(tx *transaction) error {
			_, _ = tx.Exec(ctx, `select missing from missing`)
			_, _ = tx.Exec(ctx, insert, 7)
			_ = run(ctx, tx, queue(7))
			return nil
		}, nil, 0},
		{"an error of a first batch that the function hides", func(tx *transaction) error {
			b := queue(7)
			b.Queue(`select missing from missing`)
			_ = run(ctx, tx, b)
			return tx.commit(ctx, queue(7))
		}, nil, 0},
		{"an error that the function hides", func(tx *transaction) error { _, _ = tx.Exec(ctx, `select 1/$1::int`, 0); return nil }, nil, 0},
	} {
		before := count()
		err := s.inTx(ctx, "Test", c.do)
		switch {
		case c.kept > 0 && err != nil, c.kept == 0 && err == nil, c.want != nil && !errors.Is(err, c.want):
			t.Errorf("%s: inTx() error = %v, want %v", c.name, err, c.want)
		}
		if got := count() - before; got != c.kept {
			t.Errorf("%s: the transaction kept %d rows, want %d", c.name, got, c.kept)
		}
	}

	t.Run("a call that was cancelled leaves no transaction", func(t *testing.T) {
		cancelled, cancel := context.WithCancel(ctx)
		before := count()
		err := s.inTx(cancelled, "Test", func(tx *transaction) error {
			_, err := tx.Exec(cancelled, insert, 8)
			cancel()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("inTx() error = %v, want context.Canceled", err)
		}
		if got := count() - before; got != 0 {
			t.Errorf("the transaction kept %d rows, want 0", got)
		}
	})
}
