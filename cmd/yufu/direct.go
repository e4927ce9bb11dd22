package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// databaseCommand is embedded by commands that work directly on the database.
type databaseCommand struct {
	setting.Storage
	setting.Log
}

// parse parses the settings. The error names every one that is missing or wrong.
func (f databaseCommand) parse(std streams) (setting.Database, *slog.Logger, error) {
	log, logErr := textLogger(f.Log, std)
	db, dbErr := f.Storage.Parse(std.in, warnTo(log))
	return db, log, errors.Join(dbErr, logErr)
}

// checkSettings implements [settingsChecker].
func (f databaseCommand) checkSettings(std streams) error {
	_, _, err := f.parse(std)
	return err
}

// open opens the database.
func (f databaseCommand) open(ctx context.Context, std streams) (store, error) {
	db, _, err := f.parse(std)
	if err != nil {
		return nil, wrongUsage(err)
	}
	return openStore(ctx, db, nil)
}

// sealedCommand is embedded by commands that also open secrets sealed with the master key.
type sealedCommand struct {
	databaseCommand
	setting.MasterKey
}

// parse parses the settings, as [databaseCommand.parse] does.
func (f sealedCommand) parse(std streams) (setting.Database, *seal.Ring, error) {
	db, log, err := f.databaseCommand.parse(std)
	sealer, keyErr := f.Ring(std.in, warnTo(log))
	return db, sealer, errors.Join(err, keyErr)
}

// checkSettings implements [settingsChecker].
func (f sealedCommand) checkSettings(std streams) error {
	_, _, err := f.parse(std)
	return err
}

// openWithRing opens the database and returns the master keys. It does not check that they
// open what the database holds. The caller closes the store.
func (f sealedCommand) openWithRing(ctx context.Context, std streams) (store, *seal.Ring, error) {
	db, ring, err := f.parse(std)
	if err != nil {
		return nil, nil, wrongUsage(err)
	}
	s, err := openStore(ctx, db, nil)
	return s, ring, err
}

// openSealed opens the database and the keys in it. The caller closes the store.
func (f sealedCommand) openSealed(ctx context.Context, std streams) (store, *keyring.Ring, error) {
	s, sealer, err := f.openWithRing(ctx, std)
	if err != nil {
		return nil, nil, err
	}
	keys, err := openKeys(ctx, s, sealer)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, keys, nil
}

// cliEvent returns the audit event of a command, at the current time of the database.
func cliEvent(ctx context.Context, s store, action auth.AuditAction, appID, reason string) (auth.AuditEvent, error) {
	at, err := databaseNow(ctx, s)
	return auth.AuditEvent{At: at, Action: action, Actor: auth.ActorCLI, AppID: appID, Reason: reason}, err
}
