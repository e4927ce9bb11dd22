package admin

import (
	"context"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// identityOf is an identity as answers show it to the key.
func identityOf(ctx context.Context, i *binding.IdentityRecord) IdentityRecord {
	answer := IdentityRecord{
		UUID: i.UUID, App: i.AppID, Person: uuidOrNull(i.Person), BoundAt: timeOrNull(i.BoundAt), BoundBy: textOrNull(i.BoundBy),
		Disabled: i.Disabled, PersonDisabled: i.PersonDisabled,
		CreatedAt: i.CreatedAt.UTC(), LastLoginAt: i.LastLoginAt.UTC(), ErasedAt: timeOrNull(i.ErasedAt),
	}
	if key := keyOf(ctx); key.Has(servicekey.ScopeOpenID) {
		answer.OpenID, answer.UnionID = textOrNull(i.OpenID), textOrNull(i.UnionID)
	}
	return answer
}

var errNoOpenID = &auth.Error{Code: auth.InsufficientScope, Description: "To search by openid or unionid it needs the scope openid."}

// ListIdentities implements [StrictServerInterface].
func (a *API) ListIdentities(ctx context.Context, r ListIdentitiesRequestObject) (ListIdentitiesResponseObject, error) {
	p := r.Params
	if key := keyOf(ctx); (p.Openid != nil || p.Unionid != nil) && !key.Has(servicekey.ScopeOpenID) {
		return nil, errNoOpenID
	}
	limit, after, err := pageOf(p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	person, err := personIn(p.Person)
	if err != nil {
		return nil, err
	}
	logTarget(ctx, &session.Target{Identity: value(p.UUID), Person: person, AppID: value(p.App)})
	var found []binding.IdentityRecord
	if p.UUID != nil {
		found, err = a.oneIdentity(ctx, &p, after)
	} else {
		found, err = a.c.Persons.Identities(ctx, binding.IdentityQuery{
			OpenID: value(p.Openid), UnionID: value(p.Unionid), Person: person, AppID: value(p.App),
			After: after, Limit: limit + 1,
		}, caller(ctx, nil))
	}
	if err != nil {
		return nil, err
	}
	answer := ListIdentities200JSONResponse{Identities: []IdentityRecord{}}
	found, answer.Next = cut(found, limit, func(i binding.IdentityRecord) string { return i.UUID.String() })
	for i := range found {
		answer.Identities = append(answer.Identities, identityOf(ctx, &found[i]))
	}
	return answer, nil
}

// oneIdentity finds the identity with a uuid, if the other parameters fit it.
func (a *API) oneIdentity(ctx context.Context, p *ListIdentitiesParams, after uuid.UUID) ([]binding.IdentityRecord, error) {
	i, err := a.c.Persons.Identity(ctx, *p.UUID, caller(ctx, nil))
	if auth.CodeOf(err) == auth.NotFound || err == nil && (after != uuid.Nil ||
		p.Openid != nil && *p.Openid != i.OpenID || p.Unionid != nil && *p.Unionid != i.UnionID ||
		p.Person != nil && *p.Person != i.Person || p.App != nil && *p.App != i.AppID) {
		return nil, nil
	}
	return []binding.IdentityRecord{i}, err
}

// GetIdentity implements [StrictServerInterface].
func (a *API) GetIdentity(ctx context.Context, r GetIdentityRequestObject) (GetIdentityResponseObject, error) {
	i, err := a.c.Persons.Identity(ctx, r.UUID, caller(ctx, nil))
	if err != nil {
		return nil, err
	}
	return GetIdentity200JSONResponse(identityOf(ctx, &i)), nil
}

// DisableIdentity implements [StrictServerInterface].
func (a *API) DisableIdentity(ctx context.Context, r DisableIdentityRequestObject) (DisableIdentityResponseObject, error) {
	i, err := a.c.Persons.DisableIdentity(ctx, r.UUID, caller(ctx, r.Body.Reason))
	if err != nil {
		return nil, err
	}
	return DisableIdentity200JSONResponse(identityOf(ctx, &i)), nil
}

// EnableIdentity implements [StrictServerInterface].
func (a *API) EnableIdentity(ctx context.Context, r EnableIdentityRequestObject) (EnableIdentityResponseObject, error) {
	i, err := a.c.Persons.EnableIdentity(ctx, r.UUID, caller(ctx, r.Body.Reason))
	if err != nil {
		return nil, err
	}
	return EnableIdentity200JSONResponse(identityOf(ctx, &i)), nil
}

// BindIdentity implements [StrictServerInterface].
func (a *API) BindIdentity(ctx context.Context, r BindIdentityRequestObject) (BindIdentityResponseObject, error) {
	// As for tickets.
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	if r.Body.Person == uuid.Nil {
		return nil, auth.Invalid("person is the id of a person")
	}
	logTarget(ctx, &session.Target{Person: r.Body.Person})
	i, err := a.c.Persons.BindIdentity(ctx, r.UUID, r.Body.Person, caller(ctx, r.Body.Reason))
	if err != nil {
		return nil, err
	}
	return BindIdentity200JSONResponse(identityOf(ctx, &i)), nil
}

// UnbindIdentity implements [StrictServerInterface].
func (a *API) UnbindIdentity(ctx context.Context, r UnbindIdentityRequestObject) (UnbindIdentityResponseObject, error) {
	i, err := a.c.Persons.UnbindIdentity(ctx, r.UUID, caller(ctx, r.Body.Reason))
	if err != nil {
		return nil, err
	}
	return UnbindIdentity200JSONResponse(identityOf(ctx, &i)), nil
}

// EraseIdentity implements [StrictServerInterface].
func (a *API) EraseIdentity(ctx context.Context, r EraseIdentityRequestObject) (EraseIdentityResponseObject, error) {
	if err := a.c.Persons.EraseIdentity(ctx, r.UUID, caller(ctx, r.Params.Reason)); err != nil {
		return nil, err
	}
	return EraseIdentity204Response{}, nil
}
