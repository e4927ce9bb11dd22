package main

import (
	"context"
	"fmt"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/shard"
)

type migrateCmd struct {
	Restored bool `help:"End all sessions and keys. For a database that was restored from a backup, or that failed over to a standby which was behind."`
	sealedCommand
}

// Help is shown below the usage line of yufu migrate --help.
func (migrateCmd) Help() string {
	return `The master key is needed because a new database gets a key, sealed with it, that decides in which shard a user's rows are.

A database that was restored, or failed over to a standby that was behind, has lost the latest revocations. Back ends remember them and refuse new tokens. A replica that kept running restores the revocations. If no replica kept running, run yufu migrate --restored, which ends all sessions and keys. Users log in again, which a mini-program does without asking them, and back ends fetch the new keys. Until then yufu serve is not ready. It detects most restores, but not all, so run this command after each restore. You can repeat it, and run it while yufu serve is running.`
}

// Run migrates the database. Several processes may run it at once; one does the work.
func (c *migrateCmd) Run(ctx context.Context, std streams) error {
	db, sealer, err := c.parse(std)
	if err != nil {
		return wrongUsage(err)
	}
	if c.Restored {
		if err := checkSQLiteFile(db, false); err != nil {
			return err
		}
	}
	s, err := openStore(ctx, db, sealer)
	if err != nil {
		return err
	}
	defer s.Close()
	// Another replica may have made the tables, with another master key.
	if _, err := shard.Open(ctx, s, sealer); err != nil {
		return wrongMasterKey(err, setting.MasterKeyName)
	}
	if _, err = fmt.Fprintln(std.out, "The schema is up to date."); err != nil || !c.Restored {
		return err
	}
	now, err := databaseNow(ctx, s)
	if err != nil {
		return err
	}
	n, err := s.EndEverything(ctx, auth.AuditEvent{At: now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, now)
	if err != nil {
		return err
	}
	if n == 0 {
		return setting.Errorf(db.Setting, "names a database without apps, so there were no sessions to end; check that it is the one that you restored")
	}
	_, err = fmt.Fprintf(std.out, "All sessions and keys have ended (apps: %d). Users log in again, which a mini-program does without asking them. yufu serve makes new keys: start it, or leave it running.\n", n)
	return err
}
