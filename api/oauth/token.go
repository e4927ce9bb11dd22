package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/session"
)

// The grants of the token endpoint.
const (
	// GrantMiniProgramCode is an extension grant (RFC 6749 §4.5): the code of
	// wx.login for tokens.
	GrantMiniProgramCode = "urn:yufu:grant-type:mini-program-code"
	// GrantRefreshToken is RFC 6749 §6.
	GrantRefreshToken = "refresh_token"
)

// tokenAnswer is RFC 6749 §5.1 with the two lifetimes of the
// refresh-token-expiration draft and what a mini-program needs at once.
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
	grantType, err := form.Require("grant_type")
	if err != nil {
		return err
	}
	event := web.EventOf(r.Context())
	var grant session.Grant
	switch grantType {
	case GrantMiniProgramCode:
		event.Grant = "code"
		grant, err = h.exchange(r, form)
		event.Outcome = "started"
	case GrantRefreshToken:
		event.Grant = "refresh"
		grant, err = h.refresh(r, form)
		event.Outcome = grant.Verdict.String()
	default:
		return auth.UnsupportedGrantType
	}
	if err != nil {
		event.Outcome = outcomeOf(err)
		return err
	}
	event.AddSubject(grant.Session.Subject())
	return web.SecretJSON(w, http.StatusOK, tokenAnswer{
		AccessToken:            grant.AccessToken.Reveal(),
		TokenType:              "Bearer",
		ExpiresIn:              grant.ExpiresIn,
		RefreshToken:           grant.RefreshToken.Reveal(),
		RefreshTokenTimeout:    grant.RefreshTokenTimeout,
		AuthorizationExpiresIn: grant.AuthorizationExpiresIn,
		UUID:                   grant.Session.Identity,
		Bound:                  grant.Session.Bound(),
		Person:                 web.PersonOf(&grant.Session),
	})
}

func (h *Handler) exchange(r *http.Request, form web.Form) (session.Grant, error) {
	clientID, err := web.PublicClient(r, form)
	if err != nil {
		return session.Grant{}, err
	}
	code, err := form.Require("code")
	if err != nil {
		return session.Grant{}, err
	}
	client := web.ClientAddr(r.Context())
	limited := h.limits.begin(client, clientID)
	if err := limited.check(); err != nil {
		return session.Grant{}, err
	}
	ctx := platform.WithCaller(r.Context(), web.Network(client).String())
	ctx = platform.WithCheck(ctx, limited.take)
	grant, err := h.sessions.Exchange(ctx, session.ExchangeRequest{
		ClientID:  clientID,
		Code:      auth.Secret(code),
		Device:    form["device"],
		RequestID: web.EventOf(r.Context()).RequestID,
	})
	limited.settle(err)
	switch auth.CodeOf(err) {
	case auth.CodeInvalid, auth.CodeUsed, auth.UserBlocked,
		auth.PlatformQuota, auth.PlatformUnavailable, auth.PlatformMisconfigured:
		// Which app has trouble with its platform. Before the platform was
		// asked, a client_id may be anything, a code in the wrong place too.
		web.EventOf(r.Context()).Add(slog.String("app", clientID))
	}
	return grant, err
}

// outcomeOf names why a token request failed: its code, and for a refresh token
// that was used before, whether it came late or long after.
func outcomeOf(err error) string {
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

func (h *Handler) refresh(r *http.Request, form web.Form) (session.Grant, error) {
	clientID, err := web.PublicClient(r, form)
	if err != nil {
		return session.Grant{}, err
	}
	token, err := form.Require("refresh_token")
	if err != nil {
		return session.Grant{}, err
	}
	return h.sessions.Refresh(r.Context(), session.RefreshRequest{
		ClientID:     clientID,
		RefreshToken: auth.Secret(token),
		RequestID:    web.EventOf(r.Context()).RequestID,
	})
}
