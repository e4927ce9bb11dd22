package oauth

import (
	"net/http"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// revoke ends the session of a token (RFC 7009). It ignores token_type_hint; the
// token's format identifies it.
func (h *Handler) revoke(w http.ResponseWriter, r *http.Request) error {
	form, err := web.ReadForm(w, r)
	if err != nil {
		return err
	}
	clientID, err := web.PublicClient(r, form)
	if err != nil {
		return err
	}
	token, err := form.Require("token")
	if err != nil {
		return err
	}
	subject, err := h.sessions.Revoke(r.Context(), session.RevokeRequest{
		ClientID:  clientID,
		Token:     auth.Secret(token),
		RequestID: web.EventOf(r.Context()).RequestID,
	})
	if err != nil {
		return err
	}
	web.EventOf(r.Context()).AddSubject(subject)
	return web.SecretJSON(w, http.StatusOK, struct{}{})
}
