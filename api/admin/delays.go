package admin

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// delayID returns the id of a delay: its encoded kind and key, because the keys of
// networks contain slashes.
func delayID(k auth.AttemptKey) string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(k.Kind) + ":" + k.Key))
}

func parseDelayID(id string) (auth.AttemptKey, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil {
		return auth.AttemptKey{}, false
	}
	kind, key, ok := strings.Cut(string(b), ":")
	k := auth.AttemptKey{Kind: auth.AttemptKind(kind), Key: key}
	kinds := []auth.AttemptKind{auth.AttemptIdentity, auth.AttemptValue, auth.AttemptAddress}
	return k, ok && auth.CleanText(key) && slices.Contains(kinds, k.Kind)
}

// delayOf returns a counter for an answer.
func delayOf(a *auth.Attempts, q *person.AttemptQuery) adminclient.BindingDelay {
	d := adminclient.BindingDelay{
		ID: delayID(a.AttemptKey), Kind: adminclient.BindingDelayKind(a.Kind), Failures: a.Failures, LastAttemptAt: a.At.UTC(),
	}
	if a.BlockedUntil.After(q.Now) {
		d.DelayedUntil = timeOrNull(a.BlockedUntil)
	}
	switch a.Kind {
	case auth.AttemptIdentity:
		if id, err := uuid.Parse(a.Key); err == nil {
			d.UUID = &id
		}
	case auth.AttemptAddress:
		address, app := a.Address()
		d.App = &app
		if p, err := netip.ParsePrefix(address); err == nil && p.IsSingleIP() {
			address = p.Addr().String()
		}
		d.Address = &address
	case auth.AttemptValue:
		d.Person = uuidOrNull(a.Person)
	}
	return d
}

func (a *API) listBindingDelays(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	q, err := a.attemptQuery(r)
	if err != nil {
		return err
	}
	q.Limit = limit + 1
	found, err := a.c.Persons.Attempts(r.Context(), q)
	if err != nil {
		return err
	}
	answer := adminclient.BindingDelayList{BindingDelays: []adminclient.BindingDelay{}}
	found, answer.Next = cutPage(found, limit, func(a auth.Attempts) string { return delayID(a.AttemptKey) })
	for i := range found {
		answer.BindingDelays = append(answer.BindingDelays, delayOf(&found[i], &q))
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

// attemptQuery returns the query of a request, without the limit.
func (a *API) attemptQuery(r *http.Request) (person.AttemptQuery, error) {
	q := person.AttemptQuery{Now: a.c.Clock()}
	var err error
	if q.Person, err = queryID(r, "person"); err != nil {
		return q, err
	}
	id, err := queryID(r, "uuid")
	if err != nil {
		return q, err
	}
	delayed, err := queryValue(r, "delayed", strconv.ParseBool)
	if err != nil {
		return q, err
	}
	q.Delayed = value(delayed)
	logTarget(r.Context(), &session.Target{Identity: id, Person: q.Person})
	address := queryText(r, "address")
	if id != uuid.Nil && address != "" {
		return q, auth.Invalid("Name a uuid or an address, not both.")
	}
	if id != uuid.Nil {
		k := auth.IdentityAttempts(id)
		q.Kind, q.Key = k.Kind, k.Key
	}
	if address != "" {
		addr, err := netip.ParseAddr(address)
		if err != nil || addr.Zone() != "" {
			return q, auth.Invalid("address must be an IPv4 or IPv6 address")
		}
		q.Kind, q.Key = auth.AttemptAddress, web.Network(addr).String()
	}
	if cursor := queryText(r, "cursor"); cursor != "" {
		var ok bool
		if q.After, ok = parseDelayID(cursor); !ok {
			return q, errCursor
		}
	}
	return q, nil
}

func (a *API) liftBindingDelay(w http.ResponseWriter, r *http.Request) error {
	id, err := pathText(r, "id")
	if err != nil {
		return err
	}
	key, ok := parseDelayID(id)
	if !ok {
		return person.ErrNoDelay
	}
	if err := a.c.Persons.LiftDelay(r.Context(), key, caller(r, queryText(r, "reason"))); err != nil {
		return err
	}
	return web.NoContent(w)
}
