package main

import (
	"context"
	"fmt"
	"os"

	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
)

// rereadOn reads the master-key file again at each signal (SIGHUP). What the new
// file holds counts when it opens all that is in use; else the old keys stay.
// Settings and the database's URL need a restart.
func (p parts) rereadOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		if p.reread == nil {
			p.log.Info("SIGHUP received, no file to reread")
			continue
		}
		ring, err := p.reread()
		if err == nil {
			_, err = openKeys(ctx, p.store, ring, masterKeySetting)
		}
		if err == nil {
			err = openSecrets(ctx, p.store, ring, masterKeySetting)
		}
		if err != nil {
			p.log.Error("master key file reread, old keys kept", "cause", err)
			continue
		}
		p.sealer.Replace(ring)
		p.log.Info("master key file reread, keys replaced")
	}
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
