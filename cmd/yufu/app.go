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
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
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
	form := app.Form{SigningAlg: c.SigningAlg}
	if len(c.Audience) > 0 {
		form.Audiences = &c.Audience
	}
	if err := cmp.Or(checkAppID(c.AppID), byFlag(form.Check())); err != nil {
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
	apps, err := c.service(ctx, s, c.jwksFlag, &form, std, log)
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
	appFlags
}

// Run lists the apps. It shows no secret.
func (c *appListCmd) Run(ctx context.Context, std streams) error {
	s, _, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	apps, err := appsOf(s).Apps(ctx, cliCaller(""))
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
	form := app.Form{SigningAlg: c.SigningAlg}
	if len(c.Audience) > 0 || c.NoAudiences {
		form.Audiences = &c.Audience
	}
	if err := cmp.Or(checkAppID(c.AppID), byFlag(form.Check())); err != nil {
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
	apps, err := c.service(ctx, s, c.jwksFlag, &form, std, log)
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
	AppID  string `arg:"" name:"appid" help:"A registered appid."`
	Reason string `help:"Why, for the audit trail."`
	appFlags
}

// Run disables the app.
func (c *appDisableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, c.AppID, c.Reason, (*app.Service).Disable, "Disabled %s; its sessions have ended.\n")
}

type appEnableCmd struct {
	AppID  string `arg:"" name:"appid" help:"A registered appid."`
	Reason string `help:"Why, for the audit trail."`
	appFlags
}

// Run enables the app.
func (c *appEnableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, c.AppID, c.Reason, (*app.Service).Enable, "Enabled %s; its users must log in again.\n")
}

// toggle runs disable and enable.
func (f appFlags) toggle(ctx context.Context, std streams, appID, reason string,
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
	if _, err := change(appsOf(s), ctx, appID, cliCaller(reason)); err != nil {
		return appError(err, appID)
	}
	fmt.Fprintf(std.out, done, appID)
	return nil
}

// cliCaller returns the caller of a command.
func cliCaller(reason string) auth.Caller { return auth.Caller{Actor: auth.ActorCLI, Reason: reason} }

// appsOf returns the use cases over apps that need no keys.
func appsOf(s store) *app.Service { return app.NewService(app.Config{Store: s, Clock: s.Now}) }

// service returns the use cases over apps with what the form needs: the master key for a
// secret, and the signing keys for an algorithm.
func (f masterKeyFlag) service(ctx context.Context, s store, jwks jwksFlag, form *app.Form, std streams, log *slog.Logger) (*app.Service, error) {
	otherAlg := form.SigningAlg != "" && form.SigningAlg != auth.DefaultSigningAlg
	if form.Secret == nil && form.WebhookSecret == nil && !otherAlg {
		return appsOf(s), nil
	}
	sealer, err := f.ring(std, log)
	if err != nil {
		return nil, wrongUsage(err)
	}
	// Opening the keys proves that the service can open what this master key seals.
	ring, err := openKeys(ctx, s, sealer)
	if err != nil {
		return nil, err
	}
	c := app.Config{Store: s, Sealer: sealer, Clock: s.Now}
	if otherAlg {
		maxAge, _, err := replicas.Safest(ctx, s, jwks.JWKSMaxAge, 0, noteTo(std))
		if err != nil {
			return nil, err
		}
		c.Keys, err = keyring.NewKeeper(keyring.KeeperConfig{
			Ring: ring, Policy: keyring.Policy{JWKSMaxAge: maxAge}, Clock: time.Now, DatabaseClock: s.Now,
		})
		if err != nil {
			return nil, wrongUsage(err)
		}
	}
	return app.NewService(c), nil
}

// printSignsFrom prints from when on tokens are signed with a new algorithm.
func printSignsFrom(std streams, done *app.Outcome) {
	if !done.SignsFrom.IsZero() {
		fmt.Fprintf(std.out, "Its access tokens are signed with %s from %s on, when no back end has a JWK set without the new key; until then with %s.\n",
			done.App.SigningAlg, moment(done.SignsFrom), auth.DefaultSigningAlg)
	}
}

// readAppSecret reads an AppSecret.
func readAppSecret(name, file string, std streams, log *slog.Logger) (*auth.Secret, error) {
	b, err := setting.ReadSecretFile(name, file, std.in, warnTo(log))
	if err != nil {
		return nil, err
	}
	secret := auth.Secret(bytes.TrimSpace(b))
	if err := app.CheckSecret(secret); err != nil {
		return nil, fmt.Errorf("%s: %w", name, descriptionOf(err))
	}
	return &secret, nil
}

func checkAppID(id string) error {
	if err := app.CheckID(id); err != nil {
		return descriptionOf(err)
	}
	return nil
}

// appFlagNames are the flags that set the members of an app.
var appFlagNames = map[string]string{
	"app_secret": "--secret-file", "audiences": "--audience", "signing_alg": "--signing-alg",
	"policy": "--policy-file", "webhook_secret": "--webhook-secret-file",
}

// byFlag returns the error of a member with the name of its flag, and other errors as
// they are.
func byFlag(err error) error {
	var e *app.FieldError
	if !errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("%s: %s", cmp.Or(appFlagNames[e.Field], e.Field), e.Problem)
}

// appError returns the error of a change of an app for the operator.
func appError(err error, appID string) error {
	switch {
	case errors.Is(err, auth.NotFound):
		return fmt.Errorf("%s is not registered; yufu app list shows those that are", appID)
	case errors.Is(err, auth.AppExists):
		return fmt.Errorf("%s is registered already; change it with: yufu app update %s --secret-file FILE", appID, appID)
	case errors.Is(err, app.ErrNoWebhookSecret):
		return wrongUsage(errors.New(`the policy has a webhook, and there is no secret to sign its requests with: make one with printf 'whsec_%s\n' "$(openssl rand -base64 32)" > webhook.secret, and name --webhook-secret-file webhook.secret`))
	case errors.Is(err, auth.InvalidRequest):
		return wrongUsage(byFlag(err))
	}
	return err
}
