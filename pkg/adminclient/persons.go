package adminclient

import (
	"context"
	"io"
	"iter"
	"net/http"

	"github.com/google/uuid"
)

// PersonQuery restricts a list of persons. A member that is nil does not
// restrict it, and one that is empty is refused.
type PersonQuery struct {
	// ExternalID is the business's own id.
	ExternalID *string
	// Phone is a phone number. Without a country code it is one of mainland China.
	Phone *string
	// Name is the beginning of the name.
	Name *string
	Page
}

// ListPersons returns a page of the persons that a query finds, in the order of
// their ids.
func (c *Client) ListPersons(ctx context.Context, q PersonQuery) (*PersonList, error) {
	parameters := query{}.page(q.Page).text("external_id", q.ExternalID).text("phone", q.Phone).text("name", q.Name)
	return answer[PersonList](ctx, c, get("persons", parameters))
}

// Persons returns all persons that a query finds from a page on, in the order of
// their ids.
func (c *Client) Persons(ctx context.Context, q PersonQuery) iter.Seq2[Person, error] {
	return all(q.Page, func(p Page) ([]Person, *string, error) {
		q.Page = p
		l, err := c.ListPersons(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		return l.Persons, l.Next, nil
	})
}

// CreatePerson creates a person.
func (c *Client) CreatePerson(ctx context.Context, p NewPerson) (*Person, error) {
	return post[Person](ctx, c, "persons", p)
}

// Import holds the parameters of an import of persons.
type Import struct {
	// DryRun writes nothing; the result describes what an import would do.
	DryRun bool
	// Reason is for the audit trail.
	Reason string
}

// ImportPersons creates and updates persons by their external_id. Each line is a
// person as JSON, at most 1,000 lines and 4 MiB. A line that is refused is in the
// result and keeps no other line out. It is harmless to repeat.
func (c *Client) ImportPersons(ctx context.Context, lines io.Reader, i Import) (*ImportResult, error) {
	return answer[ImportResult](ctx, c, call{
		method: http.MethodPost, path: "persons/import", query: query{}.flag("dry_run", i.DryRun).reason(i.Reason),
		contentType: "application/x-ndjson", body: lines,
	})
}

// Person returns a person.
func (c *Client) Person(ctx context.Context, id uuid.UUID) (*Person, error) {
	return answer[Person](ctx, c, get("persons/"+id.String(), nil))
}

// UpdatePerson changes a person. Members that are absent stay as they are.
func (c *Client) UpdatePerson(ctx context.Context, id uuid.UUID, u PersonUpdate) (*Person, error) {
	return patch[Person](ctx, c, "persons/"+id.String(), u)
}

// DisablePerson ends the sessions of all users who are bound to a person, and
// refuses their log-ins. It is harmless to repeat.
func (c *Client) DisablePerson(ctx context.Context, id uuid.UUID, reason string) (*Person, error) {
	return post[Person](ctx, c, "persons/"+id.String()+"/disable", ReasonRequest{Reason: reason})
}

// EnablePerson lets the users who are bound to a person log in again. It is
// harmless to repeat.
func (c *Client) EnablePerson(ctx context.Context, id uuid.UUID, reason string) (*Person, error) {
	return post[Person](ctx, c, "persons/"+id.String()+"/enable", ReasonRequest{Reason: reason})
}

// CreateBindTicket mints a ticket that binds the user who presents it first to the
// person.
func (c *Client) CreateBindTicket(ctx context.Context, person uuid.UUID, f BindTicketForm) (*BindTicket, error) {
	return post[BindTicket](ctx, c, "persons/"+person.String()+"/bind-tickets", f)
}
