package binding

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/session"
)

type listAnswer struct {
	Sessions []deviceAnswer `json:"sessions"`
}

// deviceAnswer is a session in the user's list. Its only time is the start: no value
// that a refresh changes is shown.
type deviceAnswer struct {
	ID        uuid.UUID `json:"id"`
	Device    string    `json:"device"`
	StartedAt time.Time `json:"started_at"`
	// Current reports whether it is the session of the request.
	Current bool `json:"current"`
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) error {
	token, err := web.BearerToken(r)
	if err != nil {
		return err
	}
	current, all, err := h.sessions.Sessions(r.Context(), token)
	if err != nil {
		return err
	}
	logSession(r, &current)
	answer := listAnswer{Sessions: []deviceAnswer{}}
	for i := range all {
		s := &all[i]
		answer.Sessions = append(answer.Sessions, deviceAnswer{
			ID: s.ID, Device: s.Device, StartedAt: s.StartedAt.UTC().Truncate(time.Second), Current: s.ID == current.ID,
		})
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

func (h *Handler) end(w http.ResponseWriter, r *http.Request) error {
	token, err := web.BearerToken(r)
	if err != nil {
		return err
	}
	id := parseID(chi.URLParam(r, "id")) // no session has the zero id
	current, err := h.sessions.End(r.Context(), session.EndRequest{
		AccessToken: token, Session: id, RequestID: web.EventOf(r.Context()).RequestID,
	})
	if current.ID != uuid.Nil {
		logSession(r, &current)
	}
	if err != nil {
		return err
	}
	web.EventOf(r.Context()).Add(slog.String("ended", id.String()))
	return web.NoContent(w)
}

// parseID reads a session's id in its canonical form, and returns the zero id for
// any other text.
func parseID(s string) uuid.UUID {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return uuid.Nil
	}
	return id
}
