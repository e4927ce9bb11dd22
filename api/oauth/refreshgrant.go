package oauth

import (
	"context"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// GrantRefreshToken is the grant_type of RFC 6749 §6.
const GrantRefreshToken = "refresh_token"

// refreshGrant renews the tokens of a session. Parameter: refresh_token.
type refreshGrant struct {
	sessions Sessions
}

func (g *refreshGrant) redeem(ctx context.Context, r tokenRequest) (tokens session.Grant, outcome string, err error) {
	token, err := r.form.Require("refresh_token")
	if err != nil {
		return session.Grant{}, "", err
	}
	tokens, err = g.sessions.Refresh(ctx, session.RefreshRequest{
		ClientID:     r.clientID,
		RefreshToken: auth.Secret(token),
		RequestID:    web.EventOf(ctx).RequestID,
	})
	return tokens, tokens.Verdict.String(), err
}
