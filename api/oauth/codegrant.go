package oauth

import (
	"context"
	"log/slog"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/session"
)

// GrantMiniProgramCode is the grant_type of an extension grant (RFC 6749 §4.5)
// that exchanges the code of wx.login for tokens.
const GrantMiniProgramCode = "urn:yufu:grant-type:mini-program-code"

// codeGrant starts a session for a platform's code. Parameters: code and, optionally,
// device.
type codeGrant struct {
	sessions Sessions
	limits   *ExchangeLimits
}

func (g *codeGrant) redeem(ctx context.Context, r tokenRequest) (tokens session.Grant, outcome string, err error) {
	code, err := r.form.Require("code")
	if err != nil {
		return session.Grant{}, "", err
	}
	client := web.ClientAddr(ctx)
	limited := g.limits.begin(client, r.clientID)
	if err := limited.check(); err != nil {
		return session.Grant{}, "", err
	}
	event := web.EventOf(ctx)
	ctx = platform.WithCaller(ctx, web.Network(client).String())
	ctx = platform.WithCheck(ctx, limited.take)
	tokens, err = g.sessions.Exchange(ctx, session.ExchangeRequest{
		ClientID:  r.clientID,
		Code:      auth.Secret(code),
		Device:    r.form["device"],
		RequestID: event.RequestID,
	})
	limited.settle(err)
	switch auth.CodeOf(err) {
	case auth.CodeInvalid, auth.CodeUsed, auth.UserBlocked,
		auth.PlatformQuota, auth.PlatformUnavailable, auth.PlatformMisconfigured:
		// The log names the app only after the platform was asked. Before that,
		// client_id can be any text, even a code in the wrong parameter.
		event.Add(slog.String("app", r.clientID))
	}
	return tokens, "started", err
}
