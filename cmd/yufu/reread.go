package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// reread reads the file of a setting again. What it holds counts when it is good; else
// what was read before stays.
type reread struct {
	setting string
	read    func(ctx context.Context) error
}

// rereadOn reads the files again at each signal (SIGHUP). Other settings need a restart.
func (p parts) rereadOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		if len(p.rereads) == 0 {
			p.log.Info("SIGHUP received, no file to reread")
		}
		for _, r := range p.rereads {
			if err := r.read(ctx); err != nil {
				p.log.Error("file reread, the old value stays", "setting", r.setting, "cause", err)
				continue
			}
			p.log.Info("file reread", "setting", r.setting)
		}
	}
}

// rereads returns what a serving process reads again.
func (c *serveCmd) rereads(std streams, log *slog.Logger, s store, sealer *seal.Ring, level *slog.LevelVar) []reread {
	all := []reread{{setting.MasterKeyName, func(ctx context.Context) error {
		ring, err := c.Ring(std.in, warnTo(log))
		if err != nil {
			return err
		}
		if err := opensAll(ctx, s, ring); err != nil {
			return err
		}
		sealer.Replace(ring)
		return nil
	}}}
	if c.DatabaseURLFile != "" {
		all = append(all, reread{"YUFU_DATABASE_URL_FILE", func(ctx context.Context) error {
			db, err := c.Storage.Parse(std.in, warnTo(log))
			if err != nil {
				return err
			}
			pg, ok := s.(*postgres.Store)
			if !ok || db.PostgresDSN == "" {
				return errors.New("cannot change to another kind of database or another SQLite file without a restart")
			}
			ctx, cancel := context.WithTimeout(ctx, openTimeout)
			defer cancel()
			return pg.Reconnect(ctx, db.PostgresDSN)
		}})
	}
	if c.LogLevelFile != "" {
		all = append(all, reread{"YUFU_LOG_LEVEL_FILE", func(context.Context) error { return c.rereadLevel(level) }})
	}
	return all
}

func (c *serveCmd) rereadLevel(level *slog.LevelVar) error {
	l, err := c.LevelFile.Read(c.Log)
	if err == nil {
		level.Set(l)
	}
	return err
}
