package binding

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// Store is the part of a database that [Service] needs. The rules of session.Store for
// all methods apply here too: one use case with its cutoffs and its audit event
// is one transaction; locks are taken in the order persons by id, identities by
// id, sessions by id, cutoffs; errors are those named, the context's or
// [auth.StorageUnavailable].
type Store interface {
	// App returns the app with its policy, or [auth.AppUnknown].
	App(ctx context.Context, appID string) (auth.App, error)

	// Candidate looks up the person whose fact has this MAC. It always does the
	// same work: if no person has it, it returns the next person in the order of MACs,
	// whose Lookup is then another one. The caller compares in constant time. If the
	// database has no such fact at all, it returns the zero Candidate.
	Candidate(ctx context.Context, lookup string, mac []byte) (Candidate, error)

	// PhoneCandidate returns the person with this number, or the zero Candidate.
	PhoneCandidate(ctx context.Context, phone string) (Candidate, error)

	// PlatformAccount returns the platform account of an identity. It returns
	// [auth.NotFound] also for an erased identity.
	PlatformAccount(ctx context.Context, identity uuid.UUID) (auth.PlatformAccount, error)

	// Ticket returns the ticket with this hash and its person, or
	// [auth.TicketInvalid]. Expired and used tickets are returned as they are,
	// until they are deleted.
	Ticket(ctx context.Context, hash [32]byte) (person.Ticket, error)

	// Person returns one person, or [auth.NotFound].
	Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error)

	// Bind binds the identity of a session to a person. It does nothing if the identity
	// is bound to the person already.
	//
	// It locks the person's row first, then the session's own identity and the person's
	// identities in the same app. Then it locks their sessions. The
	// session of the request is one of them; it must be live and have the ver of its
	// token.
	//
	// Every session of the identity whose tokens may be in use gets the person
	// and the next ver, and a cutoff at that ver. With [auth.SecondReplaces] the
	// person's other identities in the app are unbound and their sessions end,
	// for [auth.EndReplaced]. Each of these sessions gets a cutoff, and each identity an
	// audit event [auth.AuditBindingReplaced].
	//
	// A person that was saved gets an audit event, [auth.AuditPersonCreated]
	// or, if anything changed, [auth.AuditPersonUpdated]. It names the changed fields
	// without their values.
	//
	// A ticket is used up in the same transaction. A ticket that this identity used
	// before is accepted as long as the identity is still bound to its person, and
	// changes nothing.
	//
	// Errors: [auth.SessionRevoked] when the session is not live or has another
	// ver; [auth.BindingNoMatch] when the person is gone; [auth.PersonDisabled];
	// [auth.AlreadyBound] when the identity is bound to another person, unless Rebind
	// is true and the target is not a phone number (a number may make a new person);
	// [auth.PersonTaken] with [auth.SecondRefused]; [auth.TicketInvalid];
	// [auth.PersonConflict] when another person has the phone of a person to save. With
	// any error nothing has changed, no person was made and no ticket used.
	Bind(ctx context.Context, b BindParams) (BindResult, error)

	// Unbind unbinds the identity of a session. The identity's sessions get no person
	// and the next ver, with their cutoffs and the audit event. Nothing changes if the
	// identity is not bound.
	//
	// Errors: [auth.SessionRevoked] as at Bind.
	Unbind(ctx context.Context, u UnbindParams) (BindResult, error)

	// Reserve counts one attempt against all keys or against no key, in its own
	// transaction: [Count] is the rule. If any key is still delayed, it counts
	// nothing, and Wait is the longest delay. Concurrent calls do not admit more
	// attempts than sequential calls. For each key whose delay this attempt begins, the
	// event is written once, with its detail (kind, failures, delay_s).
	Reserve(ctx context.Context, keys []auth.AttemptKey, now time.Time, event auth.AuditEvent) (Reservation, error)

	// Refund removes an attempt from the counters: [Uncount] is the rule. Other
	// attempts stay counted. A counter that was deleted since is no error.
	Refund(ctx context.Context, r Reservation) error

	// RecordRefusal writes the audit event of an attempt that failed.
	RecordRefusal(ctx context.Context, event auth.AuditEvent) error
}

// Candidate is a person that may match; the caller compares the MACs.
type Candidate struct {
	// Person is uuid.Nil in the zero Candidate.
	Person uuid.UUID
	// Lookup is the MAC of the fact that the person was looked up by.
	Lookup []byte
	// Shared says that another person has the same MAC.
	Shared bool
	// Facts are the MACs of all their facts by name.
	Facts map[string][]byte
}

// Target is the person to bind to: exactly one field is set.
type Target struct {
	// Person is an existing person.
	Person uuid.UUID
	// Phone is a phone number. If no person has it, a person is made, with New as id,
	// and as external_id until the business sets one.
	Phone string
	// Save is a person to create or update by external_id first.
	Save *person.Draft
	// New is the id of a new person for Phone.
	New uuid.UUID
}

// BindParams is one binding.
type BindParams struct {
	// Session and Ver are from the presented token.
	Session uuid.UUID
	Ver     int64
	Target  Target
	// Ticket is the hash of a ticket to use up, or nil.
	Ticket *[32]byte
	Method auth.BindingMethod
	// Second and Rebind are from the app's policy.
	Second auth.SecondIdentity
	Rebind bool
	Now    time.Time
	// Event is the audit event; the store fills in AppID, Identity and Session,
	// and the person and the method in Detail.
	Event auth.AuditEvent
}

// UnbindParams is one unbinding.
type UnbindParams struct {
	Session uuid.UUID
	Ver     int64
	Now     time.Time
	// Event is as in [BindParams].
	Event auth.AuditEvent
}

// BindResult is the result of [Store.Bind] and [Store.Unbind].
type BindResult struct {
	// Session is the session's row afterwards, from which its tokens are minted.
	Session auth.Session
	// Changed says whether the call changed the binding.
	Changed bool
	// Replaced are the identities that were unbound for this one.
	Replaced []uuid.UUID
}
