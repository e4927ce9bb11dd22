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

// The log line of an admin request has the target's id, under the name that the
// lines of user requests have: a search for a uuid finds both. Only a value with the
// form of an id is logged: a secret that was pasted into a path is not.

// pathTarget returns the attributes for the ids in the path of a request.
func pathTarget(r *http.Request) []slog.Attr {
	param := func(name string) string {
		text, err := pathText(r, name)
		if err != nil || looksLikeAppSecret(text) {
			return ""
		}
		return text
	}
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

// looksLikeAppSecret reports whether a text has the form of a WeChat AppSecret: 32
// hexadecimal digits. A UUID without hyphens and a made-up appid may have it too.
func looksLikeAppSecret(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// idAttr returns the id in its canonical form, however the path spells it.
func idAttr(name, value string) []slog.Attr {
	id, err := uuid.Parse(value)
	if err != nil {
		return nil
	}
	return []slog.Attr{slog.String(name, id.String())}
}

// maxName is the length of a kid: longer than the id of a service key, shorter than
// any token.
const maxName = 43

func nameAttr(name, value string) []slog.Attr {
	if value == "" || len(value) > maxName || strings.HasPrefix(value, "yf") || strings.Trim(value, nameAlphabet) != "" {
		return nil
	}
	return []slog.Attr{slog.String(name, value)}
}

const nameAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// logTarget logs the ids in the query or the body of a request.
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
