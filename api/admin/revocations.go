package admin

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// CreateRevocation implements [StrictServerInterface].
func (a *API) CreateRevocation(ctx context.Context, r CreateRevocationRequestObject) (CreateRevocationResponseObject, error) {
	key, event := keyOf(ctx), web.EventOf(ctx)
	target := session.Target{
		Session:  value(r.Body.Session),
		Identity: value(r.Body.UUID),
		Person:   value(r.Body.Person),
		AppID:    value(r.Body.App),
		All:      value(r.Body.All),
	}
	logTarget(ctx, &target)
	done, err := a.c.Revoker.Revoke(ctx, session.RevocationRequest{
		Token:     auth.Secret(value(r.Body.Token)),
		Target:    target,
		Reason:    value(r.Body.Reason),
		Apps:      key.Apps,
		Actor:     auth.ActorServiceKey(key.ID),
		RequestID: event.RequestID,
	})
	if err != nil {
		return nil, err
	}
	logTarget(ctx, &done.Target) // that of a token, too
	event.Add(slog.Int("sessions_revoked", done.Sessions))
	return CreateRevocation200JSONResponse(a.revocationOf(&done)), nil
}

// revocationOf is a revocation as answers show it.
func (a *API) revocationOf(done *session.Revocation) Revocation {
	answer := Revocation{SessionsRevoked: done.Sessions, EffectiveBy: done.EffectiveBy, ExpiresBy: done.ExpiresBy}
	if done.CutoffID != 0 {
		id := a.c.CutoffID(done.CutoffID)
		answer.CutoffID = &id
	}
	return answer
}

// value returns what an optional member holds, or its zero value.
func value[T any](p *T) T { return *cmp.Or(p, new(T)) }
