package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

type serviceKeyCmd struct {
	Create serviceKeyCreateCmd `cmd:"" help:"Make a key for a back end or an admin, and print it."`
	List   serviceKeyListCmd   `cmd:"" help:"List the keys, without their secrets."`
	Pin    serviceKeyPinCmd    `cmd:"" help:"Pin a key to the one app whose tokens its back end accepts."`
	Revoke serviceKeyRevokeCmd `cmd:"" help:"Revoke a key for good."`
}

// Help is shown below the usage line of yufu service-key --help.
func (serviceKeyCmd) Help() string {
	return "These commands work directly on the database. A running service sees a change within a second."
}

type serviceKeyCreateCmd struct {
	Name    string         `required:"" placeholder:"NAME" help:"Name of the back end or the person that uses the key."`
	Scope   []string       `required:"" placeholder:"SCOPE" help:"Permissions, separated by commas."`
	App     []string       `placeholder:"APPID" help:"App to which the key is restricted. Repeat it for several. Without this flag, the key works for all apps."`
	Expires *time.Duration `placeholder:"DURATION" help:"Lifetime of the key, for example 720h. Without this flag, the key does not expire."`
	reasonFlag
	databaseCommand
}

// Help is shown below the usage line of yufu service-key create --help.
func (serviceKeyCreateCmd) Help() string {
	var b strings.Builder
	b.WriteString("The scopes:\n\n")
	for _, row := range servicekey.Table() {
		fmt.Fprintf(&b, "  %-8s %s\n", row.Scope, row.Allows)
	}
	return b.String()
}

// checkArgs implements [argsChecker].
func (c *serviceKeyCreateCmd) checkArgs() error {
	_, err := servicekey.NewDraft(c.Name, c.Scope, c.App)
	return errors.Join(descriptionOf(err), c.reasonFlag.checkArgs())
}

// Run makes the key. It prints only the key on standard output, for scripts.
func (c *serviceKeyCreateCmd) Run(ctx context.Context, std streams) error {
	draft, err := servicekey.NewDraft(c.Name, c.Scope, c.App)
	if err != nil {
		return wrongUsage(descriptionOf(err))
	}
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	event, err := cliEvent(ctx, s, "", "", c.Reason)
	if err != nil {
		return err
	}
	if c.Expires != nil {
		if draft, err = draft.ExpireIn(*c.Expires, event.At); err != nil {
			return wrongUsage(fmt.Errorf("--expires is wrong: %w", descriptionOf(err)))
		}
	}
	k, p, err := servicekey.Create(ctx, s, s, draft, event)
	if err != nil {
		return descriptionOf(err)
	}
	fmt.Fprintf(std.err, "Made the service key %s (%s). It is shown only this once:\n", k.ID, servicekey.ScopeText(k.Scopes))
	fmt.Fprintln(std.out, p.Key().Reveal())
	return nil
}

type serviceKeyListCmd struct {
	databaseCommand
}

// Run lists the keys.
func (c *serviceKeyListCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	keys, err := s.ServiceKeys(ctx)
	if err != nil {
		return err
	}
	now, err := databaseNow(ctx, s)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tSTATUS\tSCOPE\tAPPS\tPINNED TO\tCREATOR\tCREATED\tEXPIRES\tLAST USED")
	for i := range keys {
		k := &keys[i]
		status := "good"
		switch {
		case !k.RevokedAt.IsZero():
			status = "revoked"
		case k.Expired(now):
			status = "expired"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, status, servicekey.ScopeText(k.Scopes),
			cmp.Or(strings.Join(k.Apps, " "), "all"), cmp.Or(k.Pinned(), "-"),
			strings.TrimPrefix(k.Creator, auth.ActorServiceKey("")), formatTime(k.CreatedAt), formatTimeOr(k.ExpiresAt, "never"), formatTimeOr(k.LastUsedAt, "never"))
	}
	return w.Flush()
}

type serviceKeyPinCmd struct {
	ID   string `arg:"" name:"id" help:"Id of the key: the middle of yfk_ID_SECRET."`
	App  string `required:"" xor:"pin" placeholder:"APPID" help:"App to pin the key to."`
	None bool   `required:"" xor:"pin" help:"Remove the pin. Back ends that name neither an audience nor apps then refuse every token."`
	reasonFlag
	databaseCommand
}

// Help is shown below the usage line of yufu service-key pin --help.
func (serviceKeyPinCmd) Help() string {
	return "A back end that names neither an audience nor apps accepts tokens of the app that its key is pinned to. " +
		"A key is pinned automatically when it follows revocations for the first time, if only one app is enabled. " +
		"Running back ends learn of a change within 31 seconds."
}

// Run pins the key. It may be repeated.
func (c *serviceKeyPinCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	event, err := cliEvent(ctx, s, "", "", c.Reason)
	if err != nil {
		return err
	}
	k, err := servicekey.Pin(ctx, s, s, c.ID, c.App, event)
	switch {
	case errors.Is(err, auth.NotFound):
		return errNoServiceKey
	case err != nil:
		return descriptionOf(err)
	}
	if app := k.Pinned(); c.App == "" && app != "" {
		fmt.Fprintf(std.out, "%s is restricted to %s and stays pinned to it.\n", k.ID, app)
	} else {
		fmt.Fprintf(std.out, "Pinned %s to %s.\n", k.ID, cmp.Or(app, "no app"))
	}
	return nil
}

var errNoServiceKey = errors.New("no service key has this id; to list the keys: yufu service-key list")

type serviceKeyRevokeCmd struct {
	ID          string `arg:"" name:"id" help:"Id of the key: the middle of yfk_ID_SECRET."`
	Descendants bool   `help:"Revoke also the keys that it made, the keys that these made, and so on."`
	reasonFlag
	databaseCommand
}

// checkArgs implements [argsChecker].
func (c *serviceKeyRevokeCmd) checkArgs() error {
	var idErr error
	if _, err := servicekey.Parse(auth.Secret(c.ID)); err == nil {
		// The key has leaked into the history of the shell and the list of processes.
		idErr = errors.New("ID must be the middle of yfk_ID_SECRET, got a whole key; revoke the key by its id, because it is in the history of your shell now")
	}
	return errors.Join(idErr, c.reasonFlag.checkArgs())
}

// Run revokes the key. It may be repeated.
func (c *serviceKeyRevokeCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	event, err := cliEvent(ctx, s, "", "", c.Reason)
	if err != nil {
		return err
	}
	done, err := servicekey.Revoke(ctx, s, c.ID, c.Descendants, event)
	switch {
	case errors.Is(err, auth.NotFound):
		return errNoServiceKey
	case err != nil:
		return err
	}
	fmt.Fprintf(std.out, "Revoked %s.\n", c.ID)
	for i := range done.Revoked {
		if k := &done.Revoked[i]; k.ID != c.ID {
			fmt.Fprintf(std.out, "Revoked %s (%s).\n", k.ID, k.Name)
		}
	}
	if len(done.Living) > 0 {
		fmt.Fprintln(std.out, "These keys were made by it or by its descendants and still work; to revoke them too, add --descendants:")
		for i := range done.Living {
			fmt.Fprintf(std.out, "%s (%s)\n", done.Living[i].ID, done.Living[i].Name)
		}
	}
	return nil
}
