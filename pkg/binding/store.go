package binding

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// Store is what [Service] needs of a database. What session.Store says of every
// method holds here too: one use case with its cutoffs and its audit event
// is one transaction, locks are taken in the order persons by id, identities by
// id, sessions by id, cutoffs, and errors are those named, the context's or
// [auth.StorageUnavailable].
type Store interface {
	// App returns the app with its policy, or [auth.AppUnknown].
	App(ctx context.Context, appID string) (auth.App, error)

	// Candidate looks for the person whose fact has this MAC. It always does the
	// same work: where no person has it, it answers another person, the next in the
	// order of MACs, whose Lookup is then not the one that was asked for. The
	// caller compares, in constant time. Without any such fact in the database
	// it answers the zero Candidate.
	Candidate(ctx context.Context, lookup string, mac []byte) (Candidate, error)

	// PhoneCandidate returns the person with this number, or the zero Candidate.
	PhoneCandidate(ctx context.Context, phone string) (Candidate, error)

	// PlatformAccount returns the openid and the unionid of an identity, the latter
	// empty when it is not known, or [auth.NotFound], also when it was erased.
	PlatformAccount(ctx context.Context, identity uuid.UUID) (openID, unionID string, err error)

	// Ticket returns the ticket with this hash and its person, or
	// [auth.TicketInvalid]. Expired and used tickets are returned as they are,
	// until they are deleted.
	Ticket(ctx context.Context, hash [32]byte) (person.Ticket, error)

	// Person returns one person, or [auth.NotFound].
	Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error)

	// Bind binds the identity of a session to a person, or does nothing because
	// it is bound to the person already.
	//
	// The person's row is locked first, then all identities concerned in one
	// statement: the session's own, and those of the person in the same app. Then
	// their sessions, among them the one that asks, which must be live and have
	// the ver of its token.
	//
	// Every session of the identity whose tokens may be in use gets the person
	// and the next ver, and a cutoff at that ver. By [auth.SecondReplaces] the
	// person's other identities in the app are unbound and their sessions end,
	// for [auth.EndReplaced], each with its cutoff, each identity with an audit
	// event [auth.AuditBindingReplaced].
	//
	// A person that was saved has an audit event, [auth.AuditPersonCreated]
	// or, if anything changed, [auth.AuditPersonUpdated]: it names what
	// changed, and not to what.
	//
	// A ticket is used up in the same transaction. One that this identity used
	// before is good as long as the identity is still bound to its person, and
	// changes nothing.
	//
	// Errors: [auth.SessionRevoked] when the session is not live or has another
	// ver; [auth.BindingNoMatch] when the person is gone; [auth.PersonDisabled];
	// [auth.AlreadyBound] when the identity is bound to another person and Rebind
	// is false, or the target is a number, which may make a new person;
	// [auth.PersonTaken] by [auth.SecondRefused]; [auth.TicketInvalid];
	// [auth.PersonConflict] when the phone of a person to save is another
	// person's. With any error nothing has changed, no person was made and no
	// ticket used.
	Bind(ctx context.Context, b BindParams) (BindResult, error)

	// Unbind unbinds the identity of a session, whose sessions get no person and
	// the next ver, with their cutoffs and the audit event. An identity that is
	// not bound stays as it is.
	//
	// Errors: [auth.SessionRevoked] as at Bind.
	Unbind(ctx context.Context, u UnbindParams) (BindResult, error)

	// Reserve counts one attempt against every key, or none, in a transaction of
	// its own: [Count] is the rule. When any of them is still delayed,
	// nothing is counted, and Wait says how long the longest delay takes. Any
	// number of concurrent calls let no more through than one after another
	// would. For each key whose delay this attempt begins, the event is written
	// once, with its detail (kind, failures, delay_s).
	Reserve(ctx context.Context, keys []auth.AttemptKey, now time.Time, event auth.AuditEvent) (Reservation, error)

	// Refund takes an attempt back: [Uncount] is the rule. Other attempts
	// stay counted. What was deleted since is no error.
	Refund(ctx context.Context, r Reservation) error

	// RecordRefusal writes the audit event of an attempt that failed.
	RecordRefusal(ctx context.Context, event auth.AuditEvent) error
}

// Candidate is a person that may be the one, for the caller to compare.
type Candidate struct {
	// Person is uuid.Nil when there is none.
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
	// Person is one that is there.
	Person uuid.UUID
	// Phone is the number of a person that is made if no person has it: New is their
	// id, and their external_id until the business sets one.
	Phone string
	// Save is a person that is created or updated by its external_id first.
	Save *person.Draft
	// New is the id of a person that has to be made.
	New uuid.UUID
}

// BindParams is one binding.
type BindParams struct {
	// Session asks, with a token of this Ver.
	Session uuid.UUID
	Ver     int64
	Target  Target
	// Ticket is the hash of a ticket to use up, or nil.
	Ticket *[32]byte
	Method auth.BindingMethod
	// Second and Rebind are the app's policy.
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

// BindResult is what the session says afterwards, from which its tokens are minted.
type BindResult struct {
	Session auth.Session
	// Changed is false when everything was so before.
	Changed bool
	// Replaced are the identities that were unbound for this one.
	Replaced []uuid.UUID
}
