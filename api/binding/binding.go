// Package binding serves the endpoints where users see their own data: the identity,
// its devices, and the person that it is bound to.
//
// It owns /v1/me, /v1/sessions and /v1/binding, and not the rules of binding
// (pkg/binding). The session is read from the store on every request, so a session
// that ended a moment ago is refused. No answer tells when a session was last
// refreshed: a thief could time replays by it.
//
// It keeps no state. Without the database its requests fail with
// [auth.StorageUnavailable].
package binding

import (
	"context"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Sessions is the part of [session.Service] that the handlers use.
type Sessions interface {
	// Authenticate returns the live session of an access token.
	Authenticate(ctx context.Context, accessToken auth.Secret) (session.Bearer, error)
	// Sessions returns that session, and all live sessions of its identity.
	Sessions(ctx context.Context, accessToken auth.Secret) (current auth.Session, all []auth.Session, err error)
	// End ends one of them, and returns the session of the request's access token.
	End(ctx context.Context, r session.EndRequest) (auth.Session, error)
}

// Handler serves the endpoints.
type Handler struct {
	sessions Sessions
	bindings Bindings
}

// New returns the handler.
func New(sessions Sessions, bindings Bindings) *Handler { return &Handler{sessions, bindings} }

// Mount adds the routes.
func (h *Handler) Mount(r chi.Router) {
	r.Get("/v1/me", web.API(h.me))
	r.Get("/v1/sessions", web.API(h.list))
	r.Delete("/v1/sessions/{id}", web.API(h.end))
	r.Get("/v1/binding", web.API(noSecretInURL(h.show)))
	r.Post("/v1/binding", web.API(noSecretInURL(h.bind)))
	r.Delete("/v1/binding", web.API(noSecretInURL(h.unbind)))
	r.Post("/v1/binding/preview", web.API(noSecretInURL(h.preview)))
}

type meAnswer struct {
	UUID  uuid.UUID `json:"uuid"`
	Bound bool      `json:"bound"`
	// Person is null while unbound.
	Person  *web.Person   `json:"person"`
	Session sessionAnswer `json:"session"`
}

type sessionAnswer struct {
	ID        uuid.UUID `json:"id"`
	Device    string    `json:"device"`
	StartedAt time.Time `json:"started_at"`
	// ExpiresAt is the absolute end.
	ExpiresAt time.Time `json:"expires_at"`
}

func (h *Handler) me(w http.ResponseWriter, r *http.Request) error {
	token, err := web.BearerToken(r)
	if err != nil {
		return err
	}
	bearer, err := h.sessions.Authenticate(r.Context(), token)
	if err != nil {
		return err
	}
	s := bearer.Session
	logSession(r, &s)
	return web.SecretJSON(w, http.StatusOK, meAnswer{
		UUID:   s.Identity,
		Bound:  s.Bound(),
		Person: web.PersonOf(&s),
		Session: sessionAnswer{
			ID:        s.ID,
			Device:    s.Device,
			StartedAt: s.StartedAt.UTC().Truncate(time.Second),
			ExpiresAt: s.ExpiresAt.UTC().Truncate(time.Second),
		},
	})
}

// bearer returns the access token of a request, if it is valid. Handlers call it
// before they read the body, so that only bodies of logged-in users are parsed. The
// use case checks the token again.
func (h *Handler) bearer(r *http.Request) (auth.Secret, error) {
	token, err := web.BearerToken(r)
	if err != nil {
		return "", err
	}
	_, err = h.sessions.Authenticate(r.Context(), token)
	return token, err
}

// logSession adds the caller's session to the request's log line.
func logSession(r *http.Request, s *auth.Session) {
	web.EventOf(r.Context()).AddSubject(s.Subject())
}
