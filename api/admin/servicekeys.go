package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// ListServiceKeys implements [StrictServerInterface].
func (a *API) ListServiceKeys(ctx context.Context, r ListServiceKeysRequestObject) (ListServiceKeysResponseObject, error) {
	limit, err := limitOf(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	keys, err := a.c.Keys.ServiceKeys(ctx)
	if err != nil {
		return nil, err
	}
	by := keyOf(ctx)
	keys = slices.DeleteFunc(keys, func(k servicekey.Key) bool { return !by.Manages(&k) })
	// There are tens of keys, and none is ever deleted: a page is cut out of
	// them all, and the id of its last one is a good cursor.
	if cursor := r.Params.Cursor; cursor != nil {
		at := slices.IndexFunc(keys, func(k servicekey.Key) bool { return k.ID == *cursor })
		if at < 0 {
			return nil, errCursor
		}
		keys = keys[at+1:]
	}
	answer := ListServiceKeys200JSONResponse{ServiceKeys: []ServiceKey{}}
	if len(keys) > limit {
		keys = keys[:limit]
		answer.Next = &keys[limit-1].ID
	}
	for _, k := range keys {
		answer.ServiceKeys = append(answer.ServiceKeys, serviceKeyOf(&k))
	}
	return answer, nil
}

// serviceKeyOf is a service key as answers show it.
func serviceKeyOf(k *servicekey.Key) ServiceKey {
	return ServiceKey{
		ID: k.ID, Name: k.Name, Scope: servicekey.ScopeText(k.Scopes), Apps: append([]AppID{}, k.Apps...),
		PinnedApp: textOrNull(k.Pinned()),
		Creator:   k.Creator, ExpiresAt: timeOrNull(k.ExpiresAt),
		CreatedAt: k.CreatedAt.UTC(), LastUsedAt: timeOrNull(k.LastUsedAt), RevokedAt: timeOrNull(k.RevokedAt),
	}
}

// UpdateServiceKey implements [StrictServerInterface].
func (a *API) UpdateServiceKey(ctx context.Context, r UpdateServiceKeyRequestObject) (UpdateServiceKeyResponseObject, error) {
	by, err := a.keyEvent(ctx, r.Body.Reason)
	if err != nil {
		return nil, err
	}
	k, err := servicekey.Pin(ctx, a.c.Keys, a.c.Apps, r.ID, r.Body.PinnedApp, by)
	if errors.Is(err, auth.NotFound) {
		return nil, errNoServiceKey
	}
	if err != nil {
		return nil, err
	}
	return UpdateServiceKey200JSONResponse(serviceKeyOf(&k)), nil
}

var errNoServiceKey = &auth.Error{Code: auth.NotFound, Description: "There is no service key with this id."}

// CreateServiceKey implements [StrictServerInterface].
func (a *API) CreateServiceKey(ctx context.Context, r CreateServiceKeyRequestObject) (CreateServiceKeyResponseObject, error) {
	event, err := a.reasoned(ctx, r.Body.Reason)
	if err != nil {
		return nil, err
	}
	draft, err := servicekey.NewDraft(r.Body.Name, strings.Split(r.Body.Scope, " "), value(r.Body.Apps))
	if err != nil {
		return nil, err
	}
	if in := r.Body.ExpiresIn; in != nil {
		// More seconds than this would overflow.
		ttl := time.Duration(min(max(*in, 0), int(2*servicekey.MaxTTL/time.Second))) * time.Second
		if draft, err = draft.ExpireIn(ttl, event.At); err != nil {
			return nil, err
		}
	}
	by := keyOf(ctx)
	if draft, err = by.Mint(draft); err != nil {
		return nil, err
	}
	k, p, err := servicekey.Create(ctx, a.c.Keys, a.c.Apps, draft, event)
	if err != nil {
		return nil, err
	}
	web.EventOf(ctx).Add(nameAttr("key", k.ID)...)
	return CreateServiceKey201JSONResponse{ID: k.ID, Key: p.Key().Reveal(), ExpiresAt: timeOrNull(k.ExpiresAt)}, nil
}

// RevokeServiceKey implements [StrictServerInterface].
func (a *API) RevokeServiceKey(ctx context.Context, r RevokeServiceKeyRequestObject) (RevokeServiceKeyResponseObject, error) {
	event, err := a.reasoned(ctx, r.Params.Reason)
	if err != nil {
		return nil, err
	}
	// A key's apps never change, so this may be asked before.
	k, err := a.c.Keys.ServiceKey(ctx, r.ID)
	by := keyOf(ctx)
	if errors.Is(err, auth.NotFound) || err == nil && !by.Manages(&k) {
		return nil, errNoServiceKey
	}
	if err != nil {
		return nil, err
	}
	done, err := servicekey.Revoke(ctx, a.c.Keys, r.ID, value(r.Params.Descendants), event)
	if err != nil {
		return nil, err
	}
	answer := RevokeServiceKey200JSONResponse{}
	answer.Revoked = []ServiceKeyID{}
	for _, k := range done.Revoked {
		answer.Revoked = append(answer.Revoked, k.ID)
	}
	answer.Descendants = make([]struct {
		ID   ServiceKeyID `json:"id"`
		Name string       `json:"name"`
	}, len(done.Living))
	for i, k := range done.Living {
		answer.Descendants[i].ID, answer.Descendants[i].Name = k.ID, k.Name
	}
	return answer, nil
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
