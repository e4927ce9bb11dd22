package admin

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// sessionOf returns a session for an answer.
func sessionOf(st *session.State, now time.Time) adminclient.Session {
	s := &st.Session
	endedAt, why := st.Ending()
	answer := adminclient.Session{
		ID: s.ID, UUID: s.Identity, App: s.AppID, Device: s.Device, Live: st.RefreshError(s.AppID, now) == nil,
		Ver: s.Ver, Epoch: s.Epoch, Generation: int64(s.Generation),
		StartedAt: s.StartedAt.UTC(), RefreshedAt: s.RotatedAt.UTC(), IdleExpiresAt: s.IdleExpiresAt.UTC(), ExpiresAt: s.ExpiresAt.UTC(),
		EndedAt: timeOrNull(endedAt), EndReason: textOrNull(string(why)),
	}
	if s.Person != nil {
		answer.Person = &s.Person.ID
	}
	return answer
}

func (a *API) listIdentitySessions(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "uuid")
	if err != nil {
		return err
	}
	limit, before, err := pageOf(r)
	if err != nil {
		return err
	}
	found, err := a.c.Persons.Sessions(r.Context(), id, before, limit+1, caller(r, ""))
	if err != nil {
		return err
	}
	answer := adminclient.SessionList{Sessions: []adminclient.Session{}}
	found, answer.Next = cutPage(found, limit, func(st session.State) string { return st.Session.ID.String() })
	for i := range found {
		answer.Sessions = append(answer.Sessions, sessionOf(&found[i], auth.StoredTime(a.c.Clock())))
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

var errNoSession = &auth.Error{Code: auth.NotFound, Description: "No session has this id, or it is no longer stored."}

func (a *API) getSession(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	id, err := pathID(r, "id")
	if err != nil {
		return err
	}
	st, err := a.c.Sessions.Session(ctx, id)
	key := keyOf(ctx)
	if errors.Is(err, auth.SessionRevoked) || err == nil && key.Restricted() && !slices.Contains(key.Apps, st.Session.AppID) {
		return errNoSession
	}
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, sessionOf(&st, auth.StoredTime(a.c.Clock())))
}

func (a *API) endSession(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	id, err := pathID(r, "id")
	if err != nil {
		return err
	}
	c := caller(r, queryText(r, "reason"))
	done, err := a.c.Revoker.Revoke(ctx, session.RevocationRequest{
		Target: session.Target{Session: id}, Reason: c.Reason, Apps: c.Apps, Actor: c.Actor, RequestID: c.RequestID,
	})
	if errors.Is(err, auth.NotFound) {
		return errNoSession
	}
	if err != nil {
		return err
	}
	web.EventOf(ctx).Add(slog.Int("sessions_revoked", done.Sessions))
	return web.SecretJSON(w, http.StatusOK, a.revocationOf(&done))
}
