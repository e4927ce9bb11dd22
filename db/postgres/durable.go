package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// mark writes a value without a meaning and returns 1. A commit waits for the
// synchronous standby only if its transaction wrote. This wait covers all earlier
// commits, including commits of others whose own wait was interrupted.
const mark = `setval('durability', 1)`

var markSQL = statement(`select ` + mark)

// Confirm implements [session.Store].
func (s *Store) Confirm(ctx context.Context) error {
	_, err := s.exec(ctx, markSQL)
	return s.fail(ctx, "Confirm", err)
}

// writeShare is the part of the pool that writes may hold, in percent. While the
// standby is silent every write waits, and reads still need connections.
const writeShare = 75

// writeSlots returns how many writes may be in progress at once.
func writeSlots(maxConns int32) int { return max(1, int(maxConns)*writeShare/100) }

// write acquires a connection from the share for writes and runs fn, which commits.
//
// Errors: those of fn; [auth.StorageUnavailable] if a commit was not confirmed by the
// standby; the context's, including while waiting for a connection.
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

// confirmed runs fn, which commits. It returns [auth.StorageUnavailable] if a commit
// was not confirmed by the standby.
func confirmed(c *pgxpool.Conn, fn func(c *pgxpool.Conn) error) error {
	notes := c.Conn().PgConn().CustomData()
	delete(notes, unconfirmed) // left by a call that failed
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

// unconfirmed is the key in a connection's custom data that says that a commit's wait
// for the standby was interrupted.
const unconfirmed = "unconfirmed"

var errUnconfirmed = &auth.Error{
	Code: auth.StorageUnavailable, Err: errors.New("postgres: the synchronous standby did not confirm the commit"),
}

// noteUnconfirmed receives every notice of the server. A commit whose wait for the
// standby was cancelled succeeds with a warning, and so does one that failed on a worker of
// Citus. The warning's text is in the server's
// language and its code is that of any warning, so the function that raises it
// identifies it.
func noteUnconfirmed(c *pgconn.PgConn, n *pgconn.Notice) {
	switch n.Routine {
	case "SyncRepWaitForLSN", // of PostgreSQL
		"FinishRemoteTransactionCommit": // of Citus
		c.CustomData()[unconfirmed] = true
	}
}
