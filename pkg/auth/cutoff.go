package auth

import (
	"time"

	"github.com/google/uuid"
)

// MaxAccessTokenTTL bounds the lifetime of an access token, whatever the
// settings say.
const MaxAccessTokenTTL = time.Hour

// CutoffRetention is how long session and app cutoffs are kept: longer than
// any access token lives. Key cutoffs are kept for ever.
const CutoffRetention = MaxAccessTokenTTL + 5*time.Minute

// CutoffKind says what a cutoff speaks about.
type CutoffKind string

// The kinds of cutoffs.
const (
	CutoffSession CutoffKind = "session"
	CutoffApp     CutoffKind = "app"
	CutoffKey     CutoffKind = "key"
)

// Cutoff is a revocation as validators see it. It compares integers, never
// clocks.
type Cutoff struct {
	// ID orders cutoffs as they were committed. The store assigns it.
	ID int64
	// Kind says which of the fields below count.
	Kind CutoffKind
	// Session and Ver: tokens of this session below Ver are dead; a Ver of
	// zero means all of them.
	Session uuid.UUID
	Ver     int64
	// AppID and Epoch: tokens of this app below Epoch are dead. Of a session, AppID is
	// the app that it belongs to, as the store fills it in; it is empty when the
	// session's row was gone by then. It is not told to validators.
	AppID string
	Epoch int64
	// Reason is why the app's sessions ended. Stores keep it for admins; validators
	// are not told.
	Reason EndReason
	// KID: tokens signed by this key are dead.
	KID string
	// CoveredBy is a kind beyond these three, if a cutoff of that kind, later in the same
	// transaction, says what this one says, together with others. Validators that know
	// the kind are told that one only. There is no such kind yet.
	CoveredBy CutoffKind
	// ExpiresAt is when the cutoff may be forgotten; zero means never.
	ExpiresAt time.Time
}

// SessionEnded returns the cutoff of a session that ended at now.
func SessionEnded(session uuid.UUID, now time.Time) Cutoff {
	return Cutoff{Kind: CutoffSession, Session: session, ExpiresAt: now.Add(CutoffRetention)}
}

// SessionChanged returns the cutoff of a session whose ver was raised at now:
// tokens below it are dead.
func SessionChanged(session uuid.UUID, ver int64, now time.Time) Cutoff {
	return Cutoff{Kind: CutoffSession, Session: session, Ver: ver, ExpiresAt: now.Add(CutoffRetention)}
}

// AppRevoked returns the cutoff of an app whose epoch was raised at now, because
// it was revoked; a caller with another reason sets Reason.
func AppRevoked(appID string, epoch int64, now time.Time) Cutoff {
	return Cutoff{Kind: CutoffApp, AppID: appID, Epoch: epoch, Reason: EndAppRevoked, ExpiresAt: now.Add(CutoffRetention)}
}

// KeyCompromised returns the cutoff of a signing key that somebody else may
// have. It is kept for ever: whoever has the key can date tokens as he likes.
func KeyCompromised(kid string) Cutoff { return Cutoff{Kind: CutoffKey, KID: kid} }
