package db

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Errors of [CheckSchema].
var (
	// ErrSchemaBehind: the database lacks migrations that this binary needs.
	ErrSchemaBehind = errors.New("the database schema is older than this binary: run yufu migrate")
	// ErrSchemaAhead: a newer binary migrated the database.
	ErrSchemaAhead = errors.New("the database schema is newer than this binary: run the newer release")
)

// CheckSchema compares the number of a database's last migration with that of the
// newest file in the folder migrations. It returns nil if they are equal, else
// [ErrSchemaBehind] or [ErrSchemaAhead].
func CheckSchema(have int64, migrations fs.FS) error {
	want, err := newest(migrations)
	switch {
	case err != nil:
		return err
	case have < want:
		return fmt.Errorf("%w (schema at migration %d, this binary needs %d)", ErrSchemaBehind, have, want)
	case have > want:
		return fmt.Errorf("%w (schema at migration %d, this binary knows %d)", ErrSchemaAhead, have, want)
	}
	return nil
}

// newest returns the number of the newest file in the folder migrations.
func newest(migrations fs.FS) (int64, error) {
	entries, err := fs.ReadDir(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	var last int64
	for _, e := range entries {
		v, err := goose.NumericComponent(e.Name())
		if err != nil {
			return 0, err
		}
		last = max(last, v)
	}
	return last, nil
}
