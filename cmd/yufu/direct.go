package main

import (
	"context"
	"log/slog"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// databaseCommand is embedded by commands that work straight on the database.
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

// cliEvent returns the audit event of a command that happens now.
func cliEvent(ctx context.Context, s store, action auth.AuditAction, appID, reason string) (auth.AuditEvent, error) {
	at, err := storedNow(ctx, s)
	return auth.AuditEvent{At: at, Action: action, Actor: auth.ActorCLI, AppID: appID, Reason: reason}, err
}
