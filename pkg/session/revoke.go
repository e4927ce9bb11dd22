package session

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Target is what a revocation is about: exactly one field is set.
type Target struct {
	// Session ends one session.
	Session uuid.UUID
	// Identity ends every session of an identity.
	Identity uuid.UUID
	// Person ends every session of every identity bound to a person.
	Person uuid.UUID
	// AppID raises an app's epoch: every session of it dies, however many
	// there are, and none of them is visited.
	AppID string
	// All raises every app's epoch.
	All bool
}

// RevokeParams is one revocation.
type RevokeParams struct {
	Target Target
	// Apps restricts the revocation to these apps; nil means all. A target
	// outside of them is answered as if it did not exist.
	Apps []string
	// Event is the audit event. The store fills in AppID, Identity and Session
	// as far as the target tells them, and the number of sessions.
	Event auth.AuditEvent
	Now   time.Time
}

// Revoked is what a revocation did.
type Revoked struct {
	// Sessions is how many live sessions died of it: for apps they are
	// counted, not visited.
	Sessions int
	// CutoffID is the greatest id of the cutoffs it wrote, or zero when there
	// was nothing to revoke.
	CutoffID int64
}

// RevocationStore is what revoking needs of a database. See [Store] for what
// holds of every method.
type RevocationStore interface {
	// Revoke ends what the target names, with reason [auth.EndRevoked], its
	// cutoffs and one audit event, in one transaction that keeps the order of
	// locks. It is harmless to repeat: a session that has ended already, or is
	// gone, counts for nothing and gets no second cutoff; an app's epoch rises
	// again.
	//
	// Errors: [auth.NotFound] when there is no such session, identity, person
	// or app.
	Revoke(ctx context.Context, r RevokeParams) (Revoked, error)
}
