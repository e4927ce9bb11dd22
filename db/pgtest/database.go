package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shared is the server of this process.
var shared struct {
	sync.Mutex
	own       *Server // nil while not started, or with YUFU_TEST_POSTGRES
	admin     string  // DSN of the maintenance database
	strategy  string  // option of CREATE DATABASE
	err       error
	templates []string
}

// Main runs the tests of a package and stops the shared server:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is [Main] for a TestMain with more to clean up. It returns the exit code.
func Run(m *testing.M) int {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.own != nil {
		err := shared.own.remove()
		shared.own, shared.admin = nil, ""
		return err
	}
	for _, name := range shared.templates {
		if err := execAdmin(context.Background(), shared.admin, dropDatabase(name)); err != nil {
			return err
		}
	}
	shared.templates = nil
	return nil
}

// adminDSN starts the shared server if necessary.
func adminDSN() (string, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.admin == "" && shared.err == nil {
		if dsn := os.Getenv("YUFU_TEST_POSTGRES"); dsn != "" {
			shared.admin = dsn
		} else if shared.own, shared.err = newServer(); shared.err == nil {
			shared.admin = shared.own.DSN("postgres")
		}
		if shared.err == nil {
			shared.strategy, shared.err = copyStrategy(context.Background(), shared.admin)
		}
	}
	return shared.admin, shared.err
}

// copyStrategy returns the option with which CREATE DATABASE copies the files of the
// template. By default, PostgreSQL 15 and newer write the copy to the WAL, block by block,
// which takes three times as long. Older ones only copy files.
func copyStrategy(ctx context.Context, admin string) (string, error) {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", fmt.Errorf("pgtest: %w", err)
	}
	defer conn.Close(ctx)
	var version int
	if err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return "", fmt.Errorf("pgtest: version of the server: %w", err)
	}
	if version < 150000 {
		return "", nil
	}
	return " strategy file_copy", nil
}

// Empty returns the DSN of a new, empty database on the shared server. The options are
// those of CREATE DATABASE. The database is dropped when t ends.
func Empty(t testing.TB, options ...string) string {
	t.Helper()
	return create(t, options...)
}

// Template is a migrated database that tests clone. Make it with [NewTemplate], as a
// package variable; the zero value is not usable.
type Template struct {
	migrate func(ctx context.Context, dsn string) error
	once    sync.Once
	name    string
	err     error
}

// NewTemplate returns a template. When the first test needs it, migrate fills an empty
// database.
func NewTemplate(migrate func(ctx context.Context, dsn string) error) *Template {
	return &Template{migrate: migrate}
}

// New returns the DSN of a new clone of the template on the shared server. The clone is
// dropped when t ends.
func (p *Template) New(t testing.TB) string {
	t.Helper()
	p.once.Do(func() { p.name, p.err = p.build(context.WithoutCancel(t.Context())) })
	if p.err != nil {
		t.Fatal(p.err)
	}
	return create(t, "template "+p.name)
}

func (p *Template) build(ctx context.Context) (string, error) {
	admin, err := adminDSN()
	if err != nil {
		return "", err
	}
	name := "template_" + randomName()
	if err := execAdmin(ctx, admin, `create database `+name+shared.strategy); err != nil {
		return "", err
	}
	shared.Lock()
	shared.templates = append(shared.templates, name)
	shared.Unlock()
	dsn, err := inDatabase(admin, name)
	if err != nil {
		return "", err
	}
	if err := p.migrate(ctx, dsn); err != nil {
		return "", fmt.Errorf("pgtest: migrate the template: %w", err)
	}
	return name, nil
}

func create(t testing.TB, options ...string) string {
	t.Helper()
	admin, err := adminDSN()
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + randomName()
	sql := `create database ` + name + ` ` + strings.Join(options, ` `) + shared.strategy
	if err := execAdmin(t.Context(), admin, sql); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execAdmin(context.Background(), admin, dropDatabase(name)); err != nil {
			t.Error(err)
		}
	})
	dsn, err := inDatabase(admin, name)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

func dropDatabase(name string) string { return `drop database if exists ` + name + ` with (force)` }

func execAdmin(ctx context.Context, admin, sql string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("pgtest: %s: %w", sql, err)
	}
	return nil
}

// inDatabase returns dsn with another database name.
func inDatabase(dsn, name string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", errors.New("pgtest: YUFU_TEST_POSTGRES is not a postgres:// URL")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// randomName returns a name that needs no quotes and that no other test process uses on
// a shared server.
func randomName() string { return strings.ToLower(rand.Text()) }
