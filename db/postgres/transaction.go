package postgres

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	beginSQL  = statement(`begin isolation level read committed`)
	commitSQL = statement(`commit`)
)

// transaction is a transaction that costs no round trips of its own: BEGIN goes with its
// first statement and COMMIT with its last batch.
type transaction struct {
	conn         *pgx.Conn
	begun, ended bool
}

// inTx runs fn in a transaction and commits it, unless fn returns an error. If inTx
// returns nil, everything that fn wrote or read is durable. It translates errors.
func (s *Store) inTx(ctx context.Context, op string, fn func(tx *transaction) error) error {
	return s.fail(ctx, op, s.write(ctx, func(c *pgxpool.Conn) error {
		tx := &transaction{conn: c.Conn()}
		err := fn(tx)
		if err == nil && !tx.ended {
			err = tx.commit(ctx, &pgx.Batch{})
		}
		if err != nil {
			tx.rollback(ctx)
		}
		return err
	}))
}

// rollback ends the transaction. Its own error does not matter: a connection that is not
// idle does not return to the pool.
func (t *transaction) rollback(ctx context.Context) {
	if !t.begun || t.conn.PgConn().TxStatus() == idle {
		return
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = t.conn.Exec(end, "rollback")
}

// idle is the status of a connection without a transaction.
const idle = 'I'

// errRolledBack: a statement of the transaction failed, and the function went on.
var errRolledBack = errors.New("the transaction was rolled back instead of committed")

// commit runs the batch as the transaction's last statements, and commits. It writes the
// mark, so that a result that depends only on what was read waits for the standby, as a
// change does.
func (t *transaction) commit(ctx context.Context, b *pgx.Batch) error {
	b.Queue(markSQL)
	rolledBack := false
	b.Queue(commitSQL).Exec(func(tag pgconn.CommandTag) error {
		rolledBack = tag.String() == "ROLLBACK"
		return nil
	})
	err := run(ctx, t, b)
	if err == nil && rolledBack {
		err = errRolledBack
	}
	t.ended = err == nil
	return err
}

// run sends the batch in the transaction and returns its first error.
func run(ctx context.Context, tx *transaction, b *pgx.Batch) error {
	if tx.lost() {
		return errRolledBack
	}
	return tx.send(ctx, b).Close()
}

// lost reports whether the transaction is not open any more although nothing ended it. The
// server then never got BEGIN, and would commit each statement by itself.
func (t *transaction) lost() bool { return t.begun && t.conn.PgConn().TxStatus() == idle }

func (t *transaction) send(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if !t.begun {
		t.begun = true
		first := &pgx.Batch{}
		first.Queue(beginSQL)
		first.QueuedQueries = append(first.QueuedQueries, b.QueuedQueries...)
		b = first
	}
	return t.conn.SendBatch(ctx, b)
}

// Query, QueryRow and Exec work as those of [pgx.Conn].
func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	switch {
	case t.lost():
		return nil, errRolledBack
	case t.begun:
		return t.conn.Query(ctx, sql, args...)
	}
	b := &pgx.Batch{}
	b.Queue(sql, args...)
	results := t.send(ctx, b)
	if _, err := results.Exec(); err != nil { // BEGIN
		_ = results.Close()
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close()
		return nil, err
	}
	return &firstRows{Rows: rows, results: results}, nil
}

// firstRows are the rows of the statement that was sent with BEGIN. They must be closed.
type firstRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *firstRows) Close() {
	r.Rows.Close()
	r.err = cmp.Or(r.err, r.results.Close())
}

// Err returns the first error of the rows or, after Close, of the batch.
func (r *firstRows) Err() error { return cmp.Or(r.Rows.Err(), r.err) }

func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := t.Query(ctx, sql, args...)
	return row{rows, err}
}

func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	rows, err := t.Query(ctx, sql, args...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	rows.Close()
	return rows.CommandTag(), rows.Err()
}
