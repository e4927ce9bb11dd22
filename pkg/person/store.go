package person

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Store is the part of a database that [Service] needs: persons, the identities bound to
// them, bind tickets, and the delays of attempts to bind.
//
// One use case with its cutoffs and its audit event is one transaction. Locks are taken
// in the order persons by id, identities by shard and uuid, sessions by shard and id,
// cutoffs. Errors are the named ones, the context's, or [auth.StorageUnavailable]. Apps
// restricts the caller to identities of these apps: identities of other apps do not exist
// for the caller. Nil means all apps. Persons belong to no app.
type Store interface {
	FactKeyStore

	// CreatePerson adds a person with their facts and one audit event
	// ([auth.AuditPersonCreated]). If the draft has no ExternalID, it is the draft's ID.
	//
	// Errors: [auth.PersonConflict] when another person has the external_id or
	// the phone; nothing has changed then.
	CreatePerson(ctx context.Context, d Draft, event auth.AuditEvent) (auth.PersonRecord, error)

	// Person returns one person, or [auth.NotFound].
	Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error)

	// Persons returns at most q.Limit persons with ids after q.After, in the order of
	// their ids.
	Persons(ctx context.Context, q Query) ([]auth.PersonRecord, error)

	// UpdatePerson changes the fields that the draft sets; an empty ExternalID
	// changes nothing. It changes no session: names and attributes are not in tokens,
	// and an external_id in tokens is as old as their refresh. The event ([auth.AuditPersonUpdated]) names the person and the changed
	// fields without their values; without a change there is no event.
	//
	// Errors: [auth.NotFound]; [auth.PersonConflict], with which nothing has
	// changed; [auth.InvalidRequest] when there would be too many facts.
	UpdatePerson(ctx context.Context, id uuid.UUID, d Draft, event auth.AuditEvent) (auth.PersonRecord, error)

	// UpsertPersons creates or updates persons by their ExternalID, all in one
	// transaction with one audit event ([auth.AuditPersonsImported], detail
	// created, updated, unchanged, refused). It returns the outcome of each draft, in
	// their order: [PlanUpsert] is the rule. Drafts apply one after another, also two
	// with the same ExternalID. A draft whose phone another person has is refused with
	// [auth.PersonConflict], and the others are applied. It is harmless to repeat:
	// without a change there is no audit event.
	UpsertPersons(ctx context.Context, u Upsert) ([]Upserted, error)

	// DisablePerson disables the person: the person's row is locked, then their
	// identities, which get person_disabled_at, and their sessions end for
	// [auth.EndPersonDisabled], each with a cutoff. EnablePerson allows new log-ins;
	// sessions that ended stay ended. Both are harmless to repeat: the second call writes
	// no audit event ([auth.AuditPersonDisabled], [auth.AuditPersonEnabled]).
	//
	// Errors: [auth.NotFound].
	DisablePerson(ctx context.Context, id uuid.UUID, event auth.AuditEvent) (auth.PersonRecord, error)
	EnablePerson(ctx context.Context, id uuid.UUID, event auth.AuditEvent) (auth.PersonRecord, error)

	// Identity returns one identity, or [auth.NotFound].
	Identity(ctx context.Context, id uuid.UUID, apps []string) (IdentityRecord, error)

	// Identities returns at most q.Limit identities with uuids after q.After, in the
	// order of their uuids.
	Identities(ctx context.Context, q IdentityQuery) ([]IdentityRecord, error)

	// IdentitySessions returns at most limit sessions of an identity with the
	// state of their app, ended sessions too, in descending order of their ids, which is
	// roughly the newest first. It returns sessions with ids below before; uuid.Nil
	// means from the beginning.
	//
	// Errors: [auth.NotFound] when there is no such identity.
	IdentitySessions(ctx context.Context, id uuid.UUID, apps []string, before uuid.UUID, limit int) ([]session.State, error)

	// DisableIdentity disables the identity. Its sessions end for
	// [auth.EndIdentityDisabled], each with a cutoff. EnableIdentity lets it log in
	// again. Both are harmless to repeat: the second call writes no audit event
	// ([auth.AuditIdentityDisabled], [auth.AuditIdentityEnabled]).
	//
	// Errors: [auth.NotFound] when there is no such identity, or it is erased.
	DisableIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)
	EnableIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)

	// BindIdentity binds an identity to c.Person as binding.Store.Bind does, but without
	// the session of a request. It also binds an identity that is bound to another
	// person. c.Second is the rule of the app's policy. UnbindIdentity does what
	// binding.Store.Unbind does. Without a change there is no audit event.
	//
	// Errors: [auth.NotFound] when there is no such identity, or it is erased;
	// [auth.BindingNoMatch] when there is no such person; [auth.PersonDisabled];
	// [auth.PersonTaken].
	BindIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)
	UnbindIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)

	// EraseIdentity erases the personal data of an identity. Its sessions end for
	// [auth.EndErased], each with a cutoff, and lose their device labels. Openid,
	// unionid, session_key, person and attempts are deleted. The row stays with its
	// uuid; the next log-in of the account gets a new uuid, so a disabled account can
	// log in again. A person that was made by a phone number ([auth.PersonByPhone]),
	// without an external_id from the business and without another bound identity,
	// loses phone, name, attributes and facts. The audit events of the identity, and of
	// such a person, lose their personal values. It is harmless to repeat.
	//
	// Errors: [auth.NotFound].
	EraseIdentity(ctx context.Context, c IdentityChange) (IdentityRecord, error)

	// AddTicket stores a ticket, with its audit event.
	//
	// Errors: [auth.NotFound] when there is no such person, [auth.PersonDisabled],
	// [auth.AppUnknown] when the ticket names an app that does not exist.
	AddTicket(ctx context.Context, t Ticket, event auth.AuditEvent) error

	// Attempts returns at most q.Limit counters after q.After that have an effect at
	// q.Now, in the order of kind and key.
	Attempts(ctx context.Context, q AttemptQuery) ([]auth.Attempts, error)

	// LiftDelay deletes the counter of a key, with an audit event
	// ([auth.AuditDelayLifted]) that names its kind.
	//
	// Errors: [auth.NotFound] when no such counter has an effect at the time of the
	// event.
	LiftDelay(ctx context.Context, key auth.AttemptKey, event auth.AuditEvent) error
}

// Query finds persons. Empty fields do not restrict the result.
type Query struct {
	// ExternalID and Phone match exactly.
	ExternalID, Phone string
	// Name is a prefix of the name.
	Name string
	// After is the id of the last person seen; uuid.Nil means from the beginning.
	After uuid.UUID
	Limit int
}

// IdentityRecord is the whole row of an identity.
type IdentityRecord struct {
	auth.Identity
	// BoundAt and BoundBy say when and how it was bound; BoundBy is a method
	// or "admin". Zero while unbound.
	BoundAt time.Time
	BoundBy string
	// CreatedAt and LastLoginAt are in UTC; ErasedAt is zero unless it is erased,
	// and then Subject is empty.
	CreatedAt, LastLoginAt, ErasedAt time.Time
}

// IdentityQuery finds identities. Empty fields do not restrict the result.
type IdentityQuery struct {
	OpenID, UnionID string
	Person          uuid.UUID
	// AppID is one app; Apps is as at [Store].
	AppID string
	Apps  []string
	After uuid.UUID
	Limit int
}

// IdentityChange is a change of an identity by an admin.
type IdentityChange struct {
	Identity uuid.UUID
	Apps     []string
	// Person is the person to bind to, with the rule Second.
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
	// Kind and Key restrict the result; a Key needs a Kind. A Key of
	// [auth.AttemptAddress] is a network, with or without an app.
	Kind auth.AttemptKind
	Key  string
	// Person restricts the result to the values of the person's facts.
	Person uuid.UUID
	// Delayed leaves out counters that are not delayed at Now.
	Delayed bool
	Now     time.Time
	After   auth.AttemptKey
	Limit   int
}
