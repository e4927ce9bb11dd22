package admin

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// identityOf returns the view of an identity for the key of the request.
func identityOf(r *http.Request, i *person.IdentityRecord) adminclient.Identity {
	answer := adminclient.Identity{
		UUID: i.UUID, App: i.AppID, Person: uuidOrNull(i.Person), BoundAt: timeOrNull(i.BoundAt), BoundBy: textOrNull(i.BoundBy),
		Disabled: i.Disabled, PersonDisabled: i.PersonDisabled,
		CreatedAt: i.CreatedAt.UTC(), LastLoginAt: i.LastLoginAt.UTC(), ErasedAt: timeOrNull(i.ErasedAt),
	}
	if key := keyOf(r.Context()); key.Has(servicekey.ScopeOpenID) {
		answer.OpenID, answer.UnionID = i.OpenID(), i.UnionID
	}
	return answer
}

func (a *API) listIdentities(w http.ResponseWriter, r *http.Request) error {
	limit, after, err := pageOf(r)
	if err != nil {
		return err
	}
	q := person.IdentityQuery{
		OpenID: queryText(r, "openid"), UnionID: queryText(r, "unionid"), AppID: queryText(r, "app"),
		After: after, Limit: limit + 1,
	}
	if q.OpenID != "" || q.UnionID != "" {
		if err := a.require(r, servicekey.ScopeOpenID); err != nil {
			return err
		}
	}
	if q.Person, err = queryID(r, "person"); err != nil {
		return err
	}
	id, err := queryID(r, "uuid")
	if err != nil {
		return err
	}
	logTarget(r.Context(), &session.Target{Identity: id, Person: q.Person, AppID: q.AppID})
	var found []person.IdentityRecord
	if id != uuid.Nil {
		found, err = a.oneIdentity(r, id, &q)
	} else {
		found, err = a.c.Persons.Identities(r.Context(), q, caller(r, ""))
	}
	if err != nil {
		return err
	}
	answer := adminclient.IdentityList{Identities: []adminclient.Identity{}}
	found, answer.Next = cutPage(found, limit, func(i person.IdentityRecord) string { return i.UUID.String() })
	for i := range found {
		answer.Identities = append(answer.Identities, identityOf(r, &found[i]))
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

// oneIdentity finds the identity with an id, if the other parameters fit it.
func (a *API) oneIdentity(r *http.Request, id uuid.UUID, q *person.IdentityQuery) ([]person.IdentityRecord, error) {
	i, err := a.c.Persons.Identity(r.Context(), id, caller(r, ""))
	if auth.CodeOf(err) == auth.NotFound || err == nil && (q.After != uuid.Nil ||
		q.OpenID != "" && q.OpenID != i.OpenID() || q.UnionID != "" && q.UnionID != i.UnionID ||
		q.Person != uuid.Nil && q.Person != i.Person || q.AppID != "" && q.AppID != i.AppID) {
		return nil, nil
	}
	return []person.IdentityRecord{i}, err
}

func (a *API) getIdentity(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "uuid")
	if err != nil {
		return err
	}
	i, err := a.c.Persons.Identity(r.Context(), id, caller(r, ""))
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, identityOf(r, &i))
}

// switchIdentity serves a change of an identity whose only parameter is a reason.
func (a *API) switchIdentity(change func(*person.Service, context.Context, uuid.UUID, auth.Caller) (person.IdentityRecord, error)) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := pathID(r, "uuid")
		if err != nil {
			return err
		}
		body, err := readOptional[adminclient.ReasonRequest](w, r)
		if err != nil {
			return err
		}
		i, err := change(a.c.Persons, r.Context(), id, caller(r, body.Reason))
		if err != nil {
			return err
		}
		return web.SecretJSON(w, http.StatusOK, identityOf(r, &i))
	}
}

// bindIdentity binds a user to a person. As at [API.createBindTicket], keys that are
// restricted to apps may not.
func (a *API) bindIdentity(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "uuid")
	if err != nil {
		return err
	}
	body, err := readBody[adminclient.BindIdentityRequest](w, r)
	if err != nil {
		return err
	}
	if body.Person == uuid.Nil {
		return auth.Invalid("person must be the id of a person")
	}
	logTarget(r.Context(), &session.Target{Person: body.Person})
	i, err := a.c.Persons.BindIdentity(r.Context(), id, body.Person, caller(r, body.Reason))
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, identityOf(r, &i))
}

func (a *API) eraseIdentity(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "uuid")
	if err != nil {
		return err
	}
	if err := a.c.Persons.EraseIdentity(r.Context(), id, caller(r, queryText(r, "reason"))); err != nil {
		return err
	}
	return web.NoContent(w)
}
