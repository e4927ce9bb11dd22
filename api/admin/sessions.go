package admin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// sessionOf is a session as answers show it.
func sessionOf(st *session.State, now time.Time) SessionRecord {
	s := &st.Session
	endedAt, why := st.Ending()
	answer := SessionRecord{
		ID: s.ID, UUID: s.Identity, App: s.AppID, Device: s.Device, Live: st.Standing(s.AppID, now) == nil,
		Ver: s.Ver, Epoch: s.Epoch, Generation: int64(s.Generation),
		StartedAt: s.StartedAt.UTC(), RefreshedAt: s.RotatedAt.UTC(), IdleExpiresAt: s.IdleExpiresAt.UTC(), ExpiresAt: s.ExpiresAt.UTC(),
		EndedAt: timeOrNull(endedAt), EndReason: textOrNull(string(why)),
	}
	if s.Person != nil {
		answer.Person = &s.Person.ID
	}
	return answer
}

// ListIdentitySessions implements [StrictServerInterface].
func (a *API) ListIdentitySessions(ctx context.Context, r ListIdentitySessionsRequestObject) (ListIdentitySessionsResponseObject, error) {
	limit, before, err := pageOf(r.Params.Limit, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := a.c.Persons.Sessions(ctx, r.UUID, before, limit+1, caller(ctx, nil))
	if err != nil {
		return nil, err
	}
	answer := ListIdentitySessions200JSONResponse{Sessions: []SessionRecord{}}
	found, answer.Next = cut(found, limit, func(st session.State) string { return st.Session.ID.String() })
	for i := range found {
		answer.Sessions = append(answer.Sessions, sessionOf(&found[i], auth.StoredTime(a.c.Clock())))
	}
	return answer, nil
}

var errNoSession = &auth.Error{Code: auth.NotFound, Description: "There is no session with this id, or it is not kept any more."}

// GetSession implements [StrictServerInterface].
func (a *API) GetSession(ctx context.Context, r GetSessionRequestObject) (GetSessionResponseObject, error) {
	st, err := a.c.Sessions.Session(ctx, r.ID)
	key := keyOf(ctx)
	if errors.Is(err, auth.SessionRevoked) || err == nil && key.Restricted() && !slices.Contains(key.Apps, st.Session.AppID) {
		return nil, errNoSession
	}
	if err != nil {
		return nil, err
	}
	return GetSession200JSONResponse(sessionOf(&st, auth.StoredTime(a.c.Clock()))), nil
}

// EndSessionByAdmin implements [StrictServerInterface].
func (a *API) EndSessionByAdmin(ctx context.Context, r EndSessionByAdminRequestObject) (EndSessionByAdminResponseObject, error) {
	c := caller(ctx, r.Params.Reason)
	done, err := a.c.Revoker.Revoke(ctx, session.RevocationRequest{
		Target: session.Target{Session: r.ID}, Reason: c.Reason, Apps: c.Apps, Actor: c.Actor, RequestID: c.RequestID,
	})
	if errors.Is(err, auth.NotFound) {
		return nil, errNoSession
	}
	if err != nil {
		return nil, err
	}
	web.EventOf(ctx).Add(slog.Int("sessions_revoked", done.Sessions))
	return EndSessionByAdmin200JSONResponse(a.revocationOf(&done)), nil
}
