package admin_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// mint makes a key with another key.
func (w *world) mint(t *testing.T, by servicekey.Presented, r adminclient.NewServiceKey) servicekey.Presented {
	t.Helper()
	r.Name = "minted"
	resp, err := w.clientOf(t, by).CreateServiceKey(t.Context(), r)
	p, err := servicekey.Parse(auth.Secret(succeed(t, resp, err).Key))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestKeyMintsNoGreaterKey checks that a new key has no more scopes and apps, and no
// later expiry, than the key that makes it.
func TestKeyMintsNoGreaterKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	const a, b = sessiontest.AppID, sessiontest.OtherAppID
	for name, c := range map[string]struct {
		by   servicekey.Presented
		body string
		code auth.Code // "" if the key may be made
	}{
		"admin may make admin":                                           {w.key(t, "admin"), `"scope":"admin"`, ""},
		"admin may make read":                                            {w.key(t, "admin"), `"scope":"read"`, ""},
		"admin may make support, persons and audit":                      {w.key(t, "admin"), `"scope":"support persons audit"`, ""},
		"admin may not make support with openid":                         {w.key(t, "admin"), `"scope":"support openid"`, auth.InsufficientScope},
		"support may not make keys":                                      {w.key(t, "support persons audit"), `"scope":"read"`, auth.InsufficientScope},
		"admin may not make service":                                     {w.key(t, "admin"), `"scope":"service"`, auth.InsufficientScope},
		"admin may not make read with openid":                            {w.key(t, "admin"), `"scope":"read openid"`, auth.InsufficientScope},
		"admin may not make decrypt":                                     {w.key(t, "admin"), `"scope":"decrypt"`, auth.InsufficientScope},
		"admin with service may make service":                            {w.key(t, "admin service"), `"scope":"service"`, ""},
		"service may not make keys":                                      {w.key(t, "service openid decrypt read"), `"scope":"read"`, auth.InsufficientScope},
		"a restricted key may make a key of its app":                     {w.key(t, "admin service", a), `"scope":"service","apps":["` + a + `"]`, ""},
		"a restricted key may make a key of some of its apps":            {w.key(t, "admin service", a, b), `"scope":"admin","apps":["` + b + `"]`, ""},
		"a restricted key may not make a key of all apps":                {w.key(t, "admin", a), `"scope":"admin"`, auth.InsufficientScope},
		"a restricted key may not make a key with an empty list of apps": {w.key(t, "admin", a), `"scope":"admin","apps":[]`, auth.InsufficientScope},
		"a restricted key may not make a key of another app":             {w.key(t, "admin", a), `"scope":"admin","apps":["` + b + `"]`, auth.InsufficientScope},
		"a restricted key may not make a key of its app and another":     {w.key(t, "admin", a), `"scope":"admin","apps":["` + a + `","` + b + `"]`, auth.InsufficientScope},
		"a key of all apps may make a restricted key":                    {w.key(t, "admin"), `"scope":"admin","apps":["` + a + `"]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.post(t, "/admin/v1/service-keys", c.by, `{"name":"x",`+c.body+`}`)
			if c.code != "" {
				answer.want(t, 403, c.code)
			} else if answer.Status != http.StatusCreated {
				t.Errorf("answer %d %s, want 201", answer.Status, answer.Body)
			}
		})
	}
}

func TestKeyExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	admin := w.key(t, "admin")
	hour := w.mint(t, admin, adminclient.NewServiceKey{Scope: "admin", ExpiresIn: ptr(3600)})
	ends := w.Clock.Now().Add(time.Hour).Truncate(time.Microsecond)
	stored := func(p servicekey.Presented) servicekey.Key {
		t.Helper()
		k, err := w.Store.ServiceKey(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if k := stored(hour); !k.ExpiresAt.Equal(ends) || k.Creator != auth.ActorServiceKey(admin.ID) {
		t.Errorf("expires_at = %v, creator = %s; want %v and the admin key", k.ExpiresAt, k.Creator, ends)
	}
	if k := stored(w.mint(t, hour, adminclient.NewServiceKey{Scope: "read"})); !k.ExpiresAt.Equal(ends) {
		t.Errorf("the new key expires at %v, want %v as the key that made it", k.ExpiresAt, ends)
	}
	w.post(t, "/admin/v1/service-keys", hour, `{"name":"x","scope":"read","expires_in":3601}`).want(t, 400, auth.InvalidRequest)

	list := func() answer {
		return w.do(t, http.MethodGet, "/admin/v1/service-keys", hour.Key().Reveal(), "", "")
	}
	w.Clock.Advance(time.Hour - time.Microsecond)
	if a := list(); a.Status != http.StatusOK {
		t.Errorf("before the expiry: GET /admin/v1/service-keys: status and body = %d %s, want 200", a.Status, a.Body)
	}
	w.Clock.Advance(time.Microsecond)
	list().want(t, 401, auth.ServiceKeyInvalid)
}

func TestRevokeDescendants(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": descendants are named, and revoked on request", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			root := w.key(t, "admin")
			thief := w.mint(t, root, adminclient.NewServiceKey{Scope: "admin"})
			hidden := w.mint(t, thief, adminclient.NewServiceKey{Scope: "admin"})
			w.Clock.Advance(servicekey.FreshFor)
			c := w.clientOf(t, root)
			resp, err := c.RevokeServiceKey(t.Context(), thief.ID, adminclient.KeyRevocation{Reason: "leaked"})
			done := succeed(t, resp, err)
			if !slices.Equal(done.Revoked, []string{thief.ID}) || len(done.Descendants) != 1 || done.Descendants[0].ID != hidden.ID || done.Descendants[0].Name != "minted" {
				t.Errorf("the answer is %+v, want the key revoked and its descendant named", resp)
			}
			w.Clock.Advance(servicekey.FreshFor)
			if a := w.do(t, http.MethodGet, "/admin/v1/service-keys", hidden.Key().Reveal(), "", ""); a.Status != http.StatusOK {
				t.Errorf("the descendant gets status %d, want 200", a.Status)
			}
			resp, err = c.RevokeServiceKey(t.Context(), thief.ID, adminclient.KeyRevocation{Descendants: true})
			done = succeed(t, resp, err)
			if !slices.Equal(done.Revoked, []string{hidden.ID}) || len(done.Descendants) != 0 {
				t.Errorf("the answer is %+v, want the descendant revoked", resp)
			}
			w.Clock.Advance(servicekey.FreshFor)
			w.do(t, http.MethodGet, "/admin/v1/service-keys", hidden.Key().Reveal(), "", "").want(t, 401, auth.ServiceKeyInvalid)
		})
	}
}

// TestRestrictedKeyManagesKeys checks that a restricted key sees and revokes only keys
// of its apps.
func TestRestrictedKeyManagesKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	const a, b = sessiontest.AppID, sessiontest.OtherAppID
	by := w.key(t, "admin service", a)
	mine := w.mint(t, by, adminclient.NewServiceKey{Scope: "service", Apps: []string{a}})
	others := []servicekey.Presented{w.key(t, "service"), w.key(t, "service", b), w.key(t, "service", a, b)}
	resp, err := w.clientOf(t, by).ListServiceKeys(t.Context(), adminclient.Page{})
	var listed []string
	for _, k := range succeed(t, resp, err).ServiceKeys {
		listed = append(listed, k.ID)
	}
	slices.Sort(listed)
	want := []string{by.ID, mine.ID}
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("the key lists %q, want %q", listed, want)
	}
	revoke := func(id string) answer {
		return w.do(t, http.MethodDelete, "/admin/v1/service-keys/"+id+"?descendants=true", by.Key().Reveal(), "", "")
	}
	for _, other := range others {
		revoke(other.ID).want(t, 404, auth.NotFound)
	}
	if answer := revoke(mine.ID); answer.Status != http.StatusOK {
		t.Errorf("answer %d %s, want 200", answer.Status, answer.Body)
	}
}
