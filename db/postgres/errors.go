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

// SQLSTATEs and their classes, see appendix A of PostgreSQL's manual.
const (
	stateReadOnly            = "25006" // read_only_sql_transaction: a primary that became a standby
	stateIdleInTx            = "25P03" // idle_in_transaction_session_timeout
	stateLockUnavailable     = "55P03" // lock_not_available
	stateUniqueViolation     = "23505" // unique_violation
	stateForeignKeyViolation = "23503" // foreign_key_violation
)

// unavailableClasses say that the database cannot answer now. They do not mean that the
// statement is wrong.
var unavailableClasses = map[string]bool{
	"08": true, // connection exception
	"40": true, // transaction roll-back: deadlock, serialization failure
	"53": true, // insufficient resources: connections, memory, disk
	"57": true, // operator intervention: shutdown, cancel, statement timeout
	"58": true, // system error: input/output
}

// fail translates the error of a method into an error of the contract. It returns nil
// for nil.
func (s *Store) fail(ctx context.Context, op string, err error) error {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == stateReadOnly {
		s.reset() // the server is no longer the primary
	}
	return translate(ctx, op, err)
}

// translate is the only place that turns database errors into errors of the contract.
func translate(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if code := auth.CodeOf(err); code != auth.Internal {
		return err
	}
	// If the caller gave up, the error is the context's, whatever the database said.
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
	// Checked before the server's own error: a wrong password and a missing database
	// appear as a refused connection.
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
		// Of the remaining errors, these are a closed connection, or an expired context
		// of pgx's own such as the connect timeout.
		pgconn.SafeToRetry(err) || pgconn.Timeout(err)
}

// defect is a statement that a working database refused: a bug in Yufu. Its text holds
// no value. PostgreSQL quotes the refused value in the messages of some classes.
type defect struct {
	op string
	pg *pgconn.PgError
}

func (d *defect) Error() string {
	text := "postgres: " + d.op + ": SQLSTATE " + d.pg.Code
	if d.pg.ConstraintName != "" {
		text += " on " + d.pg.ConstraintName
	}
	// Class 22 is about data and quotes it; the other classes name objects.
	if !strings.HasPrefix(d.pg.Code, "22") {
		text += ": " + d.pg.Message
	}
	return text
}

func (d *defect) Unwrap() error { return d.pg }

// isUniqueViolation reports whether a row was refused because another row has its key.
func isUniqueViolation(err error) bool { return hasState(err, stateUniqueViolation) }

// isForeignKeyViolation reports whether a row was refused because the row that it refers
// to does not exist.
func isForeignKeyViolation(err error) bool { return hasState(err, stateForeignKeyViolation) }

// hasState reports whether the server sent the SQLSTATE.
func hasState(err error, state string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == state
}
