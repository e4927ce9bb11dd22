package admin

import (
	"log/slog"
	"net/http"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

func (a *API) createRevocation(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	body, err := readBody[adminclient.Revocation](w, r)
	if err != nil {
		return err
	}
	key, event := keyOf(ctx), web.EventOf(ctx)
	target := session.Target{
		Session:  value(body.Session),
		Identity: value(body.UUID),
		Person:   value(body.Person),
		AppID:    body.App,
		All:      body.All,
	}
	logTarget(ctx, &target)
	if target.AppID != "" || target.All {
		if err := a.require(r, servicekey.ScopeAdmin); err != nil {
			return err
		}
	}
	done, err := a.c.Revoker.Revoke(ctx, session.RevocationRequest{
		Token:     auth.Secret(body.Token),
		Target:    target,
		Reason:    body.Reason,
		Apps:      key.Apps,
		Actor:     auth.ActorServiceKey(key.ID),
		RequestID: event.RequestID,
	})
	if err != nil {
		return err
	}
	logTarget(ctx, &done.Target) // for a token, its session and user
	event.Add(slog.Int("sessions_revoked", done.Sessions))
	return web.SecretJSON(w, http.StatusOK, a.revocationOf(&done))
}

// revocationOf returns a revocation for an answer.
func (a *API) revocationOf(done *session.Revocation) adminclient.Revoked {
	answer := adminclient.Revoked{SessionsRevoked: done.Sessions, EffectiveBy: done.EffectiveBy, ExpiresBy: done.ExpiresBy}
	if done.CutoffID != 0 {
		id := a.c.CutoffID(done.CutoffID)
		answer.CutoffID = &id
	}
	return answer
}
