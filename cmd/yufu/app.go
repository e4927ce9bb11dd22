package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
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

type appAddCmd struct {
	AppID      string   `arg:"" name:"appid" help:"Appid of the mini-program at its platform, for example wx1234567890abcdef."`
	SecretFile string   `required:"" placeholder:"FILE" help:"File with the AppSecret, or - for standard input."`
	Platform   string   `default:"wechat" enum:"wechat" help:"Platform: wechat."`
	Audience   []string `placeholder:"AUD" help:"Audience of access tokens, besides the issuer. Repeat it for several."`
	SigningAlg string   `default:"ES256" enum:"ES256,EdDSA,RS256" placeholder:"ALG" help:"Algorithm that signs access tokens: ES256, EdDSA or RS256."`
	setting.JWKS
	sealedCommand
}

// Run registers the app.
func (c *appAddCmd) Run(ctx context.Context, std streams) error {
	form := app.Form{SigningAlg: c.SigningAlg}
	if len(c.Audience) > 0 {
		form.Audiences = &c.Audience
	}
	if err := cmp.Or(checkAppID(c.AppID), withFlagName(form.Check())); err != nil {
		return wrongUsage(err)
	}
	s, log, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	if form.Secret, err = readAppSecret("--secret-file", c.SecretFile, std, log); err != nil {
		return wrongUsage(err)
	}
	apps, err := newSealingAppService(ctx, s, c.MasterKey, c.JWKS, &form, std, log)
	if err != nil {
		return err
	}
	done, err := apps.Register(ctx, app.Registration{ID: c.AppID, Platform: c.Platform, Form: form}, cliCaller(""))
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
	s, _, err := c.open(ctx, std)
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

// Run changes the app. Members without a flag keep their values.
func (c *appUpdateCmd) Run(ctx context.Context, std streams) error {
	switch {
	case len(c.Audience) > 0 && c.NoAudiences:
		return wrongUsage(errors.New("--audience and --no-audiences contradict each other"))
	case c.SecretFile == "" && len(c.Audience) == 0 && !c.NoAudiences && c.SigningAlg == "" && c.PolicyFile == "" && c.WebhookSecretFile == "":
		return wrongUsage(errors.New("there is nothing to change; add --secret-file, --audience, --no-audiences, --signing-alg, --policy-file or --webhook-secret-file"))
	}
	form := app.Form{SigningAlg: c.SigningAlg}
	if len(c.Audience) > 0 || c.NoAudiences {
		form.Audiences = &c.Audience
	}
	if err := cmp.Or(checkAppID(c.AppID), withFlagName(form.Check())); err != nil {
		return wrongUsage(err)
	}
	var err error
	if form.Policy, err = c.policy(std); err != nil {
		return wrongUsage(err)
	}
	s, log, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	if c.WebhookSecretFile != "" {
		if form.WebhookSecret, err = readWebhookSecret(c.WebhookSecretFile, std, log); err != nil {
			return wrongUsage(err)
		}
	}
	if c.SecretFile != "" {
		if form.Secret, err = readAppSecret("--secret-file", c.SecretFile, std, log); err != nil {
			return wrongUsage(err)
		}
	}
	apps, err := newSealingAppService(ctx, s, c.MasterKey, c.JWKS, &form, std, log)
	if err != nil {
		return err
	}
	done, err := apps.Update(ctx, c.AppID, form, cliCaller(""))
	if err != nil {
		return appError(err, c.AppID)
	}
	fmt.Fprintf(std.out, "Updated %s.\n", c.AppID)
	printSignsFrom(std, &done)
	return nil
}

type appDisableCmd struct {
	AppID  string `arg:"" name:"appid" help:"Appid of a registered mini-program."`
	Reason string `help:"Reason, for the audit trail."`
	databaseCommand
}

// Run disables the app.
func (c *appDisableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, c.AppID, c.Reason, (*app.Service).Disable, "Disabled %s; its sessions have ended.\n")
}

type appEnableCmd struct {
	AppID  string `arg:"" name:"appid" help:"Appid of a registered mini-program."`
	Reason string `help:"Reason, for the audit trail."`
	databaseCommand
}

// Run enables the app.
func (c *appEnableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, c.AppID, c.Reason, (*app.Service).Enable, "Enabled %s; its users must log in again.\n")
}

// toggle disables or enables an app.
func (f databaseCommand) toggle(ctx context.Context, std streams, appID, reason string,
	change func(s *app.Service, ctx context.Context, appID string, c auth.Caller) (auth.App, error), done string,
) error {
	if err := cmp.Or(checkAppID(appID), checkReason(reason)); err != nil {
		return wrongUsage(err)
	}
	s, _, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := change(newAppService(s), ctx, appID, cliCaller(reason)); err != nil {
		return appError(err, appID)
	}
	fmt.Fprintf(std.out, done, appID)
	return nil
}
