package auth

import (
	"maps"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// AuditAction names an audited action. The names are stable: dashboards and alerts match
// them.
type AuditAction string

// The actions.
const (
	AuditAppAdded        AuditAction = "app.added"
	AuditAppUpdated      AuditAction = "app.updated"
	AuditAppDisabled     AuditAction = "app.disabled"
	AuditAppEnabled      AuditAction = "app.enabled"
	AuditCodeReused      AuditAction = "code.reused"
	AuditSessionLogout   AuditAction = "session.logout"
	AuditSessionLimit    AuditAction = "session.limit"
	AuditRefreshReplay   AuditAction = "refresh.replay_late"
	AuditRefreshReuse    AuditAction = "refresh.reuse"
	AuditRefreshRollback AuditAction = "refresh.store_rolled_back"
	AuditKeyCreated      AuditAction = "key.created"
	AuditKeyPromoted     AuditAction = "key.promoted"
	AuditKeyRetired      AuditAction = "key.retired"
	AuditMasterRewrapped AuditAction = "master_key.rewrapped"
	AuditRevoked         AuditAction = "revoked"
	AuditServiceKeyAdded AuditAction = "service_key.added"
	AuditServiceKeyEnded AuditAction = "service_key.revoked"
	AuditServiceKeyPin   AuditAction = "service_key.pinned"

	AuditBound            AuditAction = "binding.bound"
	AuditUnbound          AuditAction = "binding.unbound"
	AuditBindingReplaced  AuditAction = "binding.replaced"
	AuditBindingRefused   AuditAction = "binding.refused"
	AuditBindingDelayed   AuditAction = "binding.delayed"
	AuditFactsSlowed      AuditAction = "binding.facts_slowed"
	AuditDelayLifted      AuditAction = "binding.delay_lifted"
	AuditTicketMinted     AuditAction = "bind_ticket.minted"
	AuditPersonCreated    AuditAction = "person.created"
	AuditPersonUpdated    AuditAction = "person.updated"
	AuditPersonDisabled   AuditAction = "person.disabled"
	AuditPersonEnabled    AuditAction = "person.enabled"
	AuditPersonsImported  AuditAction = "person.imported"
	AuditIdentityDisabled AuditAction = "identity.disabled"
	AuditIdentityEnabled  AuditAction = "identity.enabled"
	AuditIdentityErased   AuditAction = "identity.erased"

	AuditStoreRolledBack AuditAction = "store.rolled_back"
)

// AuditEvent is one row of the audit trail. It is committed together with the
// change it describes, and holds no secret.
type AuditEvent struct {
	// At is the time of the action, in UTC.
	At     time.Time
	Action AuditAction
	// Actor is "bearer" for the holder of a token, "cli" for a command on the host,
	// "service" for the service itself, and [ActorServiceKey] for the holder of a
	// service key.
	Actor string
	// AppID, Identity, Session and Person name the target, as far as they apply.
	AppID    string
	Identity uuid.UUID
	Session  uuid.UUID
	Person   uuid.UUID
	// Reason is free text of the caller; it may be empty.
	Reason string
	// RequestID is that of the request that caused the event; it may be empty.
	RequestID string
	// Detail holds a few more small values, for example generations and ages. The members
	// that [PersonalDetails] names are strings, which an erasure deletes.
	Detail map[string]any
}

// PersonalDetails returns the members of audit details that say something about a person.
func PersonalDetails() []string {
	return []string{"address", "device", "external_id", "first_network", "key", "name", "network", "phone"}
}

// About returns a copy of the event with the person.
func (e AuditEvent) About(person uuid.UUID) AuditEvent {
	e.Person = person
	return e
}

// With returns a copy of the event with further details. It does not change e, because
// several events are often made from one.
func (e AuditEvent) With(detail map[string]any) AuditEvent {
	all := make(map[string]any, len(e.Detail)+len(detail))
	maps.Copy(all, e.Detail)
	maps.Copy(all, detail)
	e.Detail = all
	return e
}

// MaxReasonLen is the maximum length of a reason, in characters.
const MaxReasonLen = 200

// CheckReason returns [InvalidRequest] if a reason is longer than [MaxReasonLen], is
// not valid UTF-8, or contains control characters. An empty reason is valid.
func CheckReason(reason string) error {
	switch {
	case utf8.RuneCountInString(reason) > MaxReasonLen:
		return Invalid("reason must have at most 200 characters")
	case !CleanText(reason):
		return Invalid("reason must be UTF-8 text without control characters")
	}
	return nil
}

// The actors, besides those of [ActorServiceKey].
const (
	ActorBearer  = "bearer"
	ActorCLI     = "cli"
	ActorService = "service"
)

// ActorServiceKey returns the actor for the service key with this id:
// "service_key:<id>".
func ActorServiceKey(id string) string { return "service_key:" + id }
