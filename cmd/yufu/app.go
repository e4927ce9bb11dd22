package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

type appCmd struct {
	Add     appAddCmd     `cmd:"" help:"Register a mini-program."`
	List    appListCmd    `cmd:"" help:"List the registered mini-programs."`
	Show    appShowCmd    `cmd:"" help:"Show one mini-program with its policy."`
	Update  appUpdateCmd  `cmd:"" help:"Change the AppSecret, the audiences, the signing algorithm or the policy."`
	Disable appDisableCmd `cmd:"" help:"Refuse log-ins and refreshes, and end every session of the app."`
	Enable  appEnableCmd  `cmd:"" help:"Let users log in again. Ended sessions stay ended."`
}

// Help is shown below the usage line of yufu app --help.
func (appCmd) Help() string {
	return "These commands work directly on the database. A running service sees a change within a second."
}

// appFiles name the files with members of an app.
type appFiles struct {
	secret string
	policyFlags
}

// appChange is a form with the members from files, and the settings to store it with.
type appChange struct {
	form app.Form
	db   setting.Database
	// sealer is nil if the form needs no keys, see [newSealingAppService].
	sealer *seal.Ring
}

// parseChange parses the settings and adds the members in the files to the form. The error
// names everything that is missing or wrong.
func (f sealedCommand) parseChange(std streams, form app.Form, files appFiles) (appChange, error) {
	c := appChange{form: form}
	var log *slog.Logger
	var settingsErr, secretErr, webhookErr, policyErr, keyErr error
	c.db, log, settingsErr = f.databaseCommand.parse(std)
	if files.secret != "" {
		c.form.Secret, secretErr = readAppSecret("--secret-file", files.secret, std, log)
	}
	if files.WebhookSecretFile != "" {
		c.form.WebhookSecret, webhookErr = readWebhookSecret(files.WebhookSecretFile, std, log)
	}
	c.form.Policy, policyErr = files.policy(std)
	if files.secret != "" || files.WebhookSecretFile != "" || hasOtherAlg(&form) {
		c.sealer, keyErr = f.Ring(std.in, warnTo(log))
	}
	return c, errors.Join(settingsErr, secretErr, webhookErr, policyErr, keyErr)
}

type appAddCmd struct {
	AppID      string   `arg:"" name:"appid" help:"Appid of the mini-program at its platform, for example wx1234567890abcdef."`
	SecretFile string   `required:"" placeholder:"FILE" help:"File with the AppSecret, or - for standard input."`
	Platform   string   `default:"wechat" enum:"wechat" help:"Platform: wechat."`
	Audience   []string `placeholder:"AUD" help:"Audience of access tokens, besides the issuer. Repeat it for several."`
	SigningAlg string   `default:"ES256" enum:"ES256,EdDSA,RS256" placeholder:"ALG" help:"Algorithm that signs access tokens: ES256, EdDSA or RS256."`
	setting.JWKS
	sealedCommand
}

// form returns the members that the arguments have.
func (c *appAddCmd) form() app.Form {
	form := app.Form{SigningAlg: c.SigningAlg}
	if len(c.Audience) > 0 {
		form.Audiences = &c.Audience
	}
	return form
}

// checkArgs implements [argsChecker].
func (c *appAddCmd) checkArgs() error {
	form := c.form()
	return errors.Join(checkAppID(c.AppID), withFlagName(form.Check()))
}

// parse parses the settings and reads the files.
func (c *appAddCmd) parse(std streams) (appChange, error) {
	return c.parseChange(std, c.form(), appFiles{secret: c.SecretFile})
}

// checkSettings implements [settingsChecker].
func (c *appAddCmd) checkSettings(std streams) error {
	_, err := c.parse(std)
	return err
}

// Run registers the app.
func (c *appAddCmd) Run(ctx context.Context, std streams) error {
	change, err := c.parse(std)
	if err != nil {
		return wrongUsage(err)
	}
	s, err := openStore(ctx, change.db, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	apps, err := newSealingAppService(ctx, s, change.sealer, c.JWKS, &change.form, std)
	if err != nil {
		return err
	}
	done, err := apps.Register(ctx, app.Registration{ID: c.AppID, Platform: c.Platform, Form: change.form}, cliCaller(""))
	if err != nil {
		return appError(err, c.AppID)
	}
	fmt.Fprintf(std.out, "Registered %s.\n", c.AppID)
	printSignsFrom(std, &done)
	return nil
}

type appListCmd struct {
	databaseCommand
}

// Run lists the apps. It shows no secret.
func (c *appListCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	apps, err := newAppService(s).Apps(ctx, cliCaller(""))
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
	AppID       string   `arg:"" name:"appid" help:"Appid of a registered mini-program."`
	SecretFile  string   `placeholder:"FILE" help:"File with the new AppSecret, or - for standard input."`
	Audience    []string `placeholder:"AUD" help:"Audience of access tokens, which replaces the present ones. Repeat it for several."`
	NoAudiences bool     `help:"Remove all audiences but the issuer."`
	SigningAlg  string   `placeholder:"ALG" help:"Algorithm that signs new access tokens: ES256, EdDSA or RS256."`
	setting.JWKS
	policyFlags
	sealedCommand
}

// form returns the members that the arguments change.
func (c *appUpdateCmd) form() app.Form {
	form := app.Form{SigningAlg: c.SigningAlg}
	if len(c.Audience) > 0 || c.NoAudiences {
		form.Audiences = &c.Audience
	}
	return form
}

// checkArgs implements [argsChecker].
func (c *appUpdateCmd) checkArgs() error {
	var flagsErr error
	switch {
	case len(c.Audience) > 0 && c.NoAudiences:
		flagsErr = errors.New("--audience and --no-audiences contradict each other")
	case c.SecretFile == "" && len(c.Audience) == 0 && !c.NoAudiences && c.SigningAlg == "" && c.PolicyFile == "" && c.WebhookSecretFile == "":
		flagsErr = errors.New("there is nothing to change; add --secret-file, --audience, --no-audiences, --signing-alg, --policy-file or --webhook-secret-file")
	}
	form := c.form()
	return errors.Join(flagsErr, checkAppID(c.AppID), withFlagName(form.Check()))
}

// parse parses the settings and reads the files.
func (c *appUpdateCmd) parse(std streams) (appChange, error) {
	return c.parseChange(std, c.form(), appFiles{c.SecretFile, c.policyFlags})
}

// checkSettings implements [settingsChecker].
func (c *appUpdateCmd) checkSettings(std streams) error {
	_, err := c.parse(std)
	return err
}

// Run changes the app. Members without a flag keep their values.
func (c *appUpdateCmd) Run(ctx context.Context, std streams) error {
	change, err := c.parse(std)
	if err != nil {
		return wrongUsage(err)
	}
	s, err := openStore(ctx, change.db, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	apps, err := newSealingAppService(ctx, s, change.sealer, c.JWKS, &change.form, std)
	if err != nil {
		return err
	}
	done, err := apps.Update(ctx, c.AppID, change.form, cliCaller(""))
	if err != nil {
		return appError(err, c.AppID)
	}
	fmt.Fprintf(std.out, "Updated %s.\n", c.AppID)
	printSignsFrom(std, &done)
	return nil
}

type appDisableCmd struct {
	appToggle
}

// Run disables the app.
func (c *appDisableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, (*app.Service).Disable, "Disabled %s; its sessions have ended.\n")
}

type appEnableCmd struct {
	appToggle
}

// Run enables the app.
func (c *appEnableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, (*app.Service).Enable, "Enabled %s; its users must log in again.\n")
}

// appToggle is embedded by disable and enable.
type appToggle struct {
	AppID string `arg:"" name:"appid" help:"Appid of a registered mini-program."`
	reasonFlag
	databaseCommand
}

// checkArgs implements [argsChecker].
func (c *appToggle) checkArgs() error {
	return errors.Join(checkAppID(c.AppID), c.reasonFlag.checkArgs())
}

func (c *appToggle) toggle(ctx context.Context, std streams,
	change func(s *app.Service, ctx context.Context, appID string, c auth.Caller) (auth.App, error), done string,
) error {
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := change(newAppService(s), ctx, c.AppID, cliCaller(c.Reason)); err != nil {
		return appError(err, c.AppID)
	}
	fmt.Fprintf(std.out, done, c.AppID)
	return nil
}
