package main

import (
	"context"
	"os"
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
			_, err = openFacts(ctx, p.store, ring, masterKeySetting)
		}
		if err != nil {
			p.log.Error("master key file reread, old keys kept", "cause", err)
			continue
		}
		p.sealer.Replace(ring)
		p.log.Info("master key file reread, keys replaced")
	}
}
