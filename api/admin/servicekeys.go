package admin

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

func (a *API) listServiceKeys(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	keys, err := a.c.Keys.ServiceKeys(r.Context())
	if err != nil {
		return err
	}
	by := keyOf(r.Context())
	keys = slices.DeleteFunc(keys, func(k servicekey.Key) bool { return !by.Manages(&k) })
	// There are tens of keys, and no key is ever deleted: a page is cut from all of
	// them, and the id of its last key is its cursor.
	if cursor := queryText(r, "cursor"); cursor != "" {
		at := slices.IndexFunc(keys, func(k servicekey.Key) bool { return k.ID == cursor })
		if at < 0 {
			return errCursor
		}
		keys = keys[at+1:]
	}
	answer := adminclient.ServiceKeyList{ServiceKeys: []adminclient.ServiceKey{}}
	keys, answer.Next = cutPage(keys, limit, func(k servicekey.Key) string { return k.ID })
	for _, k := range keys {
		answer.ServiceKeys = append(answer.ServiceKeys, serviceKeyOf(&k))
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

// serviceKeyOf returns a service key for an answer.
func serviceKeyOf(k *servicekey.Key) adminclient.ServiceKey {
	return adminclient.ServiceKey{
		ID: k.ID, Name: k.Name, Scope: servicekey.ScopeText(k.Scopes), Apps: append([]adminclient.AppID{}, k.Apps...),
		PinnedApp: textOrNull(k.Pinned()),
		Creator:   k.Creator, ExpiresAt: timeOrNull(k.ExpiresAt),
		CreatedAt: k.CreatedAt.UTC(), LastUsedAt: timeOrNull(k.LastUsedAt), RevokedAt: timeOrNull(k.RevokedAt),
	}
}

// serviceKeyUpdate is the body of updateServiceKey. An empty pinned_app removes the
// pin, a missing one is an error.
type serviceKeyUpdate struct {
	PinnedApp *string `json:"pinned_app"`
	Reason    string  `json:"reason"`
}

func (a *API) updateServiceKey(w http.ResponseWriter, r *http.Request) error {
	id, err := pathText(r, "id")
	if err != nil {
		return err
	}
	body, err := readBody[serviceKeyUpdate](w, r)
	if err != nil {
		return err
	}
	if body.PinnedApp == nil {
		return auth.Invalid("pinned_app is missing: send the appid to pin the key to, or an empty string to remove the pin")
	}
	by, err := a.event(r, body.Reason)
	if err != nil {
		return err
	}
	k, err := servicekey.Pin(r.Context(), a.c.Keys, a.c.AppStore, id, *body.PinnedApp, by)
	if errors.Is(err, auth.NotFound) {
		return errNoServiceKey
	}
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, serviceKeyOf(&k))
}

var errNoServiceKey = &auth.Error{Code: auth.NotFound, Description: "No service key has this id."}

func (a *API) createServiceKey(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	body, err := readBody[adminclient.NewServiceKey](w, r)
	if err != nil {
		return err
	}
	event, err := a.event(r, body.Reason)
	if err != nil {
		return err
	}
	draft, err := servicekey.NewDraft(body.Name, strings.Split(body.Scope, " "), body.Apps)
	if err != nil {
		return err
	}
	if in := body.ExpiresIn; in != nil {
		// The bounds keep the product from overflowing.
		ttl := time.Duration(min(max(*in, 0), int(2*servicekey.MaxTTL/time.Second))) * time.Second
		if draft, err = draft.ExpireIn(ttl, event.At); err != nil {
			return err
		}
	}
	by := keyOf(ctx)
	if draft, err = by.Mint(draft); err != nil {
		return err
	}
	k, p, err := servicekey.Create(ctx, a.c.Keys, a.c.AppStore, draft, event)
	if err != nil {
		return err
	}
	web.EventOf(ctx).Add(nameAttr("key", k.ID)...)
	return web.SecretJSON(w, http.StatusCreated, adminclient.CreatedServiceKey{ID: k.ID, Key: p.Key().Reveal(), ExpiresAt: timeOrNull(k.ExpiresAt)})
}

func (a *API) revokeServiceKey(w http.ResponseWriter, r *http.Request) error {
	id, err := pathText(r, "id")
	if err != nil {
		return err
	}
	descendants, err := queryValue(r, "descendants", strconv.ParseBool)
	if err != nil {
		return err
	}
	event, err := a.event(r, queryText(r, "reason"))
	if err != nil {
		return err
	}
	// A key's apps never change, so they may be read before the transaction.
	k, err := a.c.Keys.ServiceKey(r.Context(), id)
	by := keyOf(r.Context())
	if errors.Is(err, auth.NotFound) || err == nil && !by.Manages(&k) {
		return errNoServiceKey
	}
	if err != nil {
		return err
	}
	done, err := servicekey.Revoke(r.Context(), a.c.Keys, id, value(descendants), event)
	if err != nil {
		return err
	}
	answer := adminclient.RevokedServiceKeys{Revoked: []adminclient.ServiceKeyID{}, Descendants: []adminclient.DescendantKey{}}
	for _, k := range done.Revoked {
		answer.Revoked = append(answer.Revoked, k.ID)
	}
	for _, k := range done.Living {
		answer.Descendants = append(answer.Descendants, adminclient.DescendantKey{ID: k.ID, Name: k.Name})
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}
