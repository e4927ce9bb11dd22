package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/shard"
)

var _ db.Store = (*Store)(nil)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable names the schema, because goose would search an unqualified name along
// the search path.
const versionTable = "public.goose_db_version"

// Migrate implements [db.Store]. Processes that call it at once take turns. Only ctx
// bounds the time that it takes.
func (s *Store) Migrate(ctx context.Context, key shard.Sealed) error {
	if err := s.CheckSchema(ctx); !errors.Is(err, db.ErrSchemaBehind) {
		return err
	}
	cfg := s.target.Load().Copy()
	pinSettings(&cfg.Config, "0", "0")
	cfg.Tracer = nil
	conns := stdlib.OpenDB(*cfg)
	defer conns.Close() //nolint:errcheck // what was migrated is committed
	err := migrate(ctx, conns, key)
	s.reset() // new connections read the deployment, see recognise
	return s.fail(ctx, "Migrate", err)
}

func migrate(ctx context.Context, conns *sql.DB, key shard.Sealed) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockMigrate), lock.WithLockTimeout(1, 3600))
	if err != nil {
		return err
	}
	p, err := db.Migrations(goose.DialectPostgres, conns, migrations, addShardKeySQL, key,
		goose.WithSessionLocker(locker), goose.WithTableName(versionTable))
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

// SchemaVersion returns the number of the database's last migration, or zero for an
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

// CheckSchema returns nil if the schema is this binary's, else [db.ErrSchemaBehind]
// or [db.ErrSchemaAhead].
func (s *Store) CheckSchema(ctx context.Context) error {
	have, err := s.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	return db.CheckSchema(have, migrations)
}
