package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// unavailableCodes say that the file cannot be used now. They do not mean that the
// statement is wrong.
var unavailableCodes = map[int]bool{
	sqlite3.SQLITE_BUSY:     true,
	sqlite3.SQLITE_LOCKED:   true,
	sqlite3.SQLITE_NOMEM:    true,
	sqlite3.SQLITE_READONLY: true,
	sqlite3.SQLITE_IOERR:    true,
	sqlite3.SQLITE_FULL:     true,
	sqlite3.SQLITE_CANTOPEN: true,
	sqlite3.SQLITE_PROTOCOL: true,
}

// translate is the only place that turns database errors into errors of the contract. It
// returns nil for nil. SQLite's messages name tables and columns, never values.
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
	err = fmt.Errorf("sqlite: %s: %w", op, err)
	// The low byte is the primary code; the other bytes refine it.
	var e *sqlite.Error
	if errors.As(err, &e) && unavailableCodes[e.Code()&0xff] ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return &auth.Error{Code: auth.StorageUnavailable, Err: err}
	}
	return err
}
