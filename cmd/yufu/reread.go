package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
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
	all := []reread{{masterKeySetting, func(ctx context.Context) error {
		ring, err := c.ring(std, log)
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
			db, err := c.database(std, log)
			if err != nil {
				return err
			}
			pg, ok := s.(*postgres.Store)
			if !ok || db.PostgresDSN == "" {
				return errors.New("another kind of database needs a restart, and so does another SQLite file")
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
	l, err := c.level(c.LogLevel)
	if err == nil {
		level.Set(l)
	}
	return err
}

// opensAll returns an error when the ring does not open what is in use.
func opensAll(ctx context.Context, s store, ring *seal.Ring) error {
	if _, err := openKeys(ctx, s, ring); err != nil {
		return err
	}
	return openSecrets(ctx, s, ring, masterKeySetting)
}

// openSecrets returns an error that names the first app with a secret that the
// ring does not open.
func openSecrets(ctx context.Context, s store, ring *seal.Ring, masterKey string) error {
	apps, err := s.Apps(ctx)
	if err != nil {
		return err
	}
	for _, a := range apps {
		_, err := ring.Open(a.SealedSecret, session.AppSecretAAD(a.ID))
		if err == nil && len(a.SealedWebhookSecret) > 0 {
			_, err = ring.Open(a.SealedWebhookSecret, binding.WebhookSecretAAD(a.ID))
		}
		if err != nil {
			return fmt.Errorf("%s: a secret of app %s was sealed with another master key: %w", masterKey, a.ID, err)
		}
	}
	return nil
}
