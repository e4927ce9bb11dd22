package admin

import (
	"context"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/session"
)

// A delay is named by its kind and key, in one opaque word: keys of networks have
// slashes.
func delayID(k binding.AttemptKey) string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(k.Kind) + ":" + k.Key))
}

func parseDelayID(id string) (binding.AttemptKey, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil {
		return binding.AttemptKey{}, false
	}
	kind, key, ok := strings.Cut(string(b), ":")
	k := binding.AttemptKey{Kind: binding.AttemptKind(kind), Key: key}
	kinds := []binding.AttemptKind{binding.ByIdentity, binding.ByValue, binding.ByAddress}
	return k, ok && auth.CleanText(key) && slices.Contains(kinds, k.Kind)
}

// delayOf is a counter as answers show it.
func delayOf(a *binding.Attempts, q *binding.AttemptQuery) BindingDelay {
	d := BindingDelay{
		ID: delayID(a.AttemptKey), Kind: BindingDelayKind(a.Kind), Failures: a.Failures, LastAttemptAt: a.At.UTC(),
	}
	if a.BlockedUntil.After(q.Now) {
		d.DelayedUntil = timeOrNull(a.BlockedUntil)
	}
	switch a.Kind {
	case binding.ByIdentity:
		if id, err := uuid.Parse(a.Key); err == nil {
			d.UUID = &id
		}
	case binding.ByAddress:
		address, app := a.Address()
		d.App = &app
		if p, err := netip.ParsePrefix(address); err == nil && p.IsSingleIP() {
			address = p.Addr().String()
		}
		d.Address = &address
	case binding.ByValue:
		d.Person = uuidOrNull(a.Person)
	}
	return d
}

// ListBindingDelays implements [StrictServerInterface].
func (a *API) ListBindingDelays(ctx context.Context, r ListBindingDelaysRequestObject) (ListBindingDelaysResponseObject, error) {
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	p := r.Params
	limit, err := limitOf(p.Limit)
	if err != nil {
		return nil, err
	}
	person, err := personIn(p.Person)
	if err != nil {
		return nil, err
	}
	logTarget(ctx, &session.Target{Identity: value(p.UUID), Person: person})
	q := binding.AttemptQuery{Person: person, Delayed: value(p.Delayed), Now: a.c.Clock(), Limit: limit + 1}
	if p.UUID != nil && p.Address != nil {
		return nil, auth.Invalid("Name a uuid or an address, not both.")
	}
	if p.UUID != nil {
		k := binding.IdentityKey(*p.UUID)
		q.Kind, q.Key = k.Kind, k.Key
	}
	if p.Address != nil {
		addr, err := netip.ParseAddr(*p.Address)
		if err != nil || addr.Zone() != "" {
			return nil, auth.Invalid("address is an IPv4 or IPv6 address")
		}
		q.Kind, q.Key = binding.ByAddress, web.Network(addr).String()
	}
	if p.Cursor != nil {
		var ok bool
		if q.After, ok = parseDelayID(*p.Cursor); !ok {
			return nil, errCursor
		}
	}
	found, err := a.c.Persons.Attempts(ctx, q)
	if err != nil {
		return nil, err
	}
	answer := ListBindingDelays200JSONResponse{BindingDelays: []BindingDelay{}}
	found, answer.Next = cut(found, limit, func(a binding.Attempts) string { return delayID(a.AttemptKey) })
	for i := range found {
		answer.BindingDelays = append(answer.BindingDelays, delayOf(&found[i], &q))
	}
	return answer, nil
}

// LiftBindingDelay implements [StrictServerInterface].
func (a *API) LiftBindingDelay(ctx context.Context, r LiftBindingDelayRequestObject) (LiftBindingDelayResponseObject, error) {
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	key, ok := parseDelayID(r.ID)
	if !ok {
		return nil, &auth.Error{Code: auth.NotFound, Description: "There are no failed attempts that count."}
	}
	if err := a.c.Persons.LiftDelay(ctx, key, caller(ctx, r.Params.Reason)); err != nil {
		return nil, err
	}
	return LiftBindingDelay204Response{}, nil
}
