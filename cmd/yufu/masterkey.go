package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/masterkey"
)

type masterKeyCmd struct {
	Status masterKeyStatusCmd `cmd:"" help:"Show how many values each line of the master-key file seals."`
	Rewrap masterKeyRewrapCmd `cmd:"" help:"Seal all values again with the first line of the master-key file."`
}

// Help is shown below the usage line of yufu master-key --help.
func (masterKeyCmd) Help() string {
	return `The database holds secrets that are sealed with the first line of the master-key file. Any line opens them. After the first line has changed, rewrap seals all secrets again. Then the old line can be removed.

These commands work directly on the database, also while the service runs. Before rewrap, every running replica must seal with the new first line: change its file, and restart it or send it SIGHUP.`
}

type masterKeyStatusCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
	sealedCommand
}

// Run counts the sealed values. It fails if no line opens a value.
func (c *masterKeyStatusCmd) Run(ctx context.Context, std streams) error {
	s, ring, err := c.openWithRing(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	counts, err := masterkey.Inspect(ctx, s, ring)
	if err != nil {
		return err
	}
	return printCounts(std, c.JSON, counts, counts)
}

type masterKeyRewrapCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
	reasonFlag
	sealedCommand
}

// Run seals all values again. It may be interrupted and repeated.
func (c *masterKeyRewrapCmd) Run(ctx context.Context, std streams) error {
	s, ring, err := c.openWithRing(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	// A replica that lacks the key could not open what this command seals.
	if err := replicas.CheckMasterKey(ctx, s, ring.Fingerprints()[0]); err != nil {
		return err
	}
	event, err := cliEvent(ctx, s, auth.AuditMasterRewrapped, "", c.Reason)
	if err != nil {
		return err
	}
	done, err := masterkey.Rewrap(ctx, s, ring, event)
	if done.Late > 0 {
		noteTo(std)(fmt.Sprintf("%d rows were sealed with an old line during the run: a replica still has the old first line; change its file, restart it, and run this again before you remove the old line", done.Late))
	}
	if err != nil {
		return fmt.Errorf("stopped after %d rows, run it again to continue: %w", done.Rows, err)
	}
	noteTo(std)(fmt.Sprintf("%d rows were sealed again", done.Rows))
	return printCounts(std, c.JSON, done, done.Counts)
}

// printCounts prints the counts, or the result as JSON. It returns an error if there are values
// that no line opens.
func printCounts(std streams, asJSON bool, result any, counts []masterkey.Count) (err error) {
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LINE\tFINGERPRINT\tVALUES\tWHAT")
	for _, n := range counts {
		line := fmt.Sprint(n.Line)
		if n.Line == 0 {
			line, n.What = "none", fmt.Sprintf("%s, the first in the row %q", n.What, n.Row)
			err = errors.New("no line of the master-key file opens some values: yufu master-key status lists them; add the line that sealed them, or set them again")
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", line, n.Fingerprint, n.Values, n.What)
	}
	if asJSON {
		return errors.Join(printJSON(std, result), err)
	}
	return errors.Join(w.Flush(), err)
}
