package binding

import (
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// The decisions and audit events that all stores share.

// Locked holds the rows that a store has locked.
type Locked struct {
	// State is the session of the request.
	State session.State
	// Current is the person that the identity is bound to, or uuid.Nil.
	Current uuid.UUID
	// Person is the person to bind to.
	Person auth.Person
	// PersonDisabled says that this person is disabled.
	PersonDisabled bool
	// Saved names the fields of an existing person that the binding has changed.
	Saved []string
	// Others are the person's other identities in the app.
	Others []uuid.UUID
	// Ticket is the ticket to use up, or nil.
	Ticket *person.Ticket
}

// Decide returns whether anything has to change, and the identities to unbind first, or
// the error of [Store.Bind].
func (b *BindParams) Decide(f *Locked) (change bool, replace []uuid.UUID, err error) {
	s := &f.State.Session
	if err := checkSession(&f.State, b.Ver, auth.StoredTime(b.Now)); err != nil {
		return false, nil, err
	}
	if t := f.Ticket; t != nil && (t.Person.ID != f.Person.ID || !t.Good(s.AppID, s.Identity, b.Now)) {
		return false, nil, auth.TicketInvalid
	}
	switch {
	case f.PersonDisabled:
		return false, nil, auth.PersonDisabled
	case f.Current == f.Person.ID:
		return false, nil, nil
	case f.Ticket != nil && f.Ticket.UsedBy != uuid.Nil:
		// The ticket bound this identity before, which has been unbound since.
		return false, nil, auth.TicketInvalid
	case f.Current != uuid.Nil && b.Target.Phone != "":
		// The current person has another number. Binding might replace them with a new
		// and empty person.
		return false, nil, errOtherPhone
	case f.Current != uuid.Nil && !b.Rebind:
		return false, nil, auth.AlreadyBound
	}
	replace, err = b.Second.Displaced(f.Others)
	return err == nil, replace, err
}

var errOtherPhone = &auth.Error{
	Code:        auth.AlreadyBound,
	Description: "This identity is bound to a person with another phone number, or without one. Unbind it first.",
}

// Decide returns whether anything has to change, or the error of [Store.Unbind].
func (u *UnbindParams) Decide(f *Locked) (change bool, err error) {
	if err := checkSession(&f.State, u.Ver, auth.StoredTime(u.Now)); err != nil {
		return false, err
	}
	return f.Current != uuid.Nil, nil
}

// checkSession returns [auth.SessionRevoked] unless the session is live and has the
// ver of the presented token.
func checkSession(st *session.State, ver int64, now time.Time) error {
	if st.Session.Ver != ver || st.RefreshError(st.Session.AppID, now) != nil {
		return auth.SessionRevoked
	}
	return nil
}

// BoundEvent returns the audit event of the binding.
func (b *BindParams) BoundEvent(f *Locked) auth.AuditEvent {
	e := withSession(b.Event, &f.State.Session, f.Person.ID, map[string]any{"method": b.Method})
	if f.Current != uuid.Nil {
		e.Detail["person_before"] = f.Current
	}
	return e
}

// ReplacedEvent returns the audit event of an identity that was replaced.
func (b *BindParams) ReplacedEvent(f *Locked, identity uuid.UUID) auth.AuditEvent {
	e := withSession(b.Event, &f.State.Session, f.Person.ID, map[string]any{"by": f.State.Session.Identity})
	e.Action, e.Identity, e.Session = auth.AuditBindingReplaced, identity, uuid.Nil
	return e
}

// CreatedEvent returns the audit event of a person that the binding made.
func (b *BindParams) CreatedEvent(f *Locked) auth.AuditEvent {
	e := withSession(b.Event, &f.State.Session, f.Person.ID, map[string]any{"method": b.Method})
	if b.Target.Phone != "" {
		e.Detail["phone"] = auth.MaskPhone(b.Target.Phone)
	}
	e.Action = auth.AuditPersonCreated
	return e
}

// UpdatedEvent returns the audit event of a person that the binding changed.
func (b *BindParams) UpdatedEvent(f *Locked) auth.AuditEvent {
	e := withSession(b.Event, &f.State.Session, f.Person.ID, map[string]any{"method": b.Method, "changed": f.Saved})
	e.Action = auth.AuditPersonUpdated
	return e
}

// UnboundEvent returns the audit event of the unbinding.
func (u *UnbindParams) UnboundEvent(f *Locked) auth.AuditEvent {
	return withSession(u.Event, &f.State.Session, f.Current, nil)
}

// withSession returns the event with the session, the person and further details.
func withSession(e auth.AuditEvent, s *auth.Session, person uuid.UUID, detail map[string]any) auth.AuditEvent {
	e.AppID, e.Identity, e.Session, e.Person = s.AppID, s.Identity, s.ID, person
	return e.With(detail)
}

// DelayedEvent returns the audit event of a delay that an attempt began.
func DelayedEvent(event auth.AuditEvent, a auth.Attempts) auth.AuditEvent {
	event.Action = auth.AuditBindingDelayed
	return event.With(map[string]any{
		"kind": a.Kind, "key": a.Key, "failures": a.Failures, "delay_s": int(a.BlockedUntil.Sub(a.At).Seconds()),
	})
}
