package main

import (
	"context"
	"fmt"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

// store is a database with everything the parts need of it.
type store interface {
	session.Store
	auth.AppStore
	keyring.Store
	// Migrate brings the schema up to date; several processes may call it at
	// once.
	Migrate(ctx context.Context) error
	// CheckSchema says what to do when the schema is not this binary's.
	CheckSchema(ctx context.Context) error
	// Ping reports whether the database takes writes.
	Ping(ctx context.Context) error
	// Now returns the database's clock.
	Now(ctx context.Context) (time.Time, error)
	Close()
}

var (
	_ store = (*postgres.Store)(nil)
	_ store = (*sqlite.Store)(nil)
)

// openTimeout bounds how long a start waits for the database.
const openTimeout = 15 * time.Second

// openStore opens the database and, when told to, migrates it; else it checks
// that the schema is this binary's.
func openStore(ctx context.Context, db setting.Database, migrate bool) (store, error) {
	var s store
	var err error
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if db.SQLitePath != "" {
		s, err = asStore(sqlite.Open(opening, db.SQLitePath))
	} else {
		s, err = asStore(postgres.Open(opening, db.PostgresDSN))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the database (YUFU_DATABASE_URL): %w", err)
	}
	if migrate {
		// A migration takes as long as it takes.
		err = s.Migrate(ctx)
	} else {
		err = s.CheckSchema(opening)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// asStore keeps a nil pointer from becoming an interface that is not nil.
func asStore[S store](s S, err error) (store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
