// Package db defines the database that the service needs ([Store]) and holds the code
// that its implementations share.
//
// It owns the complete store interface, the store that applies the cutoffs it writes
// ([ApplyCutoffs]), and the comparison of a database's schema with the migrations
// of this binary ([CheckSchema]). It does not own the meaning of a method: the
// interfaces of the packages that need the methods document it. It does not own a
// schema, SQL or a connection: db/postgres and db/sqlite do, and db/storetest tests
// that both keep the contract. The package keeps no state.
//
// If the catch-up of [ApplyCutoffs] fails, the method still succeeds, because its change
// is committed. The replica then learns of it when the others do.
package db

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/masterkey"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// Store is the database of the service. It is safe for concurrent use.
type Store interface {
	app.Store
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
	shard.Store
	masterkey.Store
	audit.Store

	// Migrate brings the schema up to this binary's version. An empty database stores
	// the key; one with tables has a key, and ignores this one. Several processes may
	// call it at once.
	//
	// Errors: [ErrSchemaAhead].
	Migrate(ctx context.Context, key shard.Sealed) error
	// CheckSchema returns nil if the schema is this binary's.
	//
	// Errors: [ErrSchemaBehind], [ErrSchemaAhead].
	CheckSchema(ctx context.Context) error
	// Ping returns nil if the database answers and accepts writes.
	//
	// Errors: [auth.StorageUnavailable].
	Ping(ctx context.Context) error
	// Now returns the time of the database's clock, in UTC.
	Now(ctx context.Context) (time.Time, error)
}
