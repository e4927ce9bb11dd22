package main

import (
	"context"
	"errors"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/masterkey"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// sealedKeys are the keys that the database holds, sealed with the master key.
type sealedKeys struct {
	keys   *keyring.Ring
	facts  *person.FactKey
	shards *shard.Key
}

// openSealed opens the keys in the database. At the first start it makes the signing keys and
// the key of the facts. An error about a wrong master key names masterKey, the setting or file
// of that key.
func openSealed(ctx context.Context, s db.Store, sealer *seal.Ring, masterKey string) (k sealedKeys, err error) {
	// By the database's clock: if this machine's clock is ahead, the keys would begin to sign
	// in the future and delay their successors.
	at, err := databaseNow(ctx, s)
	if err != nil {
		return k, err
	}
	// The key of the shards opens first. It is always there, so it detects a wrong master key
	// before new keys are sealed with that, which the right one could not open.
	if k.shards, err = shard.Open(ctx, s, sealer); err == nil {
		k.facts, err = person.OpenFactKey(ctx, s, sealer, at)
	}
	if err == nil {
		k.keys, err = keyring.Open(ctx, s, sealer, at)
	}
	return k, wrongMasterKey(err, masterKey)
}

// wrongMasterKey names the setting of the master key in an error of a key that does not open.
func wrongMasterKey(err error, masterKey string) error {
	if errors.Is(err, seal.ErrOpen) {
		return setting.Errorf(masterKey, "is not the master key that the database was set up with: %w", err)
	}
	return err
}

// openKeys is [openSealed] for commands that need only the signing keys.
func openKeys(ctx context.Context, s db.Store, sealer *seal.Ring) (*keyring.Ring, error) {
	k, err := openSealed(ctx, s, sealer, setting.MasterKeyName)
	return k.keys, err
}

// checkOpensAll returns an error if the ring does not open a key or secret that is in use.
func checkOpensAll(ctx context.Context, s store, ring *seal.Ring) error {
	err := masterkey.Check(ctx, s, ring)
	if errors.Is(err, seal.ErrOpen) {
		return setting.Errorf(setting.MasterKeyName, "does not open a secret that is in use: %w", err)
	}
	return err
}
