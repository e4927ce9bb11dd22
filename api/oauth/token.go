package oauth

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// A grant exchanges a client's credential for tokens.
type grant interface {
	// redeem returns the tokens for a request, and the outcome for the log and the
	// metrics. For an error the outcome comes from [errorOutcome].
	redeem(ctx context.Context, r tokenRequest) (tokens session.Grant, outcome string, err error)
}

// tokenRequest is a request of the token endpoint after the client_id was read.
type tokenRequest struct {
	clientID string
	form     web.Form
}

// grantType is a value of grant_type with the grant behind it.
type grantType struct {
	name string
	// label names the grant in the log and the metrics.
	label string
	grant
}

// grantTypes returns the grants of the token endpoint, in the order in which the
// metadata lists them.
func grantTypes(sessions Sessions, limits *ExchangeLimits) []grantType {
	return []grantType{
		{GrantMiniProgramCode, "code", &codeGrant{sessions, limits}},
		{GrantRefreshToken, "refresh", &refreshGrant{sessions}},
	}
}

// tokenAnswer is RFC 6749 §5.1 with the two lifetimes of the refresh-token-expiration
// draft and the user data that a mini-program needs at once.
type tokenAnswer struct {
	AccessToken            string    `json:"access_token"`
	TokenType              string    `json:"token_type"`
	ExpiresIn              int       `json:"expires_in"`
	RefreshToken           string    `json:"refresh_token"`
	RefreshTokenTimeout    int       `json:"refresh_token_timeout"`
	AuthorizationExpiresIn int       `json:"authorization_expires_in"`
	UUID                   uuid.UUID `json:"uuid"`
	Bound                  bool      `json:"bound"`
	// Person is null while unbound.
	Person *web.Person `json:"person"`
}

func (h *Handler) token(w http.ResponseWriter, r *http.Request) error {
	form, err := web.ReadForm(w, r)
	if err != nil {
		return err
	}
	name, err := form.Require("grant_type")
	if err != nil {
		return err
	}
	for _, g := range h.grants {
		if g.name == name {
			return g.serve(w, r, form)
		}
	}
	return auth.UnsupportedGrantType
}

// serve answers a request for tokens by this grant.
func (g *grantType) serve(w http.ResponseWriter, r *http.Request, form web.Form) error {
	event := web.EventOf(r.Context())
	event.Grant = g.label
	clientID, err := web.PublicClient(r, form)
	if err != nil {
		event.Outcome = errorOutcome(err)
		return err
	}
	tokens, outcome, err := g.redeem(r.Context(), tokenRequest{clientID, form})
	if err != nil {
		event.Outcome = errorOutcome(err)
		return err
	}
	event.Outcome = outcome
	event.AddSubject(tokens.Session.Subject())
	return web.SecretJSON(w, http.StatusOK, tokenAnswer{
		AccessToken:            tokens.AccessToken.Reveal(),
		TokenType:              "Bearer",
		ExpiresIn:              tokens.ExpiresIn,
		RefreshToken:           tokens.RefreshToken.Reveal(),
		RefreshTokenTimeout:    tokens.RefreshTokenTimeout,
		AuthorizationExpiresIn: tokens.AuthorizationExpiresIn,
		UUID:                   tokens.Session.Identity,
		Bound:                  tokens.Session.Bound(),
		Person:                 web.PersonOf(&tokens.Session),
	})
}

// errorOutcome says why a token request failed: the error's code or, for a replaced
// refresh token, whether it is one generation behind, or two or more.
func errorOutcome(err error) string {
	switch {
	case errors.Is(err, session.ErrReplayLate):
		return session.ReplayLate.String()
	case errors.Is(err, session.ErrReuse):
		return session.Reuse.String()
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return string(auth.CodeOf(err))
}
