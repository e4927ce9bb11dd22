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
	Revoke serviceKeyRevokeCmd `cmd:"" help:"Make a key void, for good."`
}

// Help is shown below the usage line of yufu service-key --help.
func (serviceKeyCmd) Help() string {
	return "These commands work straight on the database; a running service sees the change within a second."
}

type serviceKeyCreateCmd struct {
	Name    string        `required:"" placeholder:"NAME" help:"For people: who uses it."`
	Scope   []string      `required:"" placeholder:"SCOPE" help:"What it is for, separated by commas: service (ask about tokens, follow revocations), openid (see openids), decrypt (nothing yet), read (read through the admin API), admin (all of the admin API)."`
	App     []string      `placeholder:"APPID" help:"Restrict the key to this app; may be repeated. Without it the key is good for all apps."`
	Expires time.Duration `placeholder:"DURATION" help:"For how long the key works, for example 720h. Without it the key does not expire."`
	Reason  string        `help:"Why, for the audit trail."`
	appFlags
}

// Run makes the key. On standard output it prints the key alone, so that a
// script can keep it.
func (c *serviceKeyCreateCmd) Run(ctx context.Context, std streams) error {
	draft, err := servicekey.NewDraft(c.Name, c.Scope, c.App)
	if err != nil {
		return wrongUsage(descriptionOf(err))
	}
	if err := checkReason(c.Reason); err != nil {
		return wrongUsage(err)
	}
	s, _, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	event, err := cliEvent(ctx, s, "", "", c.Reason)
	if err != nil {
		return err
	}
	if c.Expires != 0 {
		if draft, err = draft.ExpireIn(c.Expires, event.At); err != nil {
			return wrongUsage(fmt.Errorf("--expires: %w", descriptionOf(err)))
		}
	}
	k, p, err := servicekey.Create(ctx, s, s, draft, event)
	if err != nil {
		return descriptionOf(err)
	}
	fmt.Fprintf(std.err, "Made the service key %s (%s). It is shown this once:\n", k.ID, servicekey.ScopeText(k.Scopes))
	fmt.Fprintln(std.out, p.Key().Reveal())
	return nil
}

type serviceKeyListCmd struct {
	appFlags
}

// Run lists the keys.
func (c *serviceKeyListCmd) Run(ctx context.Context, std streams) error {
	s, _, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	keys, err := s.ServiceKeys(ctx)
	if err != nil {
		return err
	}
	now, err := storedNow(ctx, s)
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
			strings.TrimPrefix(k.Creator, auth.ActorServiceKey("")), moment(k.CreatedAt), momentOr(k.ExpiresAt, "never"), momentOr(k.LastUsedAt, "never"))
	}
	return w.Flush()
}

type serviceKeyPinCmd struct {
	ID     string `arg:"" name:"id" help:"The key's id: the middle of yfk_ID_SECRET."`
	App    string `required:"" xor:"pin" placeholder:"APPID" help:"The app to pin the key to."`
	None   bool   `required:"" xor:"pin" help:"Take the pin away. Back ends that name neither an audience nor apps then refuse every token."`
	Reason string `help:"Why, for the audit trail."`
	appFlags
}

// Help is shown below the usage line of yufu service-key pin --help.
func (serviceKeyPinCmd) Help() string {
	return "A back end that names neither an audience nor apps accepts tokens of the app that its key is pinned to. " +
		"A key is pinned by itself when it follows revocations for the first time, if one app is enabled by then. " +
		"Running back ends learn of a change within 31 seconds."
}

// Run pins the key. It is harmless to repeat.
func (c *serviceKeyPinCmd) Run(ctx context.Context, std streams) error {
	if err := checkReason(c.Reason); err != nil {
		return wrongUsage(err)
	}
	s, _, err := c.open(ctx, std)
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

var errNoServiceKey = errors.New("there is no service key with this id; yufu service-key list shows those there are")

type serviceKeyRevokeCmd struct {
	ID          string `arg:"" name:"id" help:"The key's id: the middle of yfk_ID_SECRET."`
	Descendants bool   `help:"Revoke the keys that it made, too, those that they made, and so on."`
	Reason      string `help:"Why, for the audit trail."`
	appFlags
}

// Run revokes the key. It is harmless to repeat.
func (c *serviceKeyRevokeCmd) Run(ctx context.Context, std streams) error {
	if _, err := servicekey.Parse(auth.Secret(c.ID)); err == nil {
		// It has leaked already: into the history of a shell, the list of
		// processes. Yet it must be revoked.
		return wrongUsage(errors.New("that is a whole key; name its id alone, the middle of yfk_ID_SECRET, and revoke it: the key stands in the history of your shell now"))
	}
	if err := checkReason(c.Reason); err != nil {
		return wrongUsage(err)
	}
	s, _, err := c.open(ctx, std)
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
		fmt.Fprintln(std.out, "These keys were made by it or by its descendants and work still; --descendants revokes them too:")
		for i := range done.Living {
			fmt.Fprintf(std.out, "%s (%s)\n", done.Living[i].ID, done.Living[i].Name)
		}
	}
	return nil
}
