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

// mint has a key make another one.
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

// TestAKeyMakesNoGreaterKey holds that what a key makes has no more scopes and apps,
// and no more time, than the key.
func TestAKeyMakesNoGreaterKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	const a, b = sessiontest.AppID, sessiontest.OtherAppID
	for name, c := range map[string]struct {
		by   servicekey.Presented
		body string
		code auth.Code // "" for one that it may make
	}{
		"admin makes admin":                       {w.key(t, "admin"), `"scope":"admin"`, ""},
		"admin makes read":                        {w.key(t, "admin"), `"scope":"read"`, ""},
		"admin makes no service":                  {w.key(t, "admin"), `"scope":"service"`, auth.InsufficientScope},
		"admin makes no openid beside read":       {w.key(t, "admin"), `"scope":"read openid"`, auth.InsufficientScope},
		"admin makes no decrypt":                  {w.key(t, "admin"), `"scope":"decrypt"`, auth.InsufficientScope},
		"with service it makes service":           {w.key(t, "admin service"), `"scope":"service"`, ""},
		"service makes nothing":                   {w.key(t, "service openid decrypt read"), `"scope":"read"`, auth.InsufficientScope},
		"a restricted one makes one of its app":   {w.key(t, "admin service", a), `"scope":"service","apps":["` + a + `"]`, ""},
		"of some of its apps":                     {w.key(t, "admin service", a, b), `"scope":"admin","apps":["` + b + `"]`, ""},
		"and none of all apps":                    {w.key(t, "admin", a), `"scope":"admin"`, auth.InsufficientScope},
		"nor with an empty list":                  {w.key(t, "admin", a), `"scope":"admin","apps":[]`, auth.InsufficientScope},
		"nor of another app":                      {w.key(t, "admin", a), `"scope":"admin","apps":["` + b + `"]`, auth.InsufficientScope},
		"nor of another app beside its own":       {w.key(t, "admin", a), `"scope":"admin","apps":["` + a + `","` + b + `"]`, auth.InsufficientScope},
		"one for all apps makes a restricted one": {w.key(t, "admin"), `"scope":"admin","apps":["` + a + `"]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.post(t, "/admin/v1/service-keys", c.by, `{"name":"x",`+c.body+`}`)
			if c.code != "" {
				answer.want(t, 403, c.code)
			} else if answer.Status != http.StatusCreated {
				t.Errorf("%d %s, want 201", answer.Status, answer.Body)
			}
		})
	}
}

func TestAKeyThatExpires(t *testing.T) {
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
		t.Errorf("expires at %v, made by %s; want %v and the admin key", k.ExpiresAt, k.Creator, ends)
	}
	if k := stored(w.mint(t, hour, adminclient.NewServiceKey{Scope: "read"})); !k.ExpiresAt.Equal(ends) {
		t.Errorf("what it makes expires at %v, want with it at %v", k.ExpiresAt, ends)
	}
	w.post(t, "/admin/v1/service-keys", hour, `{"name":"x","scope":"read","expires_in":3601}`).want(t, 400, auth.InvalidRequest)

	list := func() answer {
		return w.do(t, http.MethodGet, "/admin/v1/service-keys", hour.Key().Reveal(), "", "")
	}
	w.Clock.Advance(time.Hour - time.Microsecond)
	if a := list(); a.Status != http.StatusOK {
		t.Errorf("before it expires: %d %s", a.Status, a.Body)
	}
	w.Clock.Advance(time.Microsecond)
	list().want(t, 401, auth.ServiceKeyInvalid)
}

func TestRevokingTheDescendants(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind, func(t *testing.T) {
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
				t.Errorf("the answer is %+v, want the key revoked and the one that it made named", resp)
			}
			w.Clock.Advance(servicekey.FreshFor)
			if a := w.do(t, http.MethodGet, "/admin/v1/service-keys", hidden.Key().Reveal(), "", ""); a.Status != http.StatusOK {
				t.Errorf("the descendant is answered %d, want 200", a.Status)
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

// TestARestrictedKeyManagesKeysOfItsApps holds that it sees and revokes no others.
func TestARestrictedKeyManagesKeysOfItsApps(t *testing.T) {
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
		t.Errorf("it lists %q, want %q", listed, want)
	}
	revoke := func(id string) answer {
		return w.do(t, http.MethodDelete, "/admin/v1/service-keys/"+id+"?descendants=true", by.Key().Reveal(), "", "")
	}
	for _, other := range others {
		revoke(other.ID).want(t, 404, auth.NotFound)
	}
	if answer := revoke(mine.ID); answer.Status != http.StatusOK {
		t.Errorf("%d %s, want 200", answer.Status, answer.Body)
	}
}
