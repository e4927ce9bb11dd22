package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/session"
)

// personOf is a person as answers show him.
func personOf(p *auth.PersonRecord) PersonRecord {
	return PersonRecord{
		ID: p.ID, ExternalID: p.ExternalID, Name: p.Name, Phone: textOrNull(p.Phone), Facts: append([]string{}, p.Facts...),
		Attributes: p.Attributes, Source: PersonRecordSource(p.Source), Disabled: p.Disabled,
		CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(),
	}
}

// unrestricted refuses keys that are restricted to apps.
func unrestricted(ctx context.Context) error {
	if key := keyOf(ctx); key.Restricted() {
		return errRestricted
	}
	return nil
}

// ListPersons implements [StrictServerInterface].
func (a *API) ListPersons(ctx context.Context, r ListPersonsRequestObject) (ListPersonsResponseObject, error) {
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	limit, after, err := pageOf(r.Params.Limit, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := a.c.Persons.Persons(ctx, binding.PersonQuery{
		ExternalID: value(r.Params.ExternalID), Phone: plus(value(r.Params.Phone)), Name: value(r.Params.Name),
		After: after, Limit: limit + 1,
	})
	if err != nil {
		return nil, err
	}
	answer := ListPersons200JSONResponse{Persons: []PersonRecord{}}
	found, answer.Next = cut(found, limit, func(p auth.PersonRecord) string { return p.ID.String() })
	for i := range found {
		answer.Persons = append(answer.Persons, personOf(&found[i]))
	}
	return answer, nil
}

// plus returns a phone number of a query whose plus was not escaped before
// it, which means a space there.
func plus(phone string) string {
	if rest, ok := strings.CutPrefix(phone, " "); ok {
		return "+" + rest
	}
	return phone
}

// CreatePerson implements [StrictServerInterface].
func (a *API) CreatePerson(ctx context.Context, r CreatePersonRequestObject) (CreatePersonResponseObject, error) {
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	b := r.Body
	facts := map[string]*string{}
	for name, fact := range value(b.Facts) {
		facts[name] = &fact
	}
	p, err := a.c.Persons.CreatePerson(ctx, binding.PersonForm{
		ExternalID: b.ExternalID, Name: b.Name, Phone: b.Phone, Facts: facts, Attributes: value(b.Attributes),
	}, caller(ctx, b.Reason))
	if err != nil {
		return nil, err
	}
	logTarget(ctx, &session.Target{Person: p.ID})
	return CreatePerson201JSONResponse(personOf(&p)), nil
}

// GetPerson implements [StrictServerInterface].
func (a *API) GetPerson(ctx context.Context, r GetPersonRequestObject) (GetPersonResponseObject, error) {
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	p, err := a.c.Persons.Person(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return GetPerson200JSONResponse(personOf(&p)), nil
}

// UpdatePerson implements [StrictServerInterface].
func (a *API) UpdatePerson(ctx context.Context, r UpdatePersonRequestObject) (UpdatePersonResponseObject, error) {
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	b := r.Body
	p, err := a.c.Persons.UpdatePerson(ctx, r.ID, binding.PersonForm{
		ExternalID: b.ExternalID, Name: b.Name, Phone: b.Phone, Facts: value(b.Facts), Attributes: value(b.Attributes),
	}, caller(ctx, b.Reason))
	if err != nil {
		return nil, err
	}
	return UpdatePerson200JSONResponse(personOf(&p)), nil
}

// DisablePerson implements [StrictServerInterface].
func (a *API) DisablePerson(ctx context.Context, r DisablePersonRequestObject) (DisablePersonResponseObject, error) {
	p, err := a.switchPerson(ctx, r.ID, r.Body.Reason, (*binding.Admin).DisablePerson)
	if err != nil {
		return nil, err
	}
	return DisablePerson200JSONResponse(p), nil
}

// EnablePerson implements [StrictServerInterface].
func (a *API) EnablePerson(ctx context.Context, r EnablePersonRequestObject) (EnablePersonResponseObject, error) {
	p, err := a.switchPerson(ctx, r.ID, r.Body.Reason, (*binding.Admin).EnablePerson)
	if err != nil {
		return nil, err
	}
	return EnablePerson200JSONResponse(p), nil
}

func (a *API) switchPerson(ctx context.Context, id uuid.UUID, reason *string,
	do func(*binding.Admin, context.Context, uuid.UUID, binding.Caller) (auth.PersonRecord, error),
) (PersonRecord, error) {
	if err := unrestricted(ctx); err != nil {
		return PersonRecord{}, err
	}
	p, err := do(a.c.Persons, ctx, id, caller(ctx, reason))
	return personOf(&p), err
}

// CreateBindTicket implements [StrictServerInterface].
func (a *API) CreateBindTicket(ctx context.Context, r CreateBindTicketRequestObject) (CreateBindTicketResponseObject, error) {
	// Persons are the same in every app: with a ticket such a key would bind a user of
	// its own to any person, whom other apps then take that user for.
	if err := unrestricted(ctx); err != nil {
		return nil, err
	}
	app := value(r.Body.App)
	logTarget(ctx, &session.Target{AppID: app})
	if app != "" {
		if _, err := a.c.Persons.App(ctx, app, caller(ctx, nil)); err != nil {
			return nil, err
		}
	}
	c := caller(ctx, r.Body.Reason)
	if err := auth.CheckReason(c.Reason); err != nil {
		return nil, err
	}
	ticket, expires, err := a.c.MintTicket(ctx, binding.TicketRequest{
		Person: r.ID, AppID: app, TTL: time.Duration(value(r.Body.ExpiresIn)) * time.Second,
		Actor: c.Actor, Reason: c.Reason, RequestID: c.RequestID,
	}, a.c.Clock())
	switch {
	case errors.Is(err, auth.NotFound):
		return nil, &auth.Error{Code: auth.NotFound, Description: "There is no person with this id."}
	case err != nil:
		return nil, err
	}
	return CreateBindTicket201JSONResponse{Ticket: ticket.Reveal(), ExpiresAt: expires.UTC()}, nil
}
