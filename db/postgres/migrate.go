package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Errors of [Store.CheckSchema] and [Store.Migrate].
var (
	// ErrSchemaBehind: the database lacks migrations that this binary needs.
	ErrSchemaBehind = errors.New("the database schema is older than this binary: run yufu migrate")
	// ErrSchemaAhead: a newer binary has migrated the database.
	ErrSchemaAhead = errors.New("this binary is older than the schema of the database: run the newer release")
)

// versionTable is in the schema of everything else; goose would look for an
// unqualified name along the search path.
const versionTable = "public.goose_db_version"

// Migrate brings the schema up to this binary's. Any number of processes may
// do so at once: they take turns. It takes as long as it takes: only ctx bounds
// it.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.CheckSchema(ctx); !errors.Is(err, ErrSchemaBehind) {
		return err
	}
	cfg := s.target.Load().Copy()
	pinSettings(&cfg.Config, "0", "0")
	cfg.Tracer = nil
	db := stdlib.OpenDB(*cfg)
	defer db.Close() //nolint:errcheck // what was migrated is committed
	err := migrate(ctx, db)
	s.reset() // what an empty database could not tell, see recognise
	return s.fail(ctx, "Migrate", err)
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockMigrate), lock.WithLockTimeout(1, 3600))
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

var (
	versionTableSQL = statement(`select to_regclass('` + versionTable + `') is not null`)
	versionSQL      = statement(`select coalesce(max(version_id), 0) from ` + versionTable + ` where is_applied`)
)

// SchemaVersion returns the number of the database's last migration; zero is an
// empty database.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var there bool
	if err := s.pool.QueryRow(ctx, versionTableSQL).Scan(&there); err != nil {
		return 0, s.fail(ctx, "SchemaVersion", err)
	}
	if !there {
		return 0, nil
	}
	var v int64
	if err := s.pool.QueryRow(ctx, versionSQL).Scan(&v); err != nil {
		return 0, s.fail(ctx, "SchemaVersion", err)
	}
	return v, nil
}

// CheckSchema returns nil when the schema is this binary's, [ErrSchemaBehind]
// or [ErrSchemaAhead] when it is not.
func (s *Store) CheckSchema(ctx context.Context) error {
	have, err := s.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	want, err := newest()
	switch {
	case err != nil:
		return err
	case have < want:
		return fmt.Errorf("postgres: %w (it is at %d, wanted is %d)", ErrSchemaBehind, have, want)
	case have > want:
		return fmt.Errorf("postgres: %w (it is at %d, known is %d)", ErrSchemaAhead, have, want)
	}
	return nil
}

// newest returns the number of the newest migration this binary has.
func newest() (int64, error) {
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, e := range entries {
		v, err := goose.NumericComponent(e.Name())
		if err != nil {
			return 0, err
		}
		newest = max(newest, v)
	}
	return newest, nil
}
