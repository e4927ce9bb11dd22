package admin_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestServiceKeys(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": a key is created, works, is listed without its secret, and is revoked", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			admin := w.key(t, "admin service")
			c := w.clientOf(t, admin)
			w.Clock.Advance(time.Minute)
			made := w.Clock.Now()
			resp, err := c.CreateServiceKey(t.Context(), adminclient.NewServiceKey{
				Name: "订单服务", Scope: "admin service", Apps: nil,
			})
			created := succeed(t, resp, err)
			if p, err := servicekey.Parse(auth.Secret(created.Key)); err != nil || p.ID != created.ID {
				t.Fatalf("CreateServiceKey() = %+v, %v; want a key with its id", created, err)
			}

			reader := w.clientWith(t, auth.Secret(created.Key))
			list, err := reader.ListServiceKeys(t.Context(), adminclient.Page{})
			if succeed(t, list, err); len(list.ServiceKeys) != 2 || list.Next != nil {
				t.Fatalf("ListServiceKeys() = %+v, want 2 keys and no next page", list)
			}
			got := list.ServiceKeys[1]
			got.LastUsedAt = nil // the use a moment ago is written in the background
			if d := cmp.Diff(adminclient.ServiceKey{
				ID: created.ID, Name: "订单服务", Scope: "service admin", Apps: []string{}, CreatedAt: made.Truncate(time.Microsecond),
				Creator: "service_key:" + admin.ID,
			}, got); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
			if secret := created.Key[len("yfk_")+17:]; strings.Contains(w.do(t, http.MethodGet, "/admin/v1/service-keys", created.Key, "", "").Body, secret) {
				t.Error("the list contains the secret")
			}

			for i := range 2 {
				resp, err := c.RevokeServiceKey(t.Context(), created.ID, adminclient.KeyRevocation{})
				gone := succeed(t, resp, err)
				if len(gone.Revoked) != 1-i || len(gone.Descendants) != 0 {
					t.Errorf("revocation %d: RevokeServiceKey() = %+v, want %d revoked keys and no descendants", i, resp, 1-i)
				}
			}
			w.Clock.Advance(servicekey.FreshFor)
			_, err = reader.ListServiceKeys(t.Context(), adminclient.Page{})
			failed(t, err, http.StatusUnauthorized, auth.ServiceKeyInvalid)
			list, err = c.ListServiceKeys(t.Context(), adminclient.Page{})
			if at := succeed(t, list, err).ServiceKeys[1].RevokedAt; at == nil || !at.Equal(made) {
				t.Errorf("revoked_at = %v, want %v", at, made)
			}
		})
	}
	t.Run("a key is restricted to apps that are registered", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		c := w.client(t, "admin service")
		apps := []string{sessiontest.OtherAppID, sessiontest.AppID}
		resp, err := c.CreateServiceKey(t.Context(), adminclient.NewServiceKey{Name: "x", Scope: "service", Apps: apps})
		id := succeed(t, resp, err).ID
		k, err := w.Store.ServiceKey(t.Context(), id)
		if err != nil || !slices.Equal(k.Apps, []string{sessiontest.AppID, sessiontest.OtherAppID}) {
			t.Errorf("got %v, error %v", k.Apps, err)
		}
		w.post(t, "/admin/v1/service-keys", w.key(t, "admin service"), `{"name":"x","scope":"service","apps":["wx404"]}`).want(t, 400, auth.InvalidRequest)
	})
	t.Run("a key is pinned to an app, and the pin is removed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		c := w.client(t, "admin")
		key, restricted := w.key(t, "service"), w.key(t, "service", sessiontest.AppID, sessiontest.OtherAppID)
		pin := func(id, app string) adminclient.ServiceKey {
			t.Helper()
			resp, err := c.UpdateServiceKey(t.Context(), id, adminclient.ServiceKeyUpdate{PinnedApp: app, Reason: "because"})
			return *succeed(t, resp, err)
		}
		for _, id := range []string{key.ID, restricted.ID} {
			if got := pin(id, sessiontest.AppID); got.ID != id || got.PinnedApp == nil || *got.PinnedApp != sessiontest.AppID {
				t.Errorf("pin = %+v, want %s pinned to the app", got, id)
			}
			if k, err := w.Store.ServiceKey(t.Context(), id); err != nil || k.Pinned() != sessiontest.AppID {
				t.Errorf("got %+v, error %v", k, err)
			}
			if got := pin(id, ""); got.PinnedApp != nil {
				t.Errorf("pin = %+v, want no pinned app", got)
			}
		}
		patch := func(id, body string) answer {
			return w.do(t, http.MethodPatch, "/admin/v1/service-keys/"+id, w.key(t, "admin").Key().Reveal(), "application/json", body)
		}
		patch(key.ID, `{"pinned_app":"wx404"}`).want(t, 400, auth.InvalidRequest)
		patch(key.ID, `{}`).want(t, 400, auth.InvalidRequest)
		patch(w.key(t, "service", sessiontest.AppID).ID, `{"pinned_app":"`+sessiontest.OtherAppID+`"}`).want(t, 400, auth.InvalidRequest)
		patch("0000000000000000", `{"pinned_app":""}`).want(t, 404, auth.NotFound)
	})
	t.Run("a list has pages", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		c := w.client(t, "admin")
		for range 4 {
			w.Clock.Advance(time.Second)
			w.key(t, "service")
		}
		all, err := w.Store.ServiceKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for _, k := range all {
			want = append(want, k.ID)
		}
		for _, k := range collect(t, c.ServiceKeys(t.Context(), adminclient.Page{Limit: 2})) {
			got = append(got, k.ID)
		}
		if !slices.Equal(got, want) || len(want) != 5 {
			t.Errorf("the pages contain %q, want %q", got, want)
		}
	})
}

func TestServiceKeysRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	key := w.key(t, "admin")
	for name, body := range map[string]string{
		"nothing":            `{}`,
		"no scope":           `{"name":"x"}`,
		"no name":            `{"scope":"service"}`,
		"an empty scope":     `{"name":"x","scope":""}`,
		"an unknown scope":   `{"name":"x","scope":"root"}`,
		"scopes with commas": `{"name":"x","scope":"service,read"}`,
		"scopes in a list":   `{"name":"x","scope":["service"]}`,
		"two spaces":         `{"name":"x","scope":"service  read"}`,
		"a malformed appid":  `{"name":"x","scope":"service","apps":["a-b"]}`,
		"apps as a text":     `{"name":"x","scope":"service","apps":"wx1"}`,
		"an unknown member":  `{"name":"x","scope":"service","id":"mine"}`,
	} {
		t.Run("a new key of "+name, func(t *testing.T) {
			t.Parallel()
			w.post(t, "/admin/v1/service-keys", key, body).want(t, 400, auth.InvalidRequest)
		})
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1&limit=2", "cursor=x", "cursor="} {
		t.Run("a list with "+query, func(t *testing.T) {
			t.Parallel()
			w.do(t, http.MethodGet, "/admin/v1/service-keys?"+query, key.Key().Reveal(), "", "").want(t, 400, auth.InvalidRequest)
		})
	}
	for _, id := range []string{"0000000000000000", "x", "A%20B", "..%2f"} {
		t.Run("revoking the key "+id, func(t *testing.T) {
			t.Parallel()
			w.do(t, http.MethodDelete, "/admin/v1/service-keys/"+id, key.Key().Reveal(), "", "").want(t, 404, auth.NotFound)
		})
	}
	for body, code := range map[string]auth.Code{
		`{"name":"x","scope":"admin","expires_in":59}`:                   auth.InvalidRequest,
		`{"name":"x","scope":"admin","expires_in":0}`:                    auth.InvalidRequest,
		`{"name":"x","scope":"admin","expires_in":-9223372036854775808}`: auth.InvalidRequest,
		`{"name":"x","scope":"admin","expires_in":9223372036854775807}`:  auth.InvalidRequest,
		`{"name":"x","scope":"admin","expires_in":"60"}`:                 auth.InvalidRequest,
		`{"name":"x","scope":"admin","reason":"a\u0000b"}`:               auth.InvalidRequest,
	} {
		t.Run("a new key of "+body, func(t *testing.T) {
			t.Parallel()
			if a := w.post(t, "/admin/v1/service-keys", key, body); a.Status != http.StatusBadRequest {
				t.Errorf("answer %d %s, want 400 %s", a.Status, a.Body, code)
			}
		})
	}
}

// nowhere is an id that does not exist.
const nowhere = "01936e2a-7b1c-7d3e-8f40-5a6b7c8d9e0f"
