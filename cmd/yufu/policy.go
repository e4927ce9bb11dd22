package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// policyFlags name the files of an app's binding policy and webhook secret.
type policyFlags struct {
	PolicyFile        string `placeholder:"FILE" help:"JSON file with the new binding policy, or - for standard input. yufu app show prints the present one."`
	WebhookSecretFile string `placeholder:"FILE" help:"File with the secret that signs requests to the policy's webhook: whsec_ and base64. While you replace a secret, the second line is the old one."`
}

// maxPolicyFile is well above the longest policy.
const maxPolicyFile = 1 << 20

// policy reads the policy. It returns nil if no file is named.
func (f policyFlags) policy(std streams) (*auth.Policy, error) {
	if f.PolicyFile == "" {
		return nil, nil
	}
	in := std.in
	if f.PolicyFile != "-" {
		file, err := os.Open(f.PolicyFile)
		if err != nil {
			return nil, fmt.Errorf("--policy-file: %w", err)
		}
		defer file.Close() //nolint:errcheck // it was only read
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPolicyFile))
	if err != nil {
		return nil, fmt.Errorf("--policy-file: %w", err)
	}
	p, err := auth.ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("--policy-file: %w", descriptionOf(err))
	}
	return &p, nil
}

// readWebhookSecret reads the secret of a webhook, or two while one replaces the other.
func readWebhookSecret(file string, std streams, log *slog.Logger) (*auth.Secret, error) {
	const name = "--webhook-secret-file"
	b, err := setting.ReadSecretFile(name, file, std.in, warnTo(log))
	if err != nil {
		return nil, err
	}
	secret := auth.Secret(bytes.TrimSpace(b))
	return &secret, withFlagName((&app.Form{WebhookSecret: &secret}).Check())
}

type appShowCmd struct {
	AppID string `arg:"" name:"appid" help:"Appid of a registered mini-program."`
	databaseCommand
}

// appView is the output of yufu app show. It has no secret.
type appView struct {
	AppID         string      `json:"appid"`
	Platform      string      `json:"platform"`
	Enabled       bool        `json:"enabled"`
	Epoch         int64       `json:"epoch"`
	Audiences     []string    `json:"audiences"`
	Policy        auth.Policy `json:"policy"`
	WebhookSecret bool        `json:"webhook_secret"`
}

// checkArgs implements [argsChecker].
func (c *appShowCmd) checkArgs() error { return checkAppID(c.AppID) }

// Run prints the app as JSON. The policy has the form that --policy-file accepts.
func (c *appShowCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	a, err := newAppService(s).App(ctx, c.AppID, cliCaller(""))
	if err != nil {
		return appError(err, c.AppID)
	}
	return printJSON(std, appView{
		AppID: a.ID, Platform: a.Platform, Enabled: !a.Disabled, Epoch: a.Epoch,
		Audiences: append([]string{}, a.Audiences...), Policy: a.Policy, WebhookSecret: len(a.SealedWebhookSecret) > 0,
	})
}
