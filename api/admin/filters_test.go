package admin_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Whoever looks for somebody by a variable that is empty must not be answered
// everybody: he would take the first for the one he meant.
func TestParametersThatNameNobodyAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	w.person(t, w.client(t, "admin"), "1")
	w.Login("alice")
	key := w.key(t, "read openid").Key().Reveal()
	for _, target := range []string{
		"persons?external_id=", "persons?phone=", "persons?name=", "persons?external_id=&phone=%2B8613800001002",
		"identities?openid=", "identities?unionid=", "identities?app=",
		"identities?person=" + uuid.Nil.String(), "binding-delays?person=" + uuid.Nil.String(),
	} {
		w.do(t, http.MethodGet, "/admin/v1/"+target, key, "", "").want(t, 400, auth.InvalidRequest)
	}
}
