// Package shardtest has the keys of shards that tests use, and ids in them.
package shardtest

import (
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// Sealed is for a database whose key no test opens: no master key does.
var Sealed = shard.Sealed{Key: []byte("sealed with no master key"), Check: []byte("none")}

var key = shard.NewKey()

// NewID returns a new id in the shard of an account. The key is the same during a run of
// tests.
func NewID(appID string, account auth.PlatformAccount) uuid.UUID {
	id, err := shard.NewID(key.Of(appID, account))
	if err != nil {
		panic(err)
	}
	return id
}

// NewIDBeside returns a new id in the shard of another.
func NewIDBeside(id uuid.UUID) uuid.UUID {
	beside, err := shard.NewID(shard.Of(id))
	if err != nil {
		panic(err)
	}
	return beside
}
