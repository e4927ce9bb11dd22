package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// store is an open database.
type store interface {
	db.Store
	Close()
}

var (
	_ store = (*postgres.Store)(nil)
	_ store = sqliteStore{}
)

// sqliteStore adapts Close to the store interface. It drops the error of Close: every commit
// is on the disk by then.
type sqliteStore struct{ *sqlite.Store }

func (s sqliteStore) Close() { _ = s.Store.Close() }

// openTimeout bounds the time for which a start waits for the database.
const openTimeout = 15 * time.Second

// openStore opens the database. With a master key it migrates the schema, else it checks that
// the schema has the version of this binary.
func openStore(ctx context.Context, db setting.Database, migrate *seal.Ring) (store, error) {
	return openStoreFor(ctx, db, migrate, false)
}

// openStoreToServe is [openStore] for a process that serves. Only one process may serve from an
// SQLite file.
func openStoreToServe(ctx context.Context, db setting.Database, migrate *seal.Ring) (store, error) {
	return openStoreFor(ctx, db, migrate, true)
}

func openStoreFor(ctx context.Context, db setting.Database, migrate *seal.Ring, serving bool) (store, error) {
	begun := time.Now()
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := checkSQLiteFile(db, migrate != nil); err != nil {
		return nil, err
	}
	s, err := connect(opening, db)
	if err != nil {
		return nil, openError(db, err, time.Since(begun))
	}
	switch s := s.(type) {
	case *postgres.Store:
		err = s.CheckPooling(opening)
	case sqliteStore:
		// Before the migration, which would change the schema under a running process.
		if serving {
			err = s.Claim(opening)
		}
	}
	switch {
	case err != nil:
	case migrate != nil:
		// Without the timeout: a migration may take long.
		var key shard.Sealed
		if key, err = shard.Make(migrate); err == nil {
			err = s.Migrate(ctx, key)
		}
	default:
		err = s.CheckSchema(opening)
	}
	if err != nil {
		s.Close()
		return nil, openError(db, err, time.Since(begun))
	}
	return s, nil
}

// checkSQLiteFile refuses a mistyped path, which would become an empty database. Only a migration
// makes a file.
func checkSQLiteFile(db setting.Database, migrate bool) error {
	if db.SQLitePath == "" {
		return nil
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return !errors.Is(err, fs.ErrNotExist)
	}
	switch folder := filepath.Dir(db.SQLitePath); {
	case !exists(folder):
		return setting.Errorf(db.Setting, "names a file in a folder that does not exist: %s; make the folder first, or correct the path", folder)
	case !migrate && !exists(db.SQLitePath):
		return setting.Errorf(db.Setting, "names a file that does not exist: %s; correct the path, or make the file: run yufu migrate", db.SQLitePath)
	}
	return nil
}

// refusalHints tell the operator what to do when a PostgreSQL server refuses this user, by
// SQLSTATE.
var refusalHints = map[string]string{
	"28000": "the server refuses this user",
	"28P01": "the server refuses this user or this password",
	"3D000": "create the database first, owned by this user",
	"42704": "the server does not know a parameter of the URL",
	"42501": "this user must own the database (alter database NAME owner to USER) or its tables",
}

// openError returns an error that names the setting of a database that does not open. Waited
// is the time spent trying.
func openError(db setting.Database, err error, waited time.Duration) error {
	var e *auth.Error
	var wrong *postgres.SettingError
	var refusal interface {
		error
		SQLState() string
	}
	switch {
	case errors.As(err, &wrong):
		return setting.Errorf(db.Setting, "is wrong: %w", wrong)
	case errors.As(err, &refusal) && refusalHints[refusal.SQLState()] != "":
		return setting.Errorf(db.Setting, "names a database that cannot be used: %s: %w", refusalHints[refusal.SQLState()], refusal)
	case errors.Is(err, sqlite.ErrClaimed):
		return setting.Errorf(db.Setting, "names a database that another process serves from (yufu serve or yufu dev): %s; stop that process first, or use PostgreSQL for several replicas", db.SQLitePath)
	case errors.Is(err, context.DeadlineExceeded):
		// The timeout is that of the start or of a connection, of which each host has one.
		return setting.Errorf(db.Setting, "names a database that did not answer within %s", waited.Truncate(time.Second))
	case errors.As(err, &e) && e.Code == auth.StorageUnavailable && e.Err != nil:
		return setting.Errorf(db.Setting, "names a database that does not answer: %w", e.Err)
	default:
		return setting.Errorf(db.Setting, "names a database that cannot be opened: %w", err)
	}
}

// connect opens the PostgreSQL database or the SQLite file.
func connect(ctx context.Context, db setting.Database) (store, error) {
	if db.SQLitePath == "" {
		s, err := postgres.Open(ctx, db.PostgresDSN)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := sqlite.Open(ctx, db.SQLitePath)
	if err != nil {
		return nil, err
	}
	return sqliteStore{s}, nil
}

// databaseNow returns the time by the database's clock, with the precision of the store. A
// revocation with a time of this machine's clock, if that is wrong, could expire too early.
func databaseNow(ctx context.Context, s db.Store) (time.Time, error) {
	at, err := s.Now(ctx)
	return auth.StoredTime(at), err
}
