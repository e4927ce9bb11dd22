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

// unavailableCodes say that the file cannot be used now, not that the statement
// was wrong.
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

// translate is the one place where database errors become the contract's. It
// returns nil for nil. SQLite's messages name tables and columns, never values.
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
	err = fmt.Errorf("sqlite: %s: %w", op, err)
	// The low byte is the code, the rest refines it.
	var e *sqlite.Error
	if errors.As(err, &e) && unavailableCodes[e.Code()&0xff] ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return &auth.Error{Code: auth.StorageUnavailable, Err: err}
	}
	return err
}
