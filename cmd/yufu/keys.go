package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

type keysCmd struct {
	List   keysListCmd   `cmd:"" help:"List the keys that sign tokens, with their states."`
	Rotate keysRotateCmd `cmd:"" help:"Promote the next keys."`
	Retire keysRetireCmd `cmd:"" help:"End a key, at once if it has leaked."`
	Export keysExportCmd `cmd:"" help:"Print the public keys."`
}

// Help is shown below the usage line of yufu keys --help.
func (keysCmd) Help() string {
	return `These commands work directly on the database. A running service sees a change within a second. It also rotates the keys by itself (YUFU_KEY_ROTATION).

Keys of the use access sign access tokens; their public keys are published in the JWK set. Keys of the use refresh sign refresh tokens; they are secret.`
}

// keyTimes are the settings on which the lifetime of a key depends.
type keyTimes struct {
	setting.JWKS
	setting.SessionMax
}

// policy returns a policy that is safe for the running service.
func (f keyTimes) policy(ctx context.Context, s store, std streams) (p keyring.Policy, err error) {
	p = setting.Rotation{JWKS: f.JWKS}.Keys(f.SessionMaxTTL)
	p.JWKSMaxAge, p.SessionMaxTTL, err = replicas.SafestDurations(ctx, s, p.JWKSMaxAge, p.SessionMaxTTL, noteTo(std))
	return p, err
}

// keyFlags are embedded by the commands that change keys.
type keyFlags struct {
	keyTimes
	sealedCommand
}

// keeper opens the database and the keys in it. The caller closes the store.
func (f keyFlags) keeper(ctx context.Context, std streams) (store, *keyring.Keeper, error) {
	s, keys, err := f.openSealed(ctx, std)
	if err != nil {
		return nil, nil, err
	}
	p, err := f.policy(ctx, s, std)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	k, err := keyring.NewKeeper(keyring.KeeperConfig{Ring: keys, Policy: p, Clock: time.Now, DatabaseClock: s.Now})
	return s, k, err
}

type keysListCmd struct {
	keyTimes
	databaseCommand
}

// Run lists the keys. It needs no secret and shows no secret.
func (c *keysListCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := c.policy(ctx, s, std)
	if err != nil {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	stored, err := s.Keys(ctx)
	if err != nil {
		return err
	}
	if len(stored) == 0 {
		fmt.Fprintln(std.err, "There are no keys yet. The service makes them at its first start.")
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KID\tUSE\tALG\tSTATE\tCREATED\tSIGNS FROM\tRETIRED")
	for _, k := range keyring.Describe(stored, p, now) {
		from := formatTime(k.ActiveAt)
		if k.ActiveAt.IsZero() && k.RetiredAt.IsZero() {
			from = formatTime(k.KnownAt) + " or later"
		}
		end := formatTime(k.RetiredAt)
		if !k.RetiresAt.IsZero() {
			end = "will be " + formatTime(k.RetiresAt)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.KID, k.Use, k.Alg, k.State, formatTime(k.CreatedAt), from, end)
	}
	return w.Flush()
}

type keysRotateCmd struct {
	Use string `placeholder:"USE" help:"Use of the keys to rotate: access or refresh. Without this flag, both."`
	Alg string `placeholder:"ALG" help:"Algorithm of the keys to rotate: ES256, EdDSA, RS256 or HS256. Without this flag, all."`
	Now bool   `help:"Let the next signing key sign at once. A back end with a JWK set from before the key was published refuses its tokens until it fetches the set again. Without --now, the key waits until no back end has such a set."`
	reasonFlag
	keyFlags
}

// checkArgs implements [argsChecker].
func (c *keysRotateCmd) checkArgs() error {
	var useErr error
	if c.Use != "" && c.Use != string(keyring.UseAccess) && c.Use != string(keyring.UseRefresh) {
		useErr = fmt.Errorf("--use must be access or refresh, got %q", c.Use)
	}
	return errors.Join(useErr, c.reasonFlag.checkArgs())
}

// Run rotates the keys. It changes nothing while an earlier rotation is under way.
func (c *keysRotateCmd) Run(ctx context.Context, std streams) error {
	s, keeper, err := c.keeper(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	promoted, err := keeper.Rotate(ctx, keyring.RotateRequest{
		Use: keyring.Use(c.Use), Alg: c.Alg, Now: c.Now, By: auth.AuditEvent{Actor: auth.ActorCLI, Reason: c.Reason},
	})
	switch {
	case errors.Is(err, auth.InvalidRequest):
		return wrongUsage(errors.New("no keys have this use and algorithm; to list the keys: yufu keys list"))
	case err != nil:
		return descriptionOf(err)
	}
	for _, k := range promoted {
		switch {
		case k.State == keyring.Next && k.Use == keyring.UseRefresh:
			fmt.Fprintf(std.out, "%s (%s) signs refresh tokens from %s on, when every replica knows it.\n", k.KID, k.Alg, formatTime(k.ActiveAt))
		case k.State == keyring.Next:
			fmt.Fprintf(std.out, "%s (%s) signs access tokens from %s on. By then no back end has a JWK set without it. To rotate at once: yufu keys rotate --now.\n", k.KID, k.Alg, formatTime(k.ActiveAt))
		default:
			fmt.Fprintf(std.out, "%s (%s) signs %s tokens now.\n", k.KID, k.Alg, k.Use)
		}
		if k.Use == keyring.UseAccess && k.ActiveAt.Before(k.KnownAt) {
			fmt.Fprintf(std.err, "Until %s, back ends that keep a copy of the JWK set may refuse the tokens of %s.\n", formatTime(k.KnownAt), k.KID)
		}
	}
	return nil
}

type keysRetireCmd struct {
	KID string `arg:"" name:"kid" help:"Id of the key, as yufu keys list shows it."`
	Now bool   `help:"End the key now, with all that it signed, because it has leaked. If it is a signing key, its access tokens end; sessions go on, and clients refresh. If it is a MAC key, every session of every app ends, because a thief can make refresh tokens for all of them; users log in again."`
	reasonFlag
	keyFlags
}

// Run retires the key. It may be repeated.
func (c *keysRetireCmd) Run(ctx context.Context, std streams) error {
	s, keeper, err := c.keeper(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	out, err := keeper.Retire(ctx, keyring.RetireRequest{KID: c.KID, Compromised: c.Now, By: auth.AuditEvent{Actor: auth.ActorCLI, Reason: c.Reason}})
	switch {
	case errors.Is(err, auth.NotFound):
		return errors.New("no key has this id; to list the keys: yufu keys list")
	case errors.Is(err, auth.KeyInUse):
		return fmt.Errorf("%s is still needed. %w\nTo rotate: yufu keys rotate. If it has leaked: yufu keys retire %s --now", c.KID, descriptionOf(err), c.KID)
	case err != nil:
		return err
	}
	fmt.Fprintf(std.out, "Retired %s.\n", c.KID)
	switch {
	case out.SessionsEnded:
		fmt.Fprintln(std.out, "Every session of every app has ended. Users log in again.")
	case c.Now && out.Key.Use == keyring.UseAccess:
		fmt.Fprintln(std.out, "Back ends that follow revocations refuse what it signed within YUFU_MAX_STALENESS. A back end that only has the JWK set does so when it fetches the set again. Sessions go on.")
	}
	if out.Current != nil {
		fmt.Fprintf(std.out, "%s (%s) signs.\n", out.Current.KID, out.Current.Alg)
		if k := out.Current; k.Use == keyring.UseAccess && k.ActiveAt.Before(k.KnownAt) {
			fmt.Fprintf(std.err, "Until %s, back ends that keep a copy of the JWK set may refuse the tokens of %s: it signs before all of them know it.\n", formatTime(k.KnownAt), k.KID)
		}
	}
	if out.Pending != nil {
		fmt.Fprintf(std.out, "%s (%s) signs from %s on.\n", out.Pending.KID, out.Pending.Alg, formatTime(out.Pending.ActiveAt))
	}
	return nil
}

type keysExportCmd struct {
	PEM bool `name:"pem" help:"Print PEM, each key below a line with its kid and alg. For software that cannot read a JWK set, for example HAProxy."`
	sealedCommand
}

// Run prints the published keys as a JWK set or in PEM. It needs the master key: it derives
// each public key from the private one and does not trust the stored public key.
func (c *keysExportCmd) Run(ctx context.Context, std streams) error {
	s, keys, err := c.openSealed(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	if !c.PEM {
		fmt.Fprintf(std.out, "%s\n", keys.JWKS())
		return nil
	}
	pem, err := keys.PEM()
	if err != nil {
		return err
	}
	_, err = std.out.Write(pem)
	return err
}
