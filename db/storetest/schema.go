package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// Migrator is the part of a store that concerns its schema.
type Migrator interface {
	Migrate(ctx context.Context, key shard.Sealed) error
	CheckSchema(ctx context.Context) error
	SchemaVersion(ctx context.Context) (int64, error)
	Ping(ctx context.Context) error
}

// Empty is a new database without tables.
type Empty struct {
	// Open opens another store on it.
	Open func() Migrator
	// DB accesses the database without the stores.
	DB *sql.DB
}

// Migrations tests how stores migrate a database. empty returns a new database for each
// test.
func Migrations(t *testing.T, empty func(testing.TB) Empty) {
	t.Run("an empty database is behind and the error says what to run", func(t *testing.T) {
		t.Parallel()
		s := empty(t).Open()
		if err := s.CheckSchema(t.Context()); !errors.Is(err, db.ErrSchemaBehind) {
			t.Errorf("CheckSchema() error = %v, want ErrSchemaBehind", err)
		}
		if v, err := s.SchemaVersion(t.Context()); v != 0 || err != nil {
			t.Errorf("SchemaVersion() = %d, %v, want 0", v, err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("Ping() error = %v", err)
		}
	})
	t.Run("several processes may migrate at once and repeatedly", func(t *testing.T) {
		t.Parallel()
		e := empty(t)
		var wg sync.WaitGroup
		for range 6 {
			s := e.Open()
			wg.Go(func() {
				if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
					t.Errorf("Migrate() error = %v", err)
				}
				if err := s.CheckSchema(t.Context()); err != nil {
					t.Errorf("CheckSchema() error = %v", err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("a newer schema refuses this binary", func(t *testing.T) {
		t.Parallel()
		e := empty(t)
		s := e.Open()
		if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
			t.Fatalf("Migrate() error = %v", err)
		}
		newest, err := s.SchemaVersion(t.Context())
		if err != nil {
			t.Fatalf("SchemaVersion() error = %v", err)
		}
		if _, err := e.DB.ExecContext(t.Context(), fmt.Sprintf(`insert into goose_db_version (version_id, is_applied) values (%d, true)`, newest+1)); err != nil {
			t.Fatal(err)
		}
		if err := s.CheckSchema(t.Context()); !errors.Is(err, db.ErrSchemaAhead) {
			t.Errorf("CheckSchema() error = %v, want ErrSchemaAhead", err)
		}
		if err := s.Migrate(t.Context(), shardtest.Sealed); !errors.Is(err, db.ErrSchemaAhead) {
			t.Errorf("Migrate() error = %v, want ErrSchemaAhead", err)
		}
	})
}
