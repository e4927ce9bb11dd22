package binding

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

// Bindings is the part of [binding.Service] that the handlers use.
type Bindings interface {
	// Bind binds the identity of an access token to a person.
	Bind(ctx context.Context, r binding.Request) (binding.Grant, error)
	// Show returns the binding of that identity.
	Show(ctx context.Context, accessToken auth.Secret) (binding.View, error)
	// Preview returns the person to whom a ticket would bind.
	Preview(ctx context.Context, accessToken, ticket auth.Secret) (binding.Preview, error)
	// Unbind unbinds the identity.
	Unbind(ctx context.Context, accessToken auth.Secret, requestID string) (binding.Grant, error)
}

type bindRequest struct {
	Method auth.BindingMethod `json:"method"`
	Fields map[string]string  `json:"fields"`
	Code   string             `json:"code"`
	Ticket string             `json:"ticket"`
}

// grantAnswer is the current binding. The refresh token does not change.
type grantAnswer struct {
	Bound bool `json:"bound"`
	// Person is null while unbound.
	Person *web.Person `json:"person"`
	// AccessToken and ExpiresIn are absent when nothing changed, and when the
	// presented token expired during the call.
	AccessToken string `json:"access_token,omitempty"`
	ExpiresIn   int    `json:"expires_in,omitempty"`
}

func (h *Handler) bind(w http.ResponseWriter, r *http.Request) error {
	token, err := h.bearer(r)
	if err != nil {
		return err
	}
	var body bindRequest
	if err := web.ReadJSON(w, r, &body); err != nil {
		return err
	}
	event := web.EventOf(r.Context())
	g, err := h.bindings.Bind(r.Context(), binding.Request{
		AccessToken: token, Method: body.Method, Fields: body.Fields,
		Code: auth.Secret(body.Code), Ticket: auth.Secret(body.Ticket),
		Network: web.Network(web.ClientAddr(r.Context())).String(), RequestID: event.RequestID,
	})
	if g.Session.ID != uuid.Nil {
		logSession(r, &g.Session)
		event.Add(slog.String("method_of_binding", string(body.Method)))
	}
	if err != nil {
		return err
	}
	if g.Replaced > 0 {
		event.Add(slog.Int("replaced", g.Replaced))
	}
	return answer(w, r, g)
}

func (h *Handler) unbind(w http.ResponseWriter, r *http.Request) error {
	token, err := web.BearerToken(r)
	if err != nil {
		return err
	}
	g, err := h.bindings.Unbind(r.Context(), token, web.EventOf(r.Context()).RequestID)
	if g.Session.ID != uuid.Nil {
		logSession(r, &g.Session)
	}
	if err != nil {
		return err
	}
	return answer(w, r, g)
}

func answer(w http.ResponseWriter, r *http.Request, g binding.Grant) error {
	web.EventOf(r.Context()).Add(slog.Bool("changed", g.Changed))
	return web.SecretJSON(w, http.StatusOK, grantAnswer{
		Bound: g.Session.Bound(), Person: web.PersonOf(&g.Session),
		AccessToken: g.AccessToken.Reveal(), ExpiresIn: g.ExpiresIn,
	})
}

type viewAnswer struct {
	Bound bool `json:"bound"`
	// Person is null while unbound.
	Person     *web.Person    `json:"person"`
	Methods    []methodAnswer `json:"methods"`
	SelfUnbind bool           `json:"self_unbind"`
}

type methodAnswer struct {
	Method auth.BindingMethod `json:"method"`
	Fields []string           `json:"fields"`
}

func (h *Handler) show(w http.ResponseWriter, r *http.Request) error {
	token, err := web.BearerToken(r)
	if err != nil {
		return err
	}
	v, err := h.bindings.Show(r.Context(), token)
	if v.Session.ID != uuid.Nil {
		logSession(r, &v.Session)
	}
	if err != nil {
		return err
	}
	a := viewAnswer{
		Bound: v.Session.Bound(), Person: web.PersonOf(&v.Session),
		Methods: []methodAnswer{}, SelfUnbind: v.SelfUnbind,
	}
	for _, m := range v.Methods {
		fields := m.Fields
		if fields == nil {
			fields = []string{}
		}
		a.Methods = append(a.Methods, methodAnswer{m.Method, fields})
	}
	return web.SecretJSON(w, http.StatusOK, a)
}

type previewRequest struct {
	Ticket string `json:"ticket"`
}

type previewAnswer struct {
	// Name is masked.
	Name      string    `json:"name"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (h *Handler) preview(w http.ResponseWriter, r *http.Request) error {
	token, err := h.bearer(r)
	if err != nil {
		return err
	}
	var body previewRequest
	if err := web.ReadJSON(w, r, &body); err != nil {
		return err
	}
	p, err := h.bindings.Preview(r.Context(), token, auth.Secret(body.Ticket))
	if p.Session.ID != uuid.Nil {
		logSession(r, &p.Session)
	}
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, previewAnswer{p.Name, p.ExpiresAt.UTC().Truncate(time.Second)})
}

// noSecretInURL refuses a ticket or a code in the query, where a proxy logs it. The
// answer names the parameter and does not repeat its value.
func noSecretInURL(serve web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		query := r.URL.Query()
		for name, body := range map[string]string{"ticket": "POST /v1/binding/preview or POST /v1/binding", "code": "POST /v1/binding"} {
			if query.Has(name) {
				return auth.Invalid("Send " + name + " as a member of the JSON body of " + body + ", not in the URL: URLs end up in logs.")
			}
		}
		return serve(w, r)
	}
}
