package admin

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// What an admin's request is about goes into its log line, by the names that the
// lines of users have: a search for a uuid finds both. Only what has the form of
// an identifier does: a secret that somebody pasted into a path does not.

// pathTarget returns what the path of a request names.
func pathTarget(r *http.Request) []slog.Attr {
	param := func(name string) string { return chi.URLParam(r, name) }
	resource, _, _ := strings.Cut(strings.TrimPrefix(chi.RouteContext(r.Context()).RoutePattern(), "/admin/v1/"), "/")
	switch resource {
	case "identities":
		return idAttr("uuid", param("uuid"))
	case "sessions":
		return idAttr("session", param("id"))
	case "persons":
		return idAttr("person", param("id"))
	case "apps":
		if id := param("appid"); auth.ValidAppID(id) {
			return []slog.Attr{slog.String("app", id)}
		}
	case "signing-keys":
		return nameAttr("kid", param("kid"))
	case "service-keys":
		return nameAttr("key", param("id"))
	case "binding-delays":
		if k, ok := parseDelayID(param("id")); ok && k.Kind == auth.AttemptIdentity {
			return idAttr("uuid", k.Key)
		}
	}
	return nil
}

func idAttr(name, value string) []slog.Attr {
	id, err := uuid.Parse(value)
	if err != nil || id.String() != value {
		return nil
	}
	return []slog.Attr{slog.String(name, value)}
}

// maxName is the length of a kid, which is longer than the id of a service key
// and shorter than any token.
const maxName = 43

func nameAttr(name, value string) []slog.Attr {
	if value == "" || len(value) > maxName || strings.HasPrefix(value, "yf") || strings.Trim(value, nameAlphabet) != "" {
		return nil
	}
	return []slog.Attr{slog.String(name, value)}
}

const nameAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// logTarget adds what a request names elsewhere than in its path.
func logTarget(ctx context.Context, t *session.Target) {
	event := web.EventOf(ctx)
	event.AddSubject(auth.Subject{Identity: t.Identity, Session: t.Session})
	if t.Person != uuid.Nil {
		event.Add(slog.String("person", t.Person.String()))
	}
	if auth.ValidAppID(t.AppID) {
		event.Add(slog.String("app", t.AppID))
	}
	if t.All {
		event.Add(slog.Bool("all", true))
	}
}
