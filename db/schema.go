package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/yufu-auth/yufu/pkg/shard"
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

// firstMigration is the file that makes the tables.
const firstMigration = "0001_schema.sql"

// Migrations returns the migrations in the folder migrations. The first of them also
// stores the key of the shards, in the same transaction: insertKey is the statement for
// it, with the sealed key and the check value as arguments.
func Migrations(dialect goose.Dialect, conns *sql.DB, migrations fs.FS, insertKey string, key shard.Sealed, opts ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	schema, err := fs.ReadFile(files, firstMigration)
	if err != nil {
		return nil, err
	}
	first := goose.NewGoMigration(1, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, string(schema)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, insertKey, key.Key, key.Check)
		return err
	}}, nil)
	return goose.NewProvider(dialect, conns, files, append(opts,
		goose.WithGoMigrations(first), goose.WithExcludeNames([]string{firstMigration}),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))...)
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
