package binding_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func (w *world) logIn(t *testing.T, user, device string) session.Grant {
	t.Helper()
	g, err := w.Service.Exchange(t.Context(), session.ExchangeRequest{
		ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode(user)), Device: device,
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (w *world) sessions(t *testing.T, accessToken auth.Secret) answer {
	t.Helper()
	return w.do(t, http.MethodGet, "/v1/sessions", "Bearer "+accessToken.Reveal())
}

func (w *world) end(t *testing.T, accessToken auth.Secret, id string) answer {
	t.Helper()
	return w.do(t, http.MethodDelete, "/v1/sessions/"+id, "Bearer "+accessToken.Reveal())
}

func TestSessions(t *testing.T) {
	t.Parallel()
	t.Run("the user's devices are listed, the newest first, with the current one marked", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		phone := w.logIn(t, "alice", "Pixel 9")
		w.Clock.Advance(90 * time.Second)
		tablet := w.logIn(t, "alice", "")
		w.logIn(t, "bob", "Pixel 8")
		a := w.sessions(t, phone.AccessToken)
		if a.Status != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET /v1/sessions: status and headers = %d %v, want 200 and no-store", a.Status, a.Header)
		}
		if d := cmp.Diff(map[string]any{"sessions": []any{
			map[string]any{"id": tablet.Session.ID.String(), "device": "", "started_at": "2026-07-01T12:01:30Z", "current": false},
			map[string]any{"id": phone.Session.ID.String(), "device": "Pixel 9", "started_at": "2026-07-01T12:00:00Z", "current": true},
		}}, a.members(t)); d != "" {
			t.Errorf("mismatch (-want +got):\n%s", d)
		}
	})
	t.Run("a refresh does not change the list", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.logIn(t, "alice", "Pixel 9")
		first := w.sessions(t, g.AccessToken).Body
		for range 3 {
			w.Clock.Advance(5*time.Hour + 17*time.Minute + 321*time.Millisecond)
			g = w.refresh(t, g)
			if again := w.sessions(t, g.AccessToken).Body; again != first {
				t.Errorf("after a refresh: %s, before: %s", again, first)
			}
		}
	})
	t.Run("a caller without a live session is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		g := w.logIn(t, "alice", "")
		w.end(t, g.AccessToken, g.Session.ID.String())
		for token, want := range map[auth.Secret]string{g.AccessToken: "session_revoked", "garbage": "token_invalid"} {
			if a := w.sessions(t, token); a.Status != http.StatusUnauthorized || a.members(t)["code"] != want {
				t.Errorf("got %d %s, want %s", a.Status, a.Body, want)
			}
		}
		if a := w.do(t, http.MethodGet, "/v1/sessions"); a.Status != http.StatusUnauthorized || a.members(t)["code"] != "token_missing" {
			t.Errorf("GET /v1/sessions: status and body = %d %s, want 401 token_missing", a.Status, a.Body)
		}
	})
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	t.Run("another device is logged out at once, and repeating it is harmless", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		mine, lost := w.logIn(t, "alice", "this"), w.logIn(t, "alice", "that")
		for range 2 {
			if a := w.end(t, mine.AccessToken, lost.Session.ID.String()); a.Status != http.StatusNoContent || a.Body != "" || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("DELETE /v1/sessions/{id}: status, body and headers = %d %q %v, want 204 and no-store", a.Status, a.Body, a.Header)
			}
		}
		if a := w.me(t, lost.AccessToken); a.Status != http.StatusUnauthorized {
			t.Errorf("the lost device gets status %d, want 401", a.Status)
		}
		if a := w.sessions(t, mine.AccessToken); strings.Contains(a.Body, lost.Session.ID.String()) || !strings.Contains(a.Body, mine.Session.ID.String()) {
			t.Errorf("the sessions afterwards are %s, want only the current one", a.Body)
		}
	})
	t.Run("every session that is not the user's own gets the same not-found answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		mine, bobs := w.logIn(t, "alice", ""), w.logIn(t, "bob", "")
		var first string
		for _, id := range []string{
			bobs.Session.ID.String(), uuid.Must(uuid.NewV7()).String(), uuid.Nil.String(), "x", "a%00b",
			strings.ToUpper(mine.Session.ID.String()), strings.ReplaceAll(mine.Session.ID.String(), "-", ""),
		} {
			a := w.end(t, mine.AccessToken, id)
			m := a.members(t)
			delete(m, "request_id")
			if first == "" {
				first = m["detail"].(string)
			}
			if a.Status != http.StatusNotFound || m["code"] != "not_found" || m["detail"] != first {
				t.Errorf("%s: status and body = %d %s, want 404 not_found", id, a.Status, a.Body)
			}
		}
		if a := w.me(t, bobs.AccessToken); a.Status != http.StatusOK {
			t.Errorf("bob gets status %d, want 200", a.Status)
		}
	})
	t.Run("a caller without a live session ends nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		mine, lost := w.logIn(t, "alice", ""), w.logIn(t, "alice", "")
		w.end(t, lost.AccessToken, lost.Session.ID.String())
		if a := w.end(t, lost.AccessToken, mine.Session.ID.String()); a.Status != http.StatusUnauthorized || a.members(t)["code"] != "session_revoked" {
			t.Errorf("DELETE /v1/sessions/{id}: status and body = %d %s, want 401 session_revoked", a.Status, a.Body)
		}
		if a := w.me(t, mine.AccessToken); a.Status != http.StatusOK {
			t.Errorf("GET /v1/me: status and body = %d %s, want 200", a.Status, a.Body)
		}
	})
}
