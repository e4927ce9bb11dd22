package session

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// MaxListed is the maximum number of sessions that [Service.Sessions] returns.
const MaxListed = 100

// Sessions authenticates an access token and returns its session, and all live
// sessions of the same identity, the newest first.
//
// Errors: those of [Service.Authenticate].
func (s *Service) Sessions(ctx context.Context, accessToken auth.Secret) (current auth.Session, all []auth.Session, err error) {
	bearer, err := s.Authenticate(ctx, accessToken)
	if err != nil {
		return auth.Session{}, nil, err
	}
	current = bearer.Session
	all, err = s.c.Store.LiveSessions(ctx, current.Identity, s.now(), MaxListed)
	if err != nil {
		return auth.Session{}, nil, auth.About(err, current.Subject())
	}
	return current, all, nil
}

// EndRequest asks to end a session of the identity of the access token.
type EndRequest struct {
	AccessToken auth.Secret
	// Session is the session to end; it may be that of the access token.
	Session   uuid.UUID
	RequestID string
}

// End ends a session of the identity of the access token, and returns the session of
// the token. A session that has ended already is no error.
//
// Errors: those of [Service.Authenticate], and [auth.NotFound] for a session
// of another identity and for one that does not exist.
func (s *Service) End(ctx context.Context, r EndRequest) (auth.Session, error) {
	bearer, err := s.Authenticate(ctx, r.AccessToken)
	if err != nil {
		return auth.Session{}, err
	}
	current := bearer.Session
	// A session keeps its identity and its app for life, so what is read here
	// still holds when it is ended.
	st, err := s.c.Store.Session(ctx, r.Session)
	if errors.Is(err, auth.SessionRevoked) || err == nil && st.Session.Identity != current.Identity {
		return current, errNoSession
	}
	if err != nil {
		return current, err
	}
	var detail map[string]any
	if r.Session != current.ID {
		detail = map[string]any{"by_session": current.ID}
	}
	return current, s.logOut(ctx, r.Session, st.Session.AppID, r.RequestID, detail)
}

var errNoSession = &auth.Error{Code: auth.NotFound, Description: "You do not have a session with this id."}
