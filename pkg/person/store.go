package person

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Store is what [Service] needs of a database: persons, the identities bound to them,
// bind tickets, and the delays of attempts to bind.
//
// One use case with its cutoffs and its audit event is one transaction. Locks are taken
// in the order persons by id, identities by id, sessions by id, cutoffs. Errors are the
// named ones, the context's, or [auth.StorageUnavailable]. Apps restricts the caller to
// identities of these apps: identities of other apps do not exist for the caller. Nil
// means all apps. Persons belong to no app.
type Store interface {
	FactKeyStore

	// CreatePerson adds a person with their facts and one audit event
	// ([auth.AuditPersonCreated]). Without an ExternalID the draft's ID is it.
	//
	// Errors: [auth.PersonConflict] when another person has the external_id or
	// the phone; nothing has changed then.
	CreatePerson(ctx context.Context, d Draft, event auth.AuditEvent) (auth.PersonRecord, error)

	// Person returns one person, or [auth.NotFound].
	Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error)

	// Persons returns at most q.Limit persons in the order of their ids, those
	// after q.After.
	Persons(ctx context.Context, q Query) ([]auth.PersonRecord, error)

	// UpdatePerson changes what the draft names; an ExternalID that is empty
	// stays as it is. Names and attributes are not in tokens, so no session is
	// touched. The event ([auth.AuditPersonUpdated]) names the person and what
	// changed, and not to what; without a change there is none.
	//
	// Errors: [auth.NotFound]; [auth.PersonConflict], with which nothing has
	// changed; [auth.InvalidRequest] when there would be too many facts.
	UpdatePerson(ctx context.Context, id uuid.UUID, d Draft, event auth.AuditEvent) (auth.PersonRecord, error)

	// UpsertPersons creates or updates persons by their ExternalID, all in one
	// transaction with one audit event ([auth.AuditPersonsImported], detail
	// created, updated, unchanged, refused), and says for each draft what became
	// of it, in their order: [PlanUpsert] is the rule. Drafts apply one after
	// another, also two of one ExternalID. One whose phone another person has is
	// left out, with [auth.PersonConflict], and the others are not lost. It is
	// harmless to repeat: where nothing changes there is no audit event.
	UpsertPersons(ctx context.Context, u Upsert) ([]Upserted, error)

	// DisablePerson disables the person: the person's row is locked, then their
	// identities, which get person_disabled_at, and their sessions end for
	// [auth.EndPersonDisabled], each with a cutoff. EnablePerson lets new log-ins
	// in; sessions that ended stay so. Both are harmless to repeat, without an
	// audit event ([auth.AuditPersonDisabled], [auth.AuditPersonEnabled]).
	//
	// Errors: [auth.NotFound].
	DisablePerson(ctx context.Context, id uuid.UUID, event auth.AuditEvent) (auth.PersonRecord, error)
	EnablePerson(ctx context.Context, id uuid.UUID, event auth.AuditEvent) (auth.PersonRecord, error)

	// Identity returns one identity, or [auth.NotFound].
	Identity(ctx context.Context, id uuid.UUID, apps []string) (IdentityRecord, error)

	// Identities returns at most q.Limit identities in the order of their uuids,
	// those after q.After.
	Identities(ctx context.Context, q IdentityQuery) ([]IdentityRecord, error)

	// IdentitySessions returns at most limit sessions of an identity with the
	// standing of their app, also those that have ended, in falling order of
	// their ids, which is about the newest first; those below the id before,
	// uuid.Nil begins.
	//
	// Errors: [auth.NotFound] when there is no such identity.
	IdentitySessions(ctx context.Context, id uuid.UUID, apps []string, before uuid.UUID, limit int) ([]session.State, error)

	// DisableIdentity disables the identity, whose sessions end for
	// [auth.EndIdentityDisabled], each with a cutoff; EnableIdentity lets it log
	// in again. Both are harmless to repeat, without an audit event
	// ([auth.AuditIdentityDisabled], [auth.AuditIdentityEnabled]).
	//
	// Errors: [auth.NotFound] when there is no such identity, or it is erased.
	DisableIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)
	EnableIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)

	// BindIdentity binds an identity to c.Person as binding.Store.Bind does, without a
	// session that asks: also one that is bound to another person, and by
	// c.Second, which is the app's policy. UnbindIdentity does what
	// binding.Store.Unbind does.
	// An identity that is as it should be stays so, without an audit event.
	//
	// Errors: [auth.NotFound] when there is no such identity, or it is erased;
	// [auth.BindingNoMatch] when there is no such person; [auth.PersonDisabled];
	// [auth.PersonTaken].
	BindIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)
	UnbindIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)

	// EraseIdentity forgets who an identity was: its sessions end for
	// [auth.EndErased], each with a cutoff, and lose their device labels; openid,
	// unionid, session_key and person go, and so do its attempts. The row stays
	// with its uuid, and the next log-in of the account gets a new one: who was
	// disabled is not disabled then. A person that a phone number made
	// ([auth.PersonByPhone]), whom the business gave no external_id of its own,
	// and that no other identity is bound to, loses phone, name, attributes and
	// facts. The identity's events in the trail lose the details of
	// [ErasedDetails]. It is harmless to repeat.
	//
	// Errors: [auth.NotFound].
	EraseIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)

	// AddTicket keeps a ticket, with its audit event.
	//
	// Errors: [auth.NotFound] when there is no such person, [auth.PersonDisabled],
	// [auth.AppUnknown] when the ticket names an app that does not exist.
	AddTicket(ctx context.Context, t Ticket, event auth.AuditEvent) error

	// Attempts returns at most q.Limit counters that say something at q.Now, in
	// the order of kind and key, those after q.After.
	Attempts(ctx context.Context, q AttemptQuery) ([]auth.Attempts, error)

	// LiftDelay forgets the attempts against a key, with an audit event
	// ([auth.AuditDelayLifted]) that names its kind.
	//
	// Errors: [auth.NotFound] when there are none that say something at the time
	// of the event.
	LiftDelay(ctx context.Context, key auth.AttemptKey, event auth.AuditEvent) error
}

// Query finds persons. Fields that are empty do not restrict.
type Query struct {
	// ExternalID and Phone are those of one person.
	ExternalID, Phone string
	// Name is how the name begins.
	Name string
	// After is the id of the last person seen; uuid.Nil begins.
	After uuid.UUID
	Limit int
}

// ErasedDetails are the members of audit details that an erasure takes away.
func ErasedDetails() []string {
	return []string{"address", "device", "external_id", "key", "name", "phone"}
}

// IdentityRecord is all that is known of an identity.
type IdentityRecord struct {
	auth.Identity
	// BoundAt and BoundBy say since when and how it is bound; BoundBy is a method
	// or "admin". Zero while unbound.
	BoundAt time.Time
	BoundBy string
	// CreatedAt and LastLoginAt are in UTC; ErasedAt is zero unless it is erased,
	// and then OpenID is empty.
	CreatedAt, LastLoginAt, ErasedAt time.Time
}

// IdentityQuery finds identities. Fields that are empty do not restrict.
type IdentityQuery struct {
	OpenID, UnionID string
	Person          uuid.UUID
	// AppID is one app; Apps is as at [Store].
	AppID string
	Apps  []string
	After uuid.UUID
	Limit int
}

// IdentityChange is what an admin does to an identity.
type IdentityChange struct {
	Identity uuid.UUID
	Apps     []string
	// Person is whom to bind to, by the rule Second.
	Person uuid.UUID
	Second auth.SecondIdentity
	Now    time.Time
	// Event is the audit event; the store fills in AppID and Identity.
	Event auth.AuditEvent
}

// BoundByAdmin is the BoundBy of an identity that an admin has bound.
const BoundByAdmin = "admin"

// AttemptQuery finds counters of attempts.
type AttemptQuery struct {
	// Kind and Key restrict to some; a Key needs a Kind. A Key of [auth.AttemptAddress] is
	// a network, with or without an app.
	Kind auth.AttemptKind
	Key  string
	// Person restricts to the values of their facts.
	Person uuid.UUID
	// Delayed leaves out what is not delayed at Now.
	Delayed bool
	Now     time.Time
	After   auth.AttemptKey
	Limit   int
}
