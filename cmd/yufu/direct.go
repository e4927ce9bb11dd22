package main

import (
	"context"
	"log/slog"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

// databaseCommand is embedded by commands that work directly on the database.
type databaseCommand struct {
	setting.Storage
	setting.Log
}

// logger returns the command's log.
func (f databaseCommand) logger(std streams) (*slog.Logger, error) { return textLogger(f.Log, std) }

// open opens the database.
func (f databaseCommand) open(ctx context.Context, std streams) (store, *slog.Logger, error) {
	log, err := f.logger(std)
	if err != nil {
		return nil, nil, wrongUsage(err)
	}
	db, err := f.Storage.Parse(std.in, warnTo(log))
	if err != nil {
		return nil, nil, wrongUsage(err)
	}
	s, err := openStore(ctx, db, false)
	return s, log, err
}

// sealedCommand is embedded by commands that also open secrets sealed with the master key.
type sealedCommand struct {
	databaseCommand
	setting.MasterKey
}

// openSealed opens the database and the keys in it. The caller closes the store.
func (f sealedCommand) openSealed(ctx context.Context, std streams) (store, *keyring.Ring, error) {
	s, log, err := f.open(ctx, std)
	if err != nil {
		return nil, nil, err
	}
	sealer, err := f.Ring(std.in, warnTo(log))
	if err != nil {
		s.Close()
		return nil, nil, wrongUsage(err)
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
