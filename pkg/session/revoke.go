package session

import (
	"context"
	"slices"
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
	// outside of them is answered as if it did not exist, and so is a person
	// without an identity in them.
	Apps []string
	// Event is the audit event. The store fills in AppID, Identity and Session
	// as far as the target tells them, and the number of sessions.
	Event auth.AuditEvent
	Now   time.Time
}

// May reports whether the revocation may touch sessions of the app.
func (r *RevokeParams) May(appID string) bool {
	return r.Apps == nil || slices.Contains(r.Apps, appID)
}

// IdleAfter returns the time after which a session's idle expiry must lie for
// any of its tokens to be left.
func (r *RevokeParams) IdleAfter() time.Time { return IdleAfter(r.Now) }

// IdleAfter returns the time after which a session's idle expiry must lie for
// any of its tokens to be left at now.
func IdleAfter(now time.Time) time.Time { return auth.StoredTime(now.Add(-auth.CutoffRetention)) }

// Audit returns the event of the revocation, which names the target. An empty
// appID and a nil identity are none; estimated says that the number of sessions
// is.
func (r *RevokeParams) Audit(appID string, identity uuid.UUID, sessions int, estimated bool) auth.AuditEvent {
	e := r.Event.With(map[string]any{"sessions": sessions})
	e.AppID, e.Identity, e.Session = appID, identity, r.Target.Session
	if estimated {
		e.Detail["estimated"] = true
	}
	if r.Target.Person != uuid.Nil {
		e.Detail["person"] = r.Target.Person
	}
	if r.Target.All {
		e.Detail["all"] = true
	}
	return e
}

// Revoked is what a revocation did.
type Revoked struct {
	// Sessions is how many live sessions died of it. For apps they are counted
	// before, not visited, and when there are too many to count within a second
	// it is the database's estimate.
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
	// locks. It is harmless to repeat: a session that has ended already, or
	// expired so long ago that none of its tokens is left, counts for nothing
	// and gets no cutoff; an app's epoch rises again. The audit event is written
	// also when nothing was left to end.
	//
	// Errors: [auth.NotFound] when there is no such session, identity, person
	// or app.
	Revoke(ctx context.Context, r RevokeParams) (Revoked, error)
}
