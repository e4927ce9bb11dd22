package web

import (
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Person is the bound person in answers.
type Person struct {
	ID         uuid.UUID `json:"id"`
	ExternalID string    `json:"external_id"`
	Name       string    `json:"name"`
}

// PersonOf returns the session's person for an answer, or nil while the session is
// unbound.
func PersonOf(s *auth.Session) *Person {
	if s.Person == nil {
		return nil
	}
	return &Person{ID: s.Person.ID, ExternalID: s.Person.ExternalID, Name: s.Person.Name}
}
