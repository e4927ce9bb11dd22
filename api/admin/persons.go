package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

// personOf returns the view of a person for the key of the request.
func personOf(r *http.Request, p *auth.PersonRecord) adminclient.Person {
	phone := p.Phone
	if key := keyOf(r.Context()); !key.Has(servicekey.ScopeOpenID) {
		phone = auth.MaskPhone(phone)
	}
	return adminclient.Person{
		ID: p.ID, ExternalID: p.ExternalID, Name: p.Name, Phone: textOrNull(phone), Facts: append([]string{}, p.Facts...),
		Attributes: p.Attributes, Source: adminclient.PersonSource(p.Source), Disabled: p.Disabled,
		CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(),
	}
}

func (a *API) listPersons(w http.ResponseWriter, r *http.Request) error {
	limit, after, err := pageOf(r)
	if err != nil {
		return err
	}
	found, err := a.c.Persons.Persons(r.Context(), person.Query{
		ExternalID: queryText(r, "external_id"), Phone: restorePlus(queryText(r, "phone")), Name: queryText(r, "name"),
		After: after, Limit: limit + 1,
	})
	if err != nil {
		return err
	}
	answer := adminclient.PersonList{Persons: []adminclient.Person{}}
	found, answer.Next = cutPage(found, limit, func(p auth.PersonRecord) string { return p.ID.String() })
	for i := range found {
		answer.Persons = append(answer.Persons, personOf(r, &found[i]))
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

// restorePlus returns the phone number of a query with its plus. An unescaped plus in a
// query is decoded as a space.
func restorePlus(phone string) string {
	if rest, ok := strings.CutPrefix(phone, " "); ok {
		return "+" + rest
	}
	return phone
}

func (a *API) createPerson(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	body, err := readBody[adminclient.NewPerson](w, r)
	if err != nil {
		return err
	}
	facts := map[string]*string{}
	for name, fact := range body.Facts {
		facts[name] = &fact
	}
	p, err := a.c.Persons.CreatePerson(ctx, person.Form{
		ExternalID: body.ExternalID, Name: body.Name, Phone: body.Phone, Facts: facts, Attributes: attributesOf(body.Attributes),
	}, caller(r, body.Reason))
	if err != nil {
		return err
	}
	logTarget(ctx, &session.Target{Person: p.ID})
	return web.SecretJSON(w, http.StatusCreated, personOf(r, &p))
}

// attributesOf returns the attributes of a body. null means the same as no member.
func attributesOf(attributes json.RawMessage) json.RawMessage {
	if string(attributes) == "null" {
		return nil
	}
	return attributes
}

func (a *API) getPerson(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "id")
	if err != nil {
		return err
	}
	p, err := a.c.Persons.Person(r.Context(), id)
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, personOf(r, &p))
}

func (a *API) updatePerson(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "id")
	if err != nil {
		return err
	}
	body, err := readBody[adminclient.PersonUpdate](w, r)
	if err != nil {
		return err
	}
	p, err := a.c.Persons.UpdatePerson(r.Context(), id, person.Form{
		ExternalID: body.ExternalID, Name: body.Name, Phone: body.Phone, Facts: body.Facts, Attributes: attributesOf(body.Attributes),
	}, caller(r, body.Reason))
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, personOf(r, &p))
}

// switchPerson serves a change of a person whose only parameter is a reason.
func (a *API) switchPerson(change func(*person.Service, context.Context, uuid.UUID, auth.Caller) (auth.PersonRecord, error)) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := pathID(r, "id")
		if err != nil {
			return err
		}
		body, err := readOptional[adminclient.ReasonRequest](w, r)
		if err != nil {
			return err
		}
		p, err := change(a.c.Persons, r.Context(), id, caller(r, body.Reason))
		if err != nil {
			return err
		}
		return web.SecretJSON(w, http.StatusOK, personOf(r, &p))
	}
}

// createBindTicket mints a bind ticket. Persons are shared by all apps: with a
// ticket, a key that is restricted to apps could bind one of its users to any
// person, and other apps would take that user for the person.
func (a *API) createBindTicket(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	id, err := pathID(r, "id")
	if err != nil {
		return err
	}
	body, err := readOptional[adminclient.BindTicketForm](w, r)
	if err != nil {
		return err
	}
	appID := body.App
	logTarget(ctx, &session.Target{AppID: appID})
	if appID != "" {
		if _, err := a.c.Apps.App(ctx, appID, caller(r, "")); err != nil {
			return err
		}
	}
	ticket, expires, err := a.c.Persons.MintTicket(ctx, person.TicketRequest{
		Person: id, AppID: appID, TTL: time.Duration(body.ExpiresIn) * time.Second,
	}, caller(r, body.Reason))
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusCreated, adminclient.BindTicket{Ticket: ticket.Reveal(), ExpiresAt: expires.UTC()})
}
