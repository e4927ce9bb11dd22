package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// mark writes something without a meaning, and is 1. A commit waits for the
// synchronous standby only if its transaction wrote, and this wait covers all that
// was committed before, also by others whose own wait was interrupted.
const mark = `setval('durability', 1)`

var markSQL = statement(`select ` + mark)

// writeOptions are those of every transaction that may end in a success: it
// writes the mark in the round trip of its commit, so that an answer that rests
// on what was found waits as one does that changed something.
var writeOptions = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, CommitQuery: markSQL + `; commit`}

// Confirm implements [session.Store].
func (s *Store) Confirm(ctx context.Context) error {
	_, err := s.exec(ctx, markSQL)
	return s.fail(ctx, "Confirm", err)
}

// writeShare is the part of the pool that writes may hold, in percent. While the
// standby is silent every write waits, and reads need connections all the same.
const writeShare = 75

// writeSlots returns how many writes may be under way at once.
func writeSlots(maxConns int32) int { return max(1, int(maxConns)*writeShare/100) }

// write runs fn, which commits, on a connection from the share that writes may
// hold.
//
// Errors: those of fn; [auth.StorageUnavailable] when something was committed
// without the standby; the context's, also when no connection came free.
func (s *Store) write(ctx context.Context, fn func(c *pgxpool.Conn) error) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	return confirmed(c, fn)
}

// confirmed runs fn, which commits. It returns [auth.StorageUnavailable] when
// something was committed without the standby.
func confirmed(c *pgxpool.Conn, fn func(c *pgxpool.Conn) error) error {
	notes := c.Conn().PgConn().CustomData()
	delete(notes, unconfirmed) // of a call that failed
	if err := fn(c); err != nil {
		return err
	}
	if notes[unconfirmed] != nil {
		return errUnconfirmed
	}
	return nil
}

// exec is [Store.write] for one statement.
func (s *Store) exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = s.write(ctx, func(c *pgxpool.Conn) (err error) {
		tag, err = c.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}

// unconfirmed is the note at a connection that a commit on it did not wait for
// the standby to the end.
const unconfirmed = "unconfirmed"

var errUnconfirmed = &auth.Error{
	Code: auth.StorageUnavailable, Err: errors.New("postgres: the synchronous standby did not confirm the commit"),
}

// noteUnconfirmed is told every notice of the server. A commit whose wait for the
// standby was cancelled looks like any other: only a warning tells. Its text is
// in the server's language, and its code is that of any warning, so the function
// that gives it is what it is known by.
func noteUnconfirmed(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		c.CustomData()[unconfirmed] = true
	}
}
