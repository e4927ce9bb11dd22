package person

import (
	"encoding/json"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Form is a person as an admin or a business back end describes them. A nil member
// leaves the value as it is.
type Form struct {
	ExternalID, Name, Phone *string
	// Facts are the facts to set. A nil value removes the fact.
	Facts map[string]*string
	// Attributes is a JSON object.
	Attributes json.RawMessage
}

// Draft checks and cleans the form, and computes the MACs of its facts.
//
// Errors: [auth.InvalidRequest].
func (f *Form) Draft(key *FactKey, source auth.PersonSource) (Draft, error) {
	d := Draft{Source: source}
	var err error
	if d.ID, err = uuid.NewV7(); err != nil {
		return d, err
	}
	if f.ExternalID != nil {
		if d.ExternalID, err = auth.CleanExternalID(*f.ExternalID); err != nil {
			return d, err
		}
	}
	if f.Name != nil {
		name, err := auth.CleanPersonName(*f.Name)
		if err != nil {
			return d, err
		}
		d.Name = &name
	}
	if f.Phone != nil {
		phone := *f.Phone
		if phone != "" {
			if phone, err = auth.CleanPhone(phone); err != nil {
				return d, err
			}
		}
		d.Phone = &phone
	}
	if f.Attributes != nil {
		if d.Attributes, err = auth.CleanAttributes(f.Attributes); err != nil {
			return d, err
		}
	}
	d.Facts, err = key.MACs(f.Facts)
	return d, err
}

// Draft is a person to create or to change. Texts are clean, the phone is in
// E.164 form, facts are MACs ([FactKey.MAC]).
type Draft struct {
	// ID is the id of the person if the person is new.
	ID         uuid.UUID
	ExternalID string
	// A nil Name, Phone or Attributes leaves the value as it is. An empty Phone removes
	// the number.
	Name, Phone *string
	Attributes  []byte
	// Facts are the facts to set; a nil MAC removes the fact. Other facts stay.
	Facts  map[string][]byte
	Source auth.PersonSource
}

// Row returns the draft as the row of a new person.
func (d *Draft) Row() auth.PersonRecord {
	p := auth.PersonRecord{
		Person:     auth.Person{ID: d.ID, ExternalID: d.ExternalID},
		Attributes: d.Attributes, Source: d.Source,
	}
	if p.ExternalID == "" {
		p.ExternalID = d.ID.String()
	}
	if d.Name != nil {
		p.Name = *d.Name
	}
	if d.Phone != nil {
		p.Phone = *d.Phone
	}
	if p.Attributes == nil {
		p.Attributes = []byte("{}")
	}
	if p.Source == "" {
		p.Source = auth.PersonByAdmin
	}
	return p
}
