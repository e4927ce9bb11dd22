package main

import (
	"context"
	"log/slog"
	"os"
)

// reread reads the file of a setting again. If the new value is wrong, the old one stays.
type reread struct {
	setting string
	read    func(ctx context.Context) error
}

// rereadOnSignal reads the files again at each signal (SIGHUP), and calls done. Other settings
// need a restart.
func rereadOnSignal(ctx context.Context, log *slog.Logger, files []reread, done func(), signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		if len(files) == 0 {
			log.Info("SIGHUP received, no file to reread")
		}
		for _, r := range files {
			if err := r.read(ctx); err != nil {
				log.Error("file reread failed, old value kept", "setting", r.setting, "cause", err)
				continue
			}
			log.Info("file reread", "setting", r.setting)
		}
		done()
	}
}
