package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver
)

const (
	// busyTimeout bounds the wait of a write for another process's write.
	busyTimeout = 10 * time.Second
	// readers is the number of concurrent reads.
	readers = 4
)

// Store is one SQLite file. It is safe for concurrent use. Any number of processes may
// have the same file open.
type Store struct {
	path string
	w    *sql.DB // one connection
	r    *sql.DB
	// claim holds the lock of [Store.Claim], and noted the note that belongs to it. Both
	// are nil without a claim.
	claim *sql.DB
	noted *noteFile
	// timeline is the name of the timeline of the cutoffs' ids.
	timeline       string
	cutoffNotifier *notifier
}

// Open opens the file at path. If the file does not exist, Open creates it, readable
// only by its owner; the directory must exist.
func Open(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	if err := create(path); err != nil {
		return nil, err
	}
	s := &Store{path: path, timeline: rand.Text(), cutoffNotifier: newNotifier()}
	if s.w, err = connect(path, 1, "_txlock", "immediate"); err != nil {
		return nil, err
	}
	if s.r, err = connect(path, readers, "_pragma", "query_only(1)"); err != nil {
		_ = s.w.Close()
		return nil, err
	}
	// The first connection switches the journal to WAL, before any reader opens the file.
	if err := s.w.PingContext(ctx); err != nil {
		_ = s.Close()
		return nil, translate(ctx, "Open", err)
	}
	return s, nil
}

// create creates the file if it does not exist. SQLite would use the umask's mode; the
// journals take the mode of the file. An existing file is not opened, because closing it
// would drop the locks that SQLite holds on it in this process.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names the file
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("sqlite: open: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("sqlite: open: %w", err)
	}
	return nil
}

func connect(path string, conns int, param, value string) (*sql.DB, error) {
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), // first: the others may have to wait
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
	}}
	q.Add(param, value)
	return open(path, conns, q)
}

func open(path string, conns int, q url.Values) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// Close waits for calls in progress, closes the file and releases the claim.
func (s *Store) Close() error {
	err := errors.Join(s.r.Close(), s.w.Close())
	if s.claim != nil {
		err = errors.Join(err, s.noted.close(), s.claim.Close())
	}
	return err
}

// statements lists every statement of this package, so that a test can prepare them.
var statements []string

// statement registers a statement. Only the initialisation of package variables calls it.
func statement(sql string) string {
	statements = append(statements, sql)
	return sql
}

var pingSQL = statement(`select 1 from sqlite_schema limit 1`)

// Ping returns nil if the file can be read, else [auth.StorageUnavailable].
func (s *Store) Ping(ctx context.Context) error {
	var one int
	err := s.r.QueryRowContext(ctx, pingSQL).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // no tables yet
	}
	return translate(ctx, "Ping", err)
}

var nowSQL = statement(`select cast(round(unixepoch('subsec') * 1000) as integer)`)

// Now returns the time of the database's clock, which is the host's, in UTC and with
// millisecond resolution.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var ms int64
	if err := s.r.QueryRowContext(ctx, nowSQL).Scan(&ms); err != nil {
		return time.Time{}, translate(ctx, "Now", err)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// inTx runs fn in a transaction and commits it, unless fn returns an error. There is only
// one such transaction at a time among all processes. It translates errors.
func (s *Store) inTx(ctx context.Context, op string, fn func(tx *writeTx) error) error {
	begun, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return translate(ctx, op, err)
	}
	tx := &writeTx{Tx: begun}
	if err := fn(tx); err != nil {
		_ = tx.Rollback()
		return translate(ctx, op, err)
	}
	err = tx.Commit()
	if tx.notify {
		// After an error too: a failed commit may have taken effect.
		s.cutoffNotifier.notify()
	}
	return translate(ctx, op, err)
}

// writeTx is a transaction that writes.
type writeTx struct {
	*sql.Tx
	// notify says that followers have something to read.
	notify bool
}

// querier has the methods that a database and a transaction share.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}
