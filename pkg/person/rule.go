package person

import (
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// The decisions and audit events that all stores share.

// DecideBind returns which of the person's other identities in the app the store must
// unbind before it binds the identity to c.Person, or the error of [Store.BindIdentity].
// The store holds the lock of the identity. If the identity is bound to the person
// already, there are no others to unbind and nothing changes.
func (c *IdentityChange) DecideBind(i *IdentityRecord, personDisabled bool, others []uuid.UUID) ([]uuid.UUID, error) {
	switch {
	case !i.ErasedAt.IsZero():
		return nil, auth.NotFound
	case personDisabled:
		return nil, auth.PersonDisabled
	case i.Person == c.Person:
		return nil, nil
	}
	return c.Second.Displaced(others)
}

// Audit returns the event of the change with details.
func (c *IdentityChange) Audit(i *IdentityRecord, detail map[string]any) auth.AuditEvent {
	e := c.Event.With(detail)
	e.AppID, e.Identity = i.AppID, i.UUID
	return e
}

// BoundEvent returns the event of the binding; i is the identity before.
func (c *IdentityChange) BoundEvent(i *IdentityRecord) auth.AuditEvent {
	e := c.Audit(i, map[string]any{"method": BoundByAdmin}).About(c.Person)
	if i.Person != uuid.Nil {
		e.Detail["person_before"] = i.Person
	}
	return e
}

// ReplacedEvent returns the event of an identity that was replaced by i.
func (c *IdentityChange) ReplacedEvent(i *IdentityRecord, identity uuid.UUID) auth.AuditEvent {
	e := c.Audit(i, map[string]any{"by": i.UUID}).About(c.Person)
	e.Action, e.Identity = auth.AuditBindingReplaced, identity
	return e
}

// ErasedEvent returns the event of an erasure that ended this number of live sessions. The
// flag person says that the person was erased too.
func (c *IdentityChange) ErasedEvent(i *IdentityRecord, sessions int, person bool) auth.AuditEvent {
	detail := map[string]any{"sessions": sessions}
	if person {
		detail["person_forgotten"] = true
	}
	return c.Audit(i, detail).About(i.Person)
}

// Erase returns the identity without its personal data.
func (i *IdentityRecord) Erase(now time.Time) IdentityRecord {
	return IdentityRecord{
		Identity:  auth.Identity{UUID: i.UUID, AppID: i.AppID, PlatformAccount: auth.PlatformAccount{SubjectKind: i.SubjectKind}},
		CreatedAt: i.CreatedAt, LastLoginAt: i.LastLoginAt, ErasedAt: now,
	}
}

// LiftedEvent returns the event of a delay that an admin has lifted.
func LiftedEvent(k auth.AttemptKey, event auth.AuditEvent) auth.AuditEvent {
	event = event.With(map[string]any{"kind": k.Kind})
	switch k.Kind {
	case auth.AttemptIdentity:
		event.Identity, _ = uuid.Parse(k.Key)
	default:
		event.Detail["key"] = k.Key
	}
	return event
}
