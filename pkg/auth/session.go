package auth

import (
	"time"

	"github.com/google/uuid"
)

// Session is one log-in on one device. It carries every claim its access
// tokens carry, and it owns the refresh chain.
type Session struct {
	// ID is the sid claim. UUID, version 7. Knowing it opens nothing.
	ID uuid.UUID
	// Identity is the sub claim.
	Identity uuid.UUID
	// AppID is the client_id claim.
	AppID string
	// Device is the label the client gave at the exchange; it may be empty.
	Device string
	// Person is the bound person, or nil while unbound.
	Person *Person
	// Ver rises whenever what the tokens say is weakened or changed; tokens
	// below it are dead.
	Ver int64
	// Epoch is the app's epoch at the exchange.
	Epoch int64
	// Generation is that of the refresh token which is good now.
	Generation uint32
	// RotatedAt is when Generation was reached. It starts the grace window of
	// the generation before. It is never shown to the session's bearer: a
	// thief could time his replay by it.
	RotatedAt time.Time
	// StartedAt is when the session was created.
	StartedAt time.Time
	// IdleExpiresAt is when the refresh token dies unless it is used before.
	IdleExpiresAt time.Time
	// ExpiresAt is the absolute end, however often the session is refreshed.
	ExpiresAt time.Time
	// EndedAt is when the session was ended; zero while it is not.
	EndedAt time.Time
	// EndReason says why it was ended.
	EndReason EndReason
}

// FirstGeneration is the generation of a new session's refresh token. Zero is
// never used, so a forgotten field is never a good token.
const FirstGeneration uint32 = 1

// Bound reports whether the session's identity is bound to a person.
func (s *Session) Bound() bool { return s.Person != nil }

// WithoutExternalID returns the session of a person whose id of the business is
// not to be told.
func (s Session) WithoutExternalID() Session {
	if s.Person != nil {
		p := *s.Person
		p.ExternalID = ""
		s.Person = &p
	}
	return s
}

// EndReason says why a session ended. It is stored, and shown to admins.
type EndReason string

// The reasons there are.
const (
	EndLogout     EndReason = "logout"
	EndReplayLate EndReason = "refresh.replay_late"
	EndReuse      EndReason = "refresh.reuse"
	EndRevoked    EndReason = "revoked"
	// EndLimit: it was the oldest when its identity had too many.
	EndLimit EndReason = "session_limit"
	// EndReplaced: its identity's person bound another identity of the app.
	EndReplaced EndReason = "replaced"
	// EndIdentityDisabled, EndPersonDisabled and EndErased: an admin did that.
	EndIdentityDisabled EndReason = "identity_disabled"
	EndPersonDisabled   EndReason = "person_disabled"
	EndErased           EndReason = "erased"
	// EndAppRevoked, EndAppDisabled and EndKeyRetired: its app's epoch was raised,
	// by a revocation of the app or of everything, because the app was disabled,
	// or because a refresh key leaked. Such a session's row is not touched.
	EndAppRevoked  EndReason = "app_revoked"
	EndAppDisabled EndReason = "app_disabled"
	EndKeyRetired  EndReason = "key_retired"
)
