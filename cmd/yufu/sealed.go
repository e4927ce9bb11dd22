package main

import (
	"context"
	"errors"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// openSealed opens the keys and the key of the facts, and makes them at the first start. An
// error about a wrong master key names masterKey, the setting or file of that key.
func openSealed(ctx context.Context, s db.Store, sealer *seal.Ring, masterKey string) (keys *keyring.Ring, facts *person.FactKey, err error) {
	// By the database's clock: if this machine's clock is ahead, the keys would begin to sign
	// in the future and delay their successors.
	at, err := databaseNow(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	// The key of the facts opens first. If all signing keys have ended, only this key detects
	// a wrong master key, with which new keys would be sealed that the right one cannot open.
	if facts, err = person.OpenFactKey(ctx, s, sealer, at); err == nil {
		keys, err = keyring.Open(ctx, s, sealer, at)
	}
	if errors.Is(err, seal.ErrOpen) {
		err = setting.Errorf(masterKey, "is not the master key that the database was set up with: %w", err)
	}
	return keys, facts, err
}

// openKeys is [openSealed] for commands without facts.
func openKeys(ctx context.Context, s db.Store, sealer *seal.Ring) (*keyring.Ring, error) {
	keys, _, err := openSealed(ctx, s, sealer, setting.MasterKeyName)
	return keys, err
}

// checkOpensAll returns an error if the ring does not open a key or secret that is in use.
func checkOpensAll(ctx context.Context, s store, ring *seal.Ring) error {
	if _, err := openKeys(ctx, s, ring); err != nil {
		return err
	}
	return checkOpensSecrets(ctx, s, ring, setting.MasterKeyName)
}

// checkOpensSecrets returns an error that names the first app with a secret that the ring does
// not open.
func checkOpensSecrets(ctx context.Context, s store, ring *seal.Ring, masterKey string) error {
	apps, err := s.Apps(ctx)
	if err != nil {
		return err
	}
	for _, a := range apps {
		_, err := app.Credentials(ring, &a)
		if err == nil && len(a.SealedWebhookSecret) > 0 {
			_, err = ring.Open(a.SealedWebhookSecret, app.WebhookSecretAAD(a.ID))
		}
		if err != nil {
			return setting.Errorf(masterKey, "does not open a secret of app %s, which was sealed with another master key: %w", a.ID, err)
		}
	}
	return nil
}
