package main

import (
	"context"
	"fmt"

	"github.com/yufu-auth/yufu/pkg/auth"
)

type migrateCmd struct {
	Restored bool `help:"End all sessions and keys. For a database that was restored from a backup, or whose standby took over although it was behind."`
	databaseFlags
	logFlags
}

// Help is shown below the usage line of yufu migrate --help.
func (migrateCmd) Help() string {
	return `A database that was restored, or failed over to a standby that was behind, has forgotten the latest revocations. Back ends remember them and refuse new tokens. A replica that was running meanwhile restores the revocations by itself. If none was running, run yufu migrate --restored: it ends all sessions and keys. Users log in again, which a mini-program does without asking them, and back ends fetch the new keys. Until then yufu serve is not ready. It notices most restores, but not all, so run this command after every one. You can repeat it, and run it while yufu serve is running.`
}

// Run migrates the database. Several may run at once; one does the work.
func (c *migrateCmd) Run(ctx context.Context, std streams) error {
	log, err := c.logger(std)
	if err != nil {
		return wrongUsage(err)
	}
	db, err := c.database(std, log)
	if err != nil {
		return wrongUsage(err)
	}
	if c.Restored {
		if err := checkFile(db, false); err != nil {
			return err
		}
	}
	s, err := openStore(ctx, db, true)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err = fmt.Fprintln(std.out, "The schema is up to date."); err != nil || !c.Restored {
		return err
	}
	now, err := storedNow(ctx, s)
	if err != nil {
		return err
	}
	n, err := s.EndEverything(ctx, auth.AuditEvent{At: now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, now)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%s: the database has no apps, so there were no sessions to end; is it the one that you restored?", db.Setting)
	}
	_, err = fmt.Fprintf(std.out, "All sessions and keys have ended (apps: %d). Users log in again, which a mini-program does without asking them. yufu serve makes new keys: start it, or leave it running.\n", n)
	return err
}
