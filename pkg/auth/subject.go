package auth

import (
	"errors"

	"github.com/google/uuid"
)

// Subject is the app, identity and session that an error is about, as far as they are
// proven: by a token's signature or MAC, by the platform, or by the row that one of these
// led to. It never holds unproven claims of a client. Unknown fields are zero.
type Subject struct {
	AppID             string
	Identity, Session uuid.UUID
}

// Subject returns the subject of the session.
func (s *Session) Subject() Subject {
	return Subject{AppID: s.AppID, Identity: s.Identity, Session: s.ID}
}

// About returns err with its subject, for the log. It returns nil for nil. The text of
// the error does not change, nor do the results of errors.Is and errors.As.
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

// SubjectOf returns the subject of err. For each field the innermost [About] that set it
// counts, because that is nearest to the row.
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
