package auth

import (
	"time"

	"github.com/google/uuid"
)

// Session is one log-in on one device. It has all claims of its access tokens, and
// the state of its refresh tokens.
type Session struct {
	// ID is the sid claim. UUID, version 7. It is not a secret.
	ID uuid.UUID
	// Identity is the sub claim.
	Identity uuid.UUID
	// AppID is the client_id claim.
	AppID string
	// Device is the label the client gave at the exchange; it may be empty.
	Device string
	// Person is the bound person, or nil while unbound.
	Person *Person
	// Ver rises when the session is weakened or its binding changes. Tokens with a lower
	// ver are invalid.
	Ver int64
	// Epoch is the app's epoch at the exchange.
	Epoch int64
	// Generation is that of the current refresh token.
	Generation uint32
	// RotatedAt is when Generation was reached. It starts the grace window of
	// the generation before. The session's bearer never sees it, because a thief could
	// use it to time a replay.
	RotatedAt time.Time
	// StartedAt is when the session was created.
	StartedAt time.Time
	// IdleExpiresAt is when the refresh token expires unless it is used before.
	IdleExpiresAt time.Time
	// ExpiresAt is the absolute end, however often the session is refreshed.
	ExpiresAt time.Time
	// EndedAt is when the session was ended; zero if it was not.
	EndedAt time.Time
	// EndReason says why it was ended.
	EndReason EndReason
}

// FirstGeneration is the generation of a new session's refresh token. Zero is
// never used, so a field that was not set is never a valid token.
const FirstGeneration uint32 = 1

// Bound reports whether the session's identity is bound to a person.
func (s *Session) Bound() bool { return s.Person != nil }

// WithoutExternalID returns the session without the business's own id of the person.
func (s Session) WithoutExternalID() Session {
	if s.Person != nil {
		p := *s.Person
		p.ExternalID = ""
		s.Person = &p
	}
	return s
}

// EndReason is the reason why a session ended. It is stored, and shown to admins.
type EndReason string

// The reasons.
const (
	EndLogout     EndReason = "logout"
	EndReplayLate EndReason = "refresh.replay_late"
	EndReuse      EndReason = "refresh.reuse"
	EndRevoked    EndReason = "revoked"
	// EndLimit: it was the oldest when its identity had too many.
	EndLimit EndReason = "session_limit"
	// EndReplaced: its identity's person bound another identity of the app.
	EndReplaced EndReason = "replaced"
	// EndIdentityDisabled, EndPersonDisabled and EndErased: an admin disabled the
	// identity or the person, or erased the identity.
	EndIdentityDisabled EndReason = "identity_disabled"
	EndPersonDisabled   EndReason = "person_disabled"
	EndErased           EndReason = "erased"
	// EndAppRevoked, EndAppDisabled and EndKeyRetired: its app's epoch was raised,
	// by a revocation of the app or of everything, because the app was disabled,
	// or because a refresh key leaked. The rows of such sessions are not written.
	EndAppRevoked  EndReason = "app_revoked"
	EndAppDisabled EndReason = "app_disabled"
	EndKeyRetired  EndReason = "key_retired"
)
