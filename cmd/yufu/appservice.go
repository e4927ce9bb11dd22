package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// cliCaller returns the caller of a command.
func cliCaller(reason string) auth.Caller { return auth.Caller{Actor: auth.ActorCLI, Reason: reason} }

// newAppService returns an app service for use cases that need no keys.
func newAppService(s store) *app.Service { return app.NewService(app.Config{Store: s, Clock: s.Now}) }

// hasOtherAlg reports whether the form has an algorithm whose keys may have to be made.
func hasOtherAlg(form *app.Form) bool {
	return form.SigningAlg != "" && form.SigningAlg != auth.DefaultSigningAlg
}

// newSealingAppService returns an app service with the keys that the form needs: the master
// key for a secret, and the signing keys for an algorithm. Sealer is nil if it needs none.
func newSealingAppService(ctx context.Context, s store, sealer *seal.Ring, jwks setting.JWKS, form *app.Form, std streams) (*app.Service, error) {
	if sealer == nil {
		return newAppService(s), nil
	}
	// Opening the keys proves that the service can open what this master key seals.
	ring, err := openKeys(ctx, s, sealer)
	if err != nil {
		return nil, err
	}
	c := app.Config{Store: s, Sealer: sealer, Clock: s.Now}
	if hasOtherAlg(form) {
		maxAge, _, err := replicas.SafestDurations(ctx, s, jwks.JWKSMaxAge, 0, noteTo(std))
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

// printSignsFrom prints the time from which tokens are signed with a new algorithm.
func printSignsFrom(std streams, done *app.Outcome) {
	if !done.SignsFrom.IsZero() {
		fmt.Fprintf(std.out, "Access tokens are signed with %s from %s on. By then no back end has a JWK set without the new key. Until then they are signed with %s.\n",
			done.App.SigningAlg, formatTime(done.SignsFrom), auth.DefaultSigningAlg)
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

// withFlagName replaces the name of a member in an error by the name of its flag. Other errors
// pass through.
func withFlagName(err error) error {
	var e *app.FieldError
	if !errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("%s: %s", cmp.Or(appFlagNames[e.Field], e.Field), e.Problem)
}

// appError translates an error of the app service for the operator.
func appError(err error, appID string) error {
	switch {
	case errors.Is(err, auth.NotFound):
		return fmt.Errorf("%s is not registered; to list the registered apps: yufu app list", appID)
	case errors.Is(err, auth.AppExists):
		return fmt.Errorf("%s is registered already; to change it: yufu app update %s --secret-file FILE", appID, appID)
	case errors.Is(err, app.ErrNoWebhookSecret):
		return wrongUsage(errors.New(`the policy has a webhook, but no secret signs its requests; make one with printf 'whsec_%s\n' "$(openssl rand -base64 32)" > webhook.secret, and add --webhook-secret-file webhook.secret`))
	case errors.Is(err, auth.InvalidRequest):
		return wrongUsage(withFlagName(err))
	}
	return err
}
