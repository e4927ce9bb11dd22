package auth

import (
	"time"

	"github.com/google/uuid"
)

// MaxAccessTokenTTL is the maximum lifetime of an access token that settings may choose.
const MaxAccessTokenTTL = time.Hour

// CutoffRetention is how long session and app cutoffs are kept: longer than
// the lifetime of any access token. Key cutoffs are kept for ever.
const CutoffRetention = MaxAccessTokenTTL + 5*time.Minute

// CutoffKind is the kind of object that a cutoff revokes.
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
	// Kind says which of the fields below are set.
	Kind CutoffKind
	// Session and Ver: tokens of this session below Ver are invalid; a Ver of
	// zero means all tokens.
	Session uuid.UUID
	Ver     int64
	// AppID and Epoch: tokens of this app below Epoch are invalid. For a session cutoff,
	// AppID is the session's app, or empty if that is not known; validators do not get
	// it.
	AppID string
	Epoch int64
	// Reason is why the app's sessions ended. Stores keep it for admins; validators
	// do not get it.
	Reason EndReason
	// KID: tokens signed by this key are invalid.
	KID string
	// CoveredBy is a kind beyond these three, if a cutoff of that kind, later in the same
	// transaction, has the effect of this one and of others. Validators that know the
	// kind get only that one. There is no such kind yet.
	CoveredBy CutoffKind
	// ExpiresAt is when the cutoff may be deleted; zero means never.
	ExpiresAt time.Time
}

// SessionEnded returns the cutoff of an app's session that ended at now.
func SessionEnded(appID string, session uuid.UUID, now time.Time) Cutoff {
	return Cutoff{Kind: CutoffSession, AppID: appID, Session: session, ExpiresAt: now.Add(CutoffRetention)}
}

// SessionChanged returns the cutoff of an app's session whose ver was raised at now:
// tokens below it are invalid.
func SessionChanged(appID string, session uuid.UUID, ver int64, now time.Time) Cutoff {
	return Cutoff{Kind: CutoffSession, AppID: appID, Session: session, Ver: ver, ExpiresAt: now.Add(CutoffRetention)}
}

// AppRevoked returns the cutoff of an app whose epoch was raised at now, with the reason
// [EndAppRevoked]; a caller with another reason sets Reason.
func AppRevoked(appID string, epoch int64, now time.Time) Cutoff {
	return Cutoff{Kind: CutoffApp, AppID: appID, Epoch: epoch, Reason: EndAppRevoked, ExpiresAt: now.Add(CutoffRetention)}
}

// KeyCompromised returns the cutoff of a signing key that somebody else may
// have. It is kept for ever, because the holder of the key can choose the dates in tokens.
func KeyCompromised(kid string) Cutoff { return Cutoff{Kind: CutoffKey, KID: kid} }
