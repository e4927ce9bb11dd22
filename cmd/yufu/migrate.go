package main

import (
	"context"
	"fmt"

	"github.com/yufu-auth/yufu/pkg/auth"
)

type migrateCmd struct {
	Restored bool `help:"End all sessions and keys, because the database was restored from a backup, or a standby that was behind took over, while no replica was running."`
	databaseFlags
	logFlags
}

// Help is shown below the usage line of yufu migrate --help.
func (migrateCmd) Help() string {
	return `A database that was restored, or failed over to a standby that was behind, has forgotten the revocations that came last, and validators remember them. A replica that was running meanwhile makes this good by itself. When none was running, yufu serve finds another database than the one it left and is not ready until you run yufu migrate --restored: this ends all sessions and all keys; users log in again, which a mini-program does without asking them, and back ends fetch the new keys. Run it after every such restore, also if yufu serve did not notice it. It may be repeated.`
}

// Run migrates the database. Several may run at once; one does the work.
func (c *migrateCmd) Run(ctx context.Context, std streams) error {
	log, err := c.logger(std, "text")
	if err != nil {
		return wrongUsage(err)
	}
	db, err := c.database(std, log)
	if err != nil {
		return wrongUsage(err)
	}
	s, err := openStore(ctx, db, true)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err = fmt.Fprintln(std.out, "The schema is up to date."); err != nil || !c.Restored {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	n, err := s.EndEverything(ctx, auth.AuditEvent{At: now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, now)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "All sessions and keys have ended (apps: %d). Users log in again, which a mini-program does without asking them. A replica makes new keys.\n", n)
	return err
}
