package session

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Store is the part of a database that this package needs. A method is one use case: it
// commits the change, its cutoffs and its audit event together, or nothing.
//
// The contract, tested for every store by the suite in db/storetest:
//
//   - The methods are safe for concurrent use by any number of processes.
//   - The caller passes the time; a store never reads a clock. Times are
//     in UTC and truncated to microseconds.
//   - A method that returned without error has made its change durable.
//   - A context that is done ends the call with the context's error, and
//     either the whole change was made or nothing was.
//   - Errors are those named at each method, the context's, or
//     [auth.StorageUnavailable] when the database does not answer; any other
//     error is a defect.
//   - Locks are taken in one order: persons by id, identities by shard and
//     uuid, sessions by shard and id, apps by appid (when epochs are raised), then the cutoff id under
//     one advisory lock as the transaction's last statement, so that cutoff ids
//     appear in commit order. Paths that end sessions lock the rows above the
//     sessions first, each kind in its own statement.
type Store interface {
	// App returns the app with its sealed secret, or [auth.AppUnknown].
	App(ctx context.Context, appID string) (auth.App, error)

	// Exchange logs a platform account in: it creates or updates the identity
	// and inserts a session from the values that this write returned, in one round
	// trip, or two on tables that are divided by shard. A known unionid is never replaced by an empty one, and the uuid of
	// a known identity never changes.
	//
	// Afterwards the identity has at most MaxSessions live sessions, the new
	// one included; [State.RefreshError] defines which sessions are live. If there
	// would be more, the surplus ends in the transaction that inserts the
	// new session, which then takes more than one round trip. The oldest
	// sessions end. Of sessions with the same start, the one with the smaller id
	// ends first. The new session never ends, even if the clocks disagree. Each
	// ends for [auth.EndLimit], with a cutoff and an audit event of its own. Any number of
	// concurrent log-ins leave exactly that many sessions, not more and not fewer.
	//
	// Errors: [auth.AppUnknown], [auth.AppDisabled], [auth.IdentityDisabled],
	// [auth.PersonDisabled]. With these no session is created and no session
	// ends; the last two are about the identity ([auth.SubjectOf]).
	// With any error, the new session and the ends of older sessions are committed
	// together or not at all; the unionid and the session_key of the account may
	// have been stored nevertheless.
	Exchange(ctx context.Context, x ExchangeParams) (Granted, error)

	// RecordRefusal writes the audit event of an exchange that was refused.
	RecordRefusal(ctx context.Context, event auth.AuditEvent) error

	// Refresh moves the session one generation forward, with one UPDATE of one
	// row that inserts nothing, or finds that it was moved already, or ends
	// the session; [Judge] is the rule. It returns the row after the change.
	// Hundreds of concurrent calls with the same token make one step and all get
	// the same successor.
	//
	// Errors: [auth.RefreshInvalid] (another app's session),
	// [auth.RefreshExpired] (idle, absolute, or the session was deleted),
	// [auth.SessionRevoked] (ended, or below the app's epoch),
	// [auth.AppUnknown], [auth.AppDisabled], and [auth.RefreshReused] when the
	// presented generation was a late replay or a reuse (the cause says which:
	// [Verdict.Refusal]): the session has been ended, with cutoff and
	// audit event, in the same transaction. An error about a session that exists
	// names its app and its identity ([auth.SubjectOf]).
	Refresh(ctx context.Context, r RefreshParams) (Granted, error)

	// End ends a live session of this app, with its cutoff and audit event. It does
	// nothing, without an error, if the session has ended or was deleted.
	//
	// Errors: [auth.TokenClientMismatch] when the session is another app's.
	End(ctx context.Context, e EndParams) error

	// Confirm waits until everything that was committed before the call is as
	// durable as a commit of the store. A row that was read may not be durable yet:
	// with synchronous replication, a commit whose wait for the standby was interrupted
	// can be read, but is lost when the standby takes over. A use case that reports
	// success because of a row that it read calls Confirm first. The other methods of
	// the store do so by themselves.
	Confirm(ctx context.Context) error

	// Session returns the session with the state of its app, and when and why the
	// session ended with its app.
	//
	// Errors: [auth.SessionRevoked] when there is no such session.
	Session(ctx context.Context, id uuid.UUID) (State, error)

	// LiveSessions returns the sessions of an identity that can be refreshed at
	// now ([State.RefreshError]), the newest first and at most limit. An unknown
	// identity has none.
	LiveSessions(ctx context.Context, identity uuid.UUID, now time.Time, limit int) ([]auth.Session, error)

	// DeleteExpired deletes at most limit sessions whose absolute expiry is
	// before the given time, and at most as many of each of these: cutoffs whose
	// retention ended before now, bind tickets that expired a day before, and counters
	// of attempts that no longer have an effect. It returns the number of deleted rows.
	// It never waits for a locked row.
	DeleteExpired(ctx context.Context, sessionsBefore, now time.Time, limit int) (int, error)
}

// ExchangeParams is one log-in.
type ExchangeParams struct {
	// AppID and Account name the platform account; its unionid may be empty.
	AppID   string
	Account auth.PlatformAccount
	// SealedSessionKey is the platform's session_key, sealed with
	// [SessionKeyAAD].
	SealedSessionKey []byte
	// Device is the cleaned device label; it may be empty.
	Device string
	// NewIdentity is the uuid of the identity if the account is new. NewSession is the
	// id of the new session. Both are in the shard of the account ([shard.NewID]).
	NewIdentity, NewSession uuid.UUID
	// Now is the start of the session.
	Now time.Time
	// IdleTTL and MaxTTL are the session's idle and absolute lifetimes.
	IdleTTL, MaxTTL time.Duration
	// MaxSessions is the limit of live sessions of the identity, this one
	// included; 0 means no limit.
	MaxSessions int
	// RequestID goes into the audit events of the sessions that this one ends.
	RequestID string
}

// RefreshParams is one presented refresh token, its MAC already verified.
type RefreshParams struct {
	// Session and Presented are from the token; Presented is its generation.
	Session   uuid.UUID
	Presented uint32
	// AppID is the client that presents it.
	AppID string
	// Now is the time of the refresh.
	Now time.Time
	// Grace is how long after the first rotation the rotated token still
	// yields its successor.
	Grace time.Duration
	// IdleTTL is the idle lifetime from now on, bounded by the absolute expiry.
	IdleTTL time.Duration
	// RequestID goes into the audit event, if there is one.
	RequestID string
}

// EndParams is one session to end.
type EndParams struct {
	Session uuid.UUID
	// AppID must be the session's.
	AppID  string
	Reason auth.EndReason
	// Event is the audit event; the store fills in AppID, Identity and Session.
	Event auth.AuditEvent
	Now   time.Time
}

// Granted is the data that tokens are minted from: the session row and settings of
// its app.
type Granted struct {
	Session   auth.Session
	Audiences []string
	// SigningAlg is the JWS algorithm that the app chose.
	SigningAlg string
	// OmitExternalID is from the app's policy: tokens do not have the business's own id
	// of the person.
	OmitExternalID bool
	// Verdict says what a refresh did; it is [Rotate] for an exchange.
	Verdict Verdict
	// Ended is the number of sessions that an exchange ended because of the limit.
	Ended int
}

// State is a session with the state of its app.
type State struct {
	Session     auth.Session
	AppEpoch    int64
	AppDisabled bool
	// OutdatedAt and OutdatedBy say when and why the app's epoch first rose above
	// the session's. They are zero while it has not, in the rows that [Store.Refresh]
	// reads, and when it is not known.
	OutdatedAt time.Time
	OutdatedBy auth.EndReason
}

// Ending returns when and why the session ended, by itself or with its app. It
// returns zero values for a session that was not ended.
func (st *State) Ending() (at time.Time, why auth.EndReason) {
	s := &st.Session
	switch {
	case !s.EndedAt.IsZero():
		return s.EndedAt, s.EndReason
	case s.Epoch >= st.AppEpoch:
		return time.Time{}, ""
	case st.OutdatedBy == "":
		return time.Time{}, auth.EndAppRevoked
	default:
		return st.OutdatedAt, st.OutdatedBy
	}
}
