package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// SQLSTATEs and their classes, as the manual's appendix A lists them.
const (
	stateReadOnly        = "25006" // read_only_sql_transaction: a primary that became a standby
	stateIdleInTx        = "25P03" // idle_in_transaction_session_timeout
	stateLockUnavailable = "55P03" // lock_not_available
	stateUniqueViolation = "23505" // unique_violation
)

// unavailableClasses say that the database cannot answer now, not that the
// statement was wrong.
var unavailableClasses = map[string]bool{
	"08": true, // connection exception
	"40": true, // transaction roll-back: deadlock, serialization failure
	"53": true, // insufficient resources: connections, memory, disk
	"57": true, // operator intervention: shutdown, cancel, statement time-out
	"58": true, // system error: input/output
}

// fail translates the error of a method into what the contract names. It
// returns nil for nil.
func (s *Store) fail(ctx context.Context, op string, err error) error {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == stateReadOnly {
		s.reset() // the server is no longer the primary
	}
	return translate(ctx, op, err)
}

// translate is the one place where database errors become the contract's.
func translate(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if code := auth.CodeOf(err); code != auth.Internal {
		return err
	}
	// Whatever the database said to it, a call that was given up is given up.
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if unavailable(err) {
		return &auth.Error{Code: auth.StorageUnavailable, Err: fmt.Errorf("postgres: %s: %w", op, err)}
	}
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return &defect{op: op, pg: pg}
	}
	return fmt.Errorf("postgres: %s: %w", op, err)
}

func unavailable(err error) bool {
	// Before the server's own answer: a refused password or a missing database
	// is a refused connection.
	if connect := (*pgconn.ConnectError)(nil); errors.As(err, &connect) {
		return true
	}
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		switch pg.Code {
		case stateReadOnly, stateIdleInTx, stateLockUnavailable:
			return true
		}
		return len(pg.Code) == 5 && unavailableClasses[pg.Code[:2]]
	}
	var netErr net.Error
	return errors.As(err, &netErr) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, puddle.ErrClosedPool) || errors.Is(err, pgx.ErrTxClosed) ||
		// Of the errors left, these are a connection that is closed or a
		// context of pgx's own (the connect time-out) that ran out.
		pgconn.SafeToRetry(err) || pgconn.Timeout(err)
}

// defect is a statement that the database refused although it is there: our
// mistake. Its text holds no value, since PostgreSQL quotes what it refuses in
// the messages of some classes.
type defect struct {
	op string
	pg *pgconn.PgError
}

func (d *defect) Error() string {
	text := "postgres: " + d.op + ": SQLSTATE " + d.pg.Code
	if d.pg.ConstraintName != "" {
		text += " on " + d.pg.ConstraintName
	}
	// Class 22 is about data and quotes them; the others speak of names.
	if !strings.HasPrefix(d.pg.Code, "22") {
		text += ": " + d.pg.Message
	}
	return text
}

func (d *defect) Unwrap() error { return d.pg }

// isUniqueViolation reports whether a row was refused because another has its
// key.
func isUniqueViolation(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateUniqueViolation
}
