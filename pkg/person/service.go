package person

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Config configures a [Service]. All fields are required.
type Config struct {
	// Store applies the cutoffs that it writes: this replica knows them when a
	// method returns.
	Store Store
	// Apps reads the policies of apps.
	Apps interface {
		App(ctx context.Context, appID string) (auth.App, error)
	}
	Facts *FactKey
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
}

// Service implements the use cases of admins for persons and identities. It is safe for
// concurrent use and keeps no state.
type Service struct {
	c Config
}

// NewService returns a service.
func NewService(c Config) *Service {
	return &Service{c}
}

// event returns the audit event of a caller's action now, or [auth.InvalidRequest] if
// the reason is not valid.
func (s *Service) event(action auth.AuditAction, c *auth.Caller) (auth.AuditEvent, error) {
	return c.Event(action, s.c.Clock())
}

// CreatePerson adds a person.
//
// Errors: [auth.InvalidRequest], [auth.PersonConflict].
func (s *Service) CreatePerson(ctx context.Context, f Form, c auth.Caller) (auth.PersonRecord, error) {
	event, err := s.event(auth.AuditPersonCreated, &c)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	d, err := f.Draft(s.c.Facts, auth.PersonByAdmin)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	return s.c.Store.CreatePerson(ctx, d, event)
}

// UpdatePerson changes the fields that the form sets.
//
// Errors: [auth.InvalidRequest], [auth.NotFound], [auth.PersonConflict].
func (s *Service) UpdatePerson(ctx context.Context, id uuid.UUID, f Form, c auth.Caller) (auth.PersonRecord, error) {
	event, err := s.event(auth.AuditPersonUpdated, &c)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	d, err := f.Draft(s.c.Facts, auth.PersonByAdmin)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	p, err := s.c.Store.UpdatePerson(ctx, id, d, event)
	return p, notFoundAs(err, errNoPerson)
}

// Person returns a person, or [auth.NotFound].
func (s *Service) Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error) {
	p, err := s.c.Store.Person(ctx, id)
	return p, notFoundAs(err, errNoPerson)
}

// Persons finds persons. The phone need not be in E.164 form.
//
// Errors: [auth.InvalidRequest] for a phone or an external_id that is not valid, and for
// a name that is not clean text.
func (s *Service) Persons(ctx context.Context, q Query) ([]auth.PersonRecord, error) {
	if q.Phone != "" {
		phone, err := auth.CleanPhone(q.Phone)
		if err != nil {
			return nil, err
		}
		q.Phone = phone
	}
	var err error
	if q.ExternalID != "" {
		if q.ExternalID, err = auth.CleanExternalID(q.ExternalID); err != nil {
			return nil, err
		}
	}
	if !utf8.ValidString(q.Name) || !auth.CleanText(auth.StripMarks(q.Name)) {
		return nil, auth.Invalid("name must be UTF-8 text without control characters")
	}
	q.Name = auth.StripMarks(q.Name)
	return s.c.Store.Persons(ctx, q)
}

// DisablePerson refuses the person's log-ins and ends their sessions.
//
// Errors: [auth.InvalidRequest], [auth.NotFound].
func (s *Service) DisablePerson(ctx context.Context, id uuid.UUID, c auth.Caller) (auth.PersonRecord, error) {
	return s.toggle(ctx, auth.AuditPersonDisabled, id, c, s.c.Store.DisablePerson)
}

// EnablePerson lets a person log in again.
//
// Errors: [auth.InvalidRequest], [auth.NotFound].
func (s *Service) EnablePerson(ctx context.Context, id uuid.UUID, c auth.Caller) (auth.PersonRecord, error) {
	return s.toggle(ctx, auth.AuditPersonEnabled, id, c, s.c.Store.EnablePerson)
}

func (s *Service) toggle(ctx context.Context, action auth.AuditAction, id uuid.UUID, c auth.Caller,
	do func(context.Context, uuid.UUID, auth.AuditEvent) (auth.PersonRecord, error),
) (auth.PersonRecord, error) {
	event, err := s.event(action, &c)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	p, err := do(ctx, id, event)
	return p, notFoundAs(err, errNoPerson)
}

// ImportRow is a row of an import.
type ImportRow struct {
	Form Form
	// Err is why the row could not be read. It becomes the row's outcome.
	Err error
}

// Import creates and updates persons by their external_id, and returns the outcome of
// each row. A refused row does not affect the others.
//
// Errors: [auth.InvalidRequest] only for the reason; the errors of rows are in the
// outcomes.
func (s *Service) Import(ctx context.Context, rows []ImportRow, dryRun bool, c auth.Caller) ([]Upserted, error) {
	event, err := s.event(auth.AuditPersonsImported, &c)
	if err != nil {
		return nil, err
	}
	all := make([]Upserted, len(rows))
	u := Upsert{DryRun: dryRun, Event: event}
	var at []int
	for i := range rows {
		d, err := s.importDraft(&rows[i])
		if err != nil {
			all[i].Err = err
			continue
		}
		u.Drafts, at = append(u.Drafts, d), append(at, i)
	}
	if len(u.Drafts) == 0 {
		return all, nil
	}
	done, err := s.c.Store.UpsertPersons(ctx, u)
	if err != nil {
		return nil, err
	}
	for i, d := range done {
		all[at[i]] = d
	}
	return all, nil
}

func (s *Service) importDraft(r *ImportRow) (Draft, error) {
	switch {
	case r.Err != nil:
		return Draft{}, r.Err
	case r.Form.ExternalID == nil:
		return Draft{}, auth.Invalid("external_id is missing; it identifies the row")
	}
	return r.Form.Draft(s.c.Facts, auth.PersonByAdmin)
}

var (
	errNoPerson   = &auth.Error{Code: auth.NotFound, Description: "No person has this id."}
	errNoIdentity = &auth.Error{Code: auth.NotFound, Description: "No user has this uuid, or the user was erased."}
)

// ErrNoDelay refuses to lift a delay that does not exist.
var ErrNoDelay = &auth.Error{Code: auth.NotFound, Description: "No counted attempts have this id."}

// notFoundAs returns specific if err is [auth.NotFound], and err otherwise.
func notFoundAs(err, specific error) error {
	if errors.Is(err, auth.NotFound) {
		return specific
	}
	return err
}
