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
	List   keysListCmd   `cmd:"" help:"List the keys that sign tokens, and how they stand."`
	Rotate keysRotateCmd `cmd:"" help:"Have the next keys take over."`
	Retire keysRetireCmd `cmd:"" help:"End a key, at once if it has leaked."`
	Export keysExportCmd `cmd:"" help:"Print the public keys."`
}

// Help is shown below the usage line of yufu keys --help.
func (keysCmd) Help() string {
	return `These commands work straight on the database; a running service sees the change within a second. The service rotates the keys by itself (YUFU_KEY_ROTATION).

Access tokens are signed by keys of the use access, whose public halves are published in the JWK set; refresh tokens by keys of the use refresh, which are secret.`
}

// keyTimes are the settings of the service that say how long keys are needed.
type keyTimes struct {
	setting.JWKS
	setting.SessionMax
}

// policy returns a policy that is safe for the running service.
func (f keyTimes) policy(ctx context.Context, s store, std streams) (p keyring.Policy, err error) {
	p = setting.Rotation{JWKS: f.JWKS}.Keys(f.SessionMaxTTL)
	p.JWKSMaxAge, p.SessionMaxTTL, err = replicas.Safest(ctx, s, p.JWKSMaxAge, p.SessionMaxTTL, noteTo(std))
	return p, err
}

// keyFlags are what the commands need that change keys.
type keyFlags struct {
	keyTimes
	masterKeyFlag
	appFlags
}

// keeper opens the database and the keys in it.
func (f keyFlags) keeper(ctx context.Context, std streams) (store, *keyring.Keeper, error) {
	s, keys, err := f.keys(ctx, std)
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

func (f keyFlags) keys(ctx context.Context, std streams) (store, *keyring.Ring, error) {
	s, log, err := f.open(ctx, std)
	if err != nil {
		return nil, nil, err
	}
	sealer, err := f.ring(std, log)
	if err != nil {
		s.Close()
		return nil, nil, wrongUsage(err)
	}
	keys, err := openKeys(ctx, s, sealer)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, keys, nil
}

type keysListCmd struct {
	keyTimes
	appFlags
}

// Run lists the keys. It shows no secret, and needs none.
func (c *keysListCmd) Run(ctx context.Context, std streams) error {
	s, _, err := c.open(ctx, std)
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
		fmt.Fprintln(std.err, "There are no keys yet; the service makes them when it starts for the first time.")
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KID\tUSE\tALG\tSTATE\tCREATED\tSIGNS FROM\tRETIRED")
	for _, k := range keyring.Describe(stored, p, now) {
		from := moment(k.ActiveAt)
		if k.ActiveAt.IsZero() && k.RetiredAt.IsZero() {
			from = moment(k.KnownAt) + " or later"
		}
		end := moment(k.RetiredAt)
		if !k.RetiresAt.IsZero() {
			end = "will be " + moment(k.RetiresAt)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.KID, k.Use, k.Alg, k.State, moment(k.CreatedAt), from, end)
	}
	return w.Flush()
}

type keysRotateCmd struct {
	Use    string `placeholder:"USE" help:"Only the keys of this use: access or refresh."`
	Alg    string `placeholder:"ALG" help:"Only the keys of this algorithm: ES256, EdDSA, RS256 or HS256."`
	Now    bool   `help:"Have a signing key sign at once. A back end that keeps a copy of the JWK set from before the key was published refuses its tokens until it fetches the set again; without --now the key waits until there is no such copy."`
	Reason string `help:"Why, for the audit trail."`
	keyFlags
}

// Run rotates. Asking again while a key is on its way changes nothing.
func (c *keysRotateCmd) Run(ctx context.Context, std streams) error {
	if c.Use != "" && c.Use != string(keyring.UseAccess) && c.Use != string(keyring.UseRefresh) {
		return wrongUsage(errors.New("--use is access or refresh"))
	}
	if err := checkReason(c.Reason); err != nil {
		return wrongUsage(err)
	}
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
		return wrongUsage(errors.New("there are no keys of this use and algorithm; yufu keys list shows those there are"))
	case err != nil:
		return descriptionOf(err)
	}
	for _, k := range promoted {
		switch {
		case k.State == keyring.Next && k.Use == keyring.UseRefresh:
			fmt.Fprintf(std.out, "%s (%s) signs refresh tokens from %s on, when every replica knows it.\n", k.KID, k.Alg, moment(k.ActiveAt))
		case k.State == keyring.Next:
			fmt.Fprintf(std.out, "%s (%s) signs access tokens from %s on, when no back end has a JWK set without it. It is too young to sign unnoticed before; yufu keys rotate --now does not wait.\n", k.KID, k.Alg, moment(k.ActiveAt))
		default:
			fmt.Fprintf(std.out, "%s (%s) signs %s tokens now.\n", k.KID, k.Alg, k.Use)
		}
		if k.Use == keyring.UseAccess && k.ActiveAt.Before(k.KnownAt) {
			fmt.Fprintf(std.err, "Until %s back ends that keep a copy of the JWK set may refuse the tokens of %s.\n", moment(k.KnownAt), k.KID)
		}
	}
	return nil
}

type keysRetireCmd struct {
	KID    string `arg:"" name:"kid" help:"The key's id, as yufu keys list shows it."`
	Now    bool   `help:"The key has leaked: end it now, and what it signed with it. Of a signing key the access tokens die; sessions go on, and clients refresh. Of a MAC key every session of every app ends, because whoever has it can make refresh tokens for all of them; users log in again."`
	Reason string `help:"Why, for the audit trail."`
	keyFlags
}

// Run retires the key. It is harmless to repeat.
func (c *keysRetireCmd) Run(ctx context.Context, std streams) error {
	if err := checkReason(c.Reason); err != nil {
		return wrongUsage(err)
	}
	s, keeper, err := c.keeper(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	out, err := keeper.Retire(ctx, keyring.RetireRequest{KID: c.KID, Compromised: c.Now, By: auth.AuditEvent{Actor: auth.ActorCLI, Reason: c.Reason}})
	switch {
	case errors.Is(err, auth.NotFound):
		return errors.New("there is no key with this id; yufu keys list shows those there are")
	case errors.Is(err, auth.KeyInUse):
		return fmt.Errorf("%s is needed. %w\nTo rotate: yufu keys rotate. If it has leaked: yufu keys retire %s --now", c.KID, descriptionOf(err), c.KID)
	case err != nil:
		return err
	}
	fmt.Fprintf(std.out, "Retired %s.\n", c.KID)
	switch {
	case out.SessionsEnded:
		fmt.Fprintln(std.out, "Every session of every app has ended; users log in again.")
	case c.Now && out.Key.Use == keyring.UseAccess:
		fmt.Fprintln(std.out, "Back ends that follow revocations refuse what it signed, within YUFU_MAX_STALENESS at the latest; one that only has the JWK set does when it fetches that again. Sessions go on.")
	}
	if out.Signs != nil {
		fmt.Fprintf(std.out, "%s (%s) signs.\n", out.Signs.KID, out.Signs.Alg)
		if k := out.Signs; k.Use == keyring.UseAccess && k.ActiveAt.Before(k.KnownAt) {
			fmt.Fprintf(std.err, "Until %s back ends that keep a copy of the JWK set may refuse the tokens of %s: it signs before all of them know it.\n", moment(k.KnownAt), k.KID)
		}
	}
	if out.Coming != nil {
		fmt.Fprintf(std.out, "%s (%s) signs from %s on.\n", out.Coming.KID, out.Coming.Alg, moment(out.Coming.ActiveAt))
	}
	return nil
}

type keysExportCmd struct {
	PEM bool `name:"pem" help:"In PEM, one after another, each below a line with its kid and alg: for software that cannot read a JWK set, HAProxy for example."`
	masterKeyFlag
	appFlags
}

// Run prints the published keys as a JWK set, or in PEM. It needs the master key
// because it trusts no public half that the private one does not prove.
func (c *keysExportCmd) Run(ctx context.Context, std streams) error {
	s, keys, err := keyFlags{masterKeyFlag: c.masterKeyFlag, appFlags: c.appFlags}.keys(ctx, std)
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
