// Package db names what the service needs of a database ([Store]) and holds what
// the stores below it share.
//
// It owns the whole store interface, the store that applies the cutoffs it writes
// ([ApplyCutoffs]), and the comparison of a database's schema with the migrations
// of this binary ([CheckSchema]). It does not own what a method means: that stands
// at the interfaces of the packages that need them. It does not own a schema, SQL
// or a connection either: db/postgres and db/sqlite have their own, and
// db/storetest tests that both keep the contract. The package keeps no state.
package db

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Store is a database with everything that the service needs of it. It is safe for
// concurrent use.
type Store interface {
	auth.AppStore
	auth.ReplicaStore
	session.Store
	session.RevocationStore
	session.RestorationStore
	cutoffs.Store
	binding.Store
	person.Store
	keyring.Store
	servicekey.Store
	accesstoken.Store

	// Migrate brings the schema up to this binary's. Several processes may call it
	// at once.
	//
	// Errors: [ErrSchemaAhead].
	Migrate(ctx context.Context) error
	// CheckSchema returns nil when the schema is this binary's.
	//
	// Errors: [ErrSchemaBehind], [ErrSchemaAhead].
	CheckSchema(ctx context.Context) error
	// Ping returns nil when the database answers and takes writes.
	//
	// Errors: [auth.StorageUnavailable].
	Ping(ctx context.Context) error
	// Now returns the time by the database's clock, in UTC.
	Now(ctx context.Context) (time.Time, error)
}
