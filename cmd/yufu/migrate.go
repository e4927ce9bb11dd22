package main

import (
	"context"
	"fmt"
)

type migrateCmd struct {
	databaseFlags
	logFlags
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
	_, err = fmt.Fprintln(std.out, "The schema is up to date.")
	return err
}
