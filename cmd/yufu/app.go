package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

type appCmd struct {
	Add     appAddCmd     `cmd:"" help:"Register a mini-program."`
	List    appListCmd    `cmd:"" help:"List the registered mini-programs."`
	Show    appShowCmd    `cmd:"" help:"Show one mini-program with its policy."`
	Update  appUpdateCmd  `cmd:"" help:"Change the AppSecret, the audiences, the signing algorithm or the policy."`
	Disable appDisableCmd `cmd:"" help:"Refuse log-ins and refreshes, and end every session of the app."`
	Enable  appEnableCmd  `cmd:"" help:"Let users log in again. Sessions from before stay ended."`
}

// Help is shown below the usage line of yufu app --help.
func (appCmd) Help() string {
	return "These commands work straight on the database; a running service sees the change at once."
}

type appAddCmd struct {
	AppID      string   `arg:"" name:"appid" help:"The platform's appid, for example wx1234567890abcdef."`
	SecretFile string   `required:"" placeholder:"FILE" help:"File with the AppSecret, or - for standard input."`
	Platform   string   `default:"wechat" enum:"wechat" help:"The platform: wechat."`
	Audience   []string `placeholder:"AUD" help:"An audience to put into access tokens beside the issuer; may be repeated."`
	SigningAlg string   `default:"ES256" enum:"ES256,EdDSA,RS256" placeholder:"ALG" help:"The algorithm that access tokens are signed with: ES256, EdDSA or RS256."`
	jwksFlag
	masterKeyFlag
	appFlags
}

// Run registers the app.
func (c *appAddCmd) Run(ctx context.Context, std streams) error {
	if err := cmp.Or(checkAppID(c.AppID), checkAudiences(c.Audience)); err != nil {
		return wrongUsage(err)
	}
	s, log, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	sealed, err := c.sealSecret(ctx, s, c.AppID, c.SecretFile, std, log)
	if err != nil {
		return err
	}
	from, err := c.provide(ctx, s, c.SigningAlg, c.jwksFlag, std, log)
	if err != nil {
		return err
	}
	event, err := cliEvent(ctx, s, auth.AuditAppAdded, c.AppID, "")
	if err != nil {
		return err
	}
	err = s.AddApp(ctx, auth.App{
		ID: c.AppID, Platform: c.Platform, SealedSecret: sealed, Audiences: c.Audience, SigningAlg: c.SigningAlg, CreatedAt: event.At, UpdatedAt: event.At,
	}, event)
	switch {
	case errors.Is(err, auth.InvalidRequest):
		return fmt.Errorf("%s is registered already; change it with: yufu app update %s --secret-file FILE", c.AppID, c.AppID)
	case err != nil:
		return err
	}
	fmt.Fprintf(std.out, "Registered %s.\n", c.AppID)
	sayFrom(std, c.SigningAlg, from)
	return nil
}

type appListCmd struct {
	appFlags
}

// Run lists the apps. It shows no secret.
func (c *appListCmd) Run(ctx context.Context, std streams) error {
	s, _, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	apps, err := s.Apps(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "APPID\tPLATFORM\tSTATUS\tEPOCH\tALG\tAUDIENCES\tCREATED")
	for i := range apps {
		a := &apps[i]
		status := "enabled"
		if a.Disabled {
			status = "disabled"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", a.ID, a.Platform, status, a.Epoch, a.SigningAlg, cmp.Or(strings.Join(a.Audiences, " "), "-"), a.CreatedAt.UTC().Format(time.RFC3339))
	}
	return w.Flush()
}

type appUpdateCmd struct {
	AppID       string   `arg:"" name:"appid" help:"A registered appid."`
	SecretFile  string   `placeholder:"FILE" help:"File with the new AppSecret, or - for standard input."`
	Audience    []string `placeholder:"AUD" help:"The audiences from now on; may be repeated. Replaces those there are."`
	NoAudiences bool     `help:"Have no audience but the issuer."`
	SigningAlg  string   `placeholder:"ALG" help:"The algorithm that access tokens are signed with from now on: ES256, EdDSA or RS256."`
	jwksFlag
	policyFlags
	masterKeyFlag
	appFlags
}

// Run changes the app. What is not named stays as it is.
func (c *appUpdateCmd) Run(ctx context.Context, std streams) error {
	switch {
	case len(c.Audience) > 0 && c.NoAudiences:
		return wrongUsage(errors.New("--audience and --no-audiences contradict each other"))
	case c.SecretFile == "" && len(c.Audience) == 0 && !c.NoAudiences && c.SigningAlg == "" && c.PolicyFile == "" && c.WebhookSecretFile == "":
		return wrongUsage(errors.New("there is nothing to change; name --secret-file, --audience, --no-audiences, --signing-alg, --policy-file or --webhook-secret-file"))
	}
	if c.SigningAlg != "" {
		if err := auth.CheckSigningAlg(c.SigningAlg); err != nil {
			return wrongUsage(fmt.Errorf("--signing-alg: %w", descriptionOf(err)))
		}
	}
	policy, err := c.policy(std)
	if err != nil {
		return wrongUsage(err)
	}
	if err := cmp.Or(checkAppID(c.AppID), checkAudiences(c.Audience)); err != nil {
		return wrongUsage(err)
	}
	s, log, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	change := auth.AppChange{Policy: policy}
	if change.SealedWebhookSecret, err = c.sealWebhookSecret(ctx, s, c.AppID, c.masterKeyFlag, std, log); err != nil {
		return err
	}
	if err := checkWebhookSecret(ctx, s, c.AppID, change); err != nil {
		return err
	}
	if c.SecretFile != "" {
		if change.SealedSecret, err = c.sealSecret(ctx, s, c.AppID, c.SecretFile, std, log); err != nil {
			return err
		}
	}
	if len(c.Audience) > 0 || c.NoAudiences {
		change.Audiences = &c.Audience
	}
	from, err := c.provide(ctx, s, c.SigningAlg, c.jwksFlag, std, log)
	if err != nil {
		return err
	}
	change.SigningAlg = c.SigningAlg
	event, err := cliEvent(ctx, s, auth.AuditAppUpdated, c.AppID, "")
	if err != nil {
		return err
	}
	if _, err := s.UpdateApp(ctx, c.AppID, change, event); err != nil {
		return appError(err, c.AppID)
	}
	fmt.Fprintf(std.out, "Updated %s.\n", c.AppID)
	sayFrom(std, c.SigningAlg, from)
	return nil
}

type appDisableCmd struct {
	AppID  string `arg:"" name:"appid" help:"A registered appid."`
	Reason string `help:"Why, for the audit trail."`
	appFlags
}

// Run disables the app.
func (c *appDisableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, c.AppID, c.Reason, auth.AuditAppDisabled, store.DisableApp, "Disabled %s; its sessions have ended.\n")
}

type appEnableCmd struct {
	AppID  string `arg:"" name:"appid" help:"A registered appid."`
	Reason string `help:"Why, for the audit trail."`
	appFlags
}

// Run enables the app.
func (c *appEnableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, c.AppID, c.Reason, auth.AuditAppEnabled, store.EnableApp, "Enabled %s; its users must log in again.\n")
}

// toggle is what disable and enable have in common.
func (f appFlags) toggle(ctx context.Context, std streams, appID, reason string, action auth.AuditAction,
	change func(store, context.Context, string, auth.AuditEvent) (auth.App, error), done string,
) error {
	if err := checkAppID(appID); err != nil {
		return wrongUsage(err)
	}
	if err := checkReason(reason); err != nil {
		return wrongUsage(err)
	}
	s, _, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	event, err := cliEvent(ctx, s, action, appID, reason)
	if err != nil {
		return err
	}
	if _, err := change(s, ctx, appID, event); err != nil {
		return appError(err, appID)
	}
	fmt.Fprintf(std.out, done, appID)
	return nil
}

// sealSecret reads an AppSecret and seals it for the app's row.
func (f masterKeyFlag) sealSecret(ctx context.Context, s store, appID, file string, std streams, log *slog.Logger) ([]byte, error) {
	sealer, err := f.ring(std, log)
	if err != nil {
		return nil, wrongUsage(err)
	}
	secret, err := readAppSecret("--secret-file", file, std, log)
	if err != nil {
		return nil, wrongUsage(err)
	}
	// What another master key seals, the service cannot open; that is better
	// found out here than at the first log-in.
	if _, err := openKeys(ctx, s, sealer); err != nil {
		return nil, err
	}
	return sealer.Seal(secret, session.AppSecretAAD(appID))
}

// provide sees to it that there are keys of an algorithm before an app chooses
// it, and returns from when on they sign; zero when they do already.
func (f masterKeyFlag) provide(ctx context.Context, s store, alg string, jwks jwksFlag, std streams, log *slog.Logger) (time.Time, error) {
	if alg == "" || alg == auth.DefaultSigningAlg {
		return time.Time{}, nil
	}
	sealer, err := f.ring(std, log)
	if err != nil {
		return time.Time{}, wrongUsage(err)
	}
	keys, err := openKeys(ctx, s, sealer)
	if err != nil {
		return time.Time{}, err
	}
	maxAge, _, err := replicas.Safest(ctx, s, jwks.JWKSMaxAge, 0, noteTo(std))
	if err != nil {
		return time.Time{}, err
	}
	keeper, err := keyring.NewKeeper(keyring.KeeperConfig{
		Ring: keys, Policy: keyring.Policy{JWKSMaxAge: maxAge}, Clock: time.Now, DatabaseClock: s.Now,
	})
	if err != nil {
		return time.Time{}, wrongUsage(err)
	}
	from, err := keeper.EnsureKeys(ctx, alg, auth.AuditEvent{Actor: auth.ActorCLI})
	if err != nil || !from.After(time.Now()) {
		return time.Time{}, err
	}
	return from, nil
}

// sayFrom says from when on tokens are signed with the algorithm.
func sayFrom(std streams, alg string, from time.Time) {
	if !from.IsZero() {
		fmt.Fprintf(std.out, "Its access tokens are signed with %s from %s on, when no back end has a JWK set without the new key; until then with %s.\n", alg, moment(from), auth.DefaultSigningAlg)
	}
}

// readAppSecret reads an AppSecret: one line of printable ASCII.
func readAppSecret(name, file string, std streams, log *slog.Logger) ([]byte, error) {
	b, err := setting.ReadSecretFile(name, file, std.in, warnTo(log))
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSpace(b)
	if bytes.ContainsFunc(b, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%s: an AppSecret is one line without spaces", name)
	}
	return b, nil
}

func checkAppID(id string) error {
	if !auth.ValidAppID(id) {
		return errors.New("an appid is 1 to 64 letters and digits, for example wx1234567890abcdef")
	}
	return nil
}

func checkAudiences(audiences []string) error {
	var e *auth.Error
	if err := auth.CheckAudiences(audiences); errors.As(err, &e) {
		return errors.New("--audience: " + e.Description)
	}
	return nil
}

func appError(err error, appID string) error {
	if errors.Is(err, auth.AppUnknown) {
		return fmt.Errorf("%s is not registered; yufu app list shows those that are", appID)
	}
	return err
}
