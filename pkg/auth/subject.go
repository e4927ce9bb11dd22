package auth

import (
	"errors"

	"github.com/google/uuid"
)

// Subject is whom an error is about, as far as it is proven: by a token's
// signature or MAC, by the platform, or by the row that one of these led to. It
// never holds what a client only claims. Fields that are not known are zero.
type Subject struct {
	AppID             string
	Identity, Session uuid.UUID
}

// Subject returns whom the session is about.
func (s *Session) Subject() Subject {
	return Subject{AppID: s.AppID, Identity: s.Identity, Session: s.ID}
}

// About returns err with its subject, for the log. It returns nil for nil. The
// text of the error stays as it is, and so does what errors.Is and errors.As
// find in it.
func About(err error, s Subject) error {
	if err == nil {
		return nil
	}
	return &aboutError{err, s}
}

type aboutError struct {
	error
	subject Subject
}

func (e *aboutError) Unwrap() error { return e.error }

// SubjectOf returns whom err is about: what [About] said of it, field by field,
// where the innermost word counts, because it is nearest to the row.
func SubjectOf(err error) Subject {
	var e *aboutError
	if !errors.As(err, &e) {
		return Subject{}
	}
	s := SubjectOf(e.error)
	if s.AppID == "" {
		s.AppID = e.subject.AppID
	}
	if s.Identity == uuid.Nil {
		s.Identity = e.subject.Identity
	}
	if s.Session == uuid.Nil {
		s.Session = e.subject.Session
	}
	return s
}
