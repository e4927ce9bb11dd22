package sqlite

import (
	"context"
	"embed"
	"errors"

	"github.com/pressly/goose/v3"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/shard"
)

var _ db.Store = (*Store)(nil)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate implements [db.Store].
func (s *Store) Migrate(ctx context.Context, key shard.Sealed) error {
	for {
		before, err := s.SchemaVersion(ctx)
		if err != nil {
			return err
		}
		if err := s.CheckSchema(ctx); !errors.Is(err, db.ErrSchemaBehind) {
			return err
		}
		migrateErr := s.up(ctx, key)
		if migrateErr == nil {
			return nil
		}
		// SQLite has no lock to hold across migrations, but each migration is a
		// transaction. If this attempt failed while the schema advanced, another
		// process is migrating too: look again.
		after, err := s.SchemaVersion(ctx)
		if err != nil || after == before {
			return translate(ctx, "Migrate", migrateErr)
		}
	}
}

func (s *Store) up(ctx context.Context, key shard.Sealed) error {
	p, err := db.Migrations(goose.DialectSQLite3, s.w, migrations, addShardKeySQL, key)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

var (
	versionTableSQL = statement(`select count(*) from sqlite_schema where type = 'table' and name = 'goose_db_version'`)
	versionSQL      = statement(`select coalesce(max(version_id), 0) from goose_db_version where is_applied`)
)

// SchemaVersion returns the number of the file's last migration, or zero for an empty
// file.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var tables, v int64
	if err := s.r.QueryRowContext(ctx, versionTableSQL).Scan(&tables); err != nil {
		return 0, translate(ctx, "SchemaVersion", err)
	}
	if tables == 0 {
		return 0, nil
	}
	if err := s.r.QueryRowContext(ctx, versionSQL).Scan(&v); err != nil {
		return 0, translate(ctx, "SchemaVersion", err)
	}
	return v, nil
}

// CheckSchema returns nil if the schema is this binary's, else [db.ErrSchemaBehind]
// or [db.ErrSchemaAhead].
func (s *Store) CheckSchema(ctx context.Context) error {
	have, err := s.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	return db.CheckSchema(have, migrations)
}
