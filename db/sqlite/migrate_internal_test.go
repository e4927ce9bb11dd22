package sqlite

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"
)

// The migration that allows any source of a person replaces the column, so it must copy
// the values.
func TestMigrationKeepsSources(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "yufu.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.w, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 13); err != nil {
		t.Fatal(err)
	}
	for id, source := range map[string]string{"1": "admin", "2": "phone", "3": "webhook"} {
		if _, err := s.w.ExecContext(t.Context(), `insert into persons (id, external_id, name, created_at, source) values (?1, ?1, '', 1, ?2)`, id, source); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"1": "admin", "2": "phone", "3": "webhook"} {
		var got string
		if err := s.w.QueryRowContext(t.Context(), `select source from persons where id = ?`, id).Scan(&got); err != nil || got != want {
			t.Errorf("source of person %s = %q, error %v, want %q", id, got, err, want)
		}
	}
}
