package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrClaimed is returned by [Store.Claim] when another store has the claim.
var ErrClaimed = errors.New("another process serves from this database file")

// claimSuffix names the lock file beside the database.
const claimSuffix = "-lock"

// Claim makes this store the only one that serves from the file, until [Store.Close]
// or the end of the process, even after a kill. It returns [ErrClaimed] at once when
// another store has the claim. Stores without a claim can still use the file.
//
// The lock is SQLite's own, on an empty database beside the file, because the file
// itself holds the locks of its transactions. A third file holds what the store
// notes while it has the claim, for [Store.RecordedHistory].
func (s *Store) Claim(ctx context.Context) error {
	path, err := s.realPath()
	if err != nil {
		return err
	}
	lock := path + claimSuffix
	if err := create(lock); err != nil {
		return err
	}
	// A transaction lasts as long as its connection, and the pool keeps its only
	// connection until it is closed.
	db, err := open(lock, 1, nil)
	if err != nil {
		return err
	}
	if _, err = db.ExecContext(ctx, `begin exclusive`); err == nil {
		if s.noted, err = openNote(path + notedSuffix); err == nil {
			s.claim = db
			return nil
		}
	}
	_ = db.Close()
	if e := (*sqlite.Error)(nil); errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY {
		return ErrClaimed
	}
	return translate(ctx, "Claim", err)
}

// realPath returns the file's path without symbolic links, so that all names of a file
// share one claim and one note.
func (s *Store) realPath() (string, error) {
	path, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return "", fmt.Errorf("sqlite: %w", err)
	}
	return path, nil
}
