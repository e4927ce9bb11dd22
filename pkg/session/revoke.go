package session

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Target is the target of a revocation: exactly one field is set.
type Target struct {
	// Session ends one session.
	Session uuid.UUID
	// Identity ends every session of an identity.
	Identity uuid.UUID
	// Person ends every session of every identity bound to a person.
	Person uuid.UUID
	// AppID raises an app's epoch: all its sessions end, and no session row is
	// written.
	AppID string
	// All raises every app's epoch.
	All bool
}

// RevokeParams is one revocation.
type RevokeParams struct {
	Target Target
	// Apps restricts the revocation to these apps; nil means all. A target
	// outside of them, and a person without an identity in them, count as not
	// existing.
	Apps []string
	// Event is the audit event. The store fills in the number of sessions, and AppID,
	// Identity and Session as far as the target determines them.
	Event auth.AuditEvent
	Now   time.Time
}

// May reports whether the revocation may touch sessions of the app.
func (r *RevokeParams) May(appID string) bool {
	return r.Apps == nil || slices.Contains(r.Apps, appID)
}

// IdleAfter returns [IdleAfter] of r.Now.
func (r *RevokeParams) IdleAfter() time.Time { return IdleAfter(r.Now) }

// IdleAfter returns the bound of idle expiries at now: only a session whose idle expiry
// is later can still have a valid token.
func IdleAfter(now time.Time) time.Time { return auth.StoredTime(now.Add(-auth.CutoffRetention)) }

// Audit returns the event of the revocation, which names the target. AppID and identity
// may be empty; estimated says that the number of sessions is an estimate.
func (r *RevokeParams) Audit(appID string, identity uuid.UUID, sessions int, estimated bool) auth.AuditEvent {
	e := r.Event.With(map[string]any{"sessions": sessions})
	e.AppID, e.Identity, e.Session, e.Person = appID, identity, r.Target.Session, r.Target.Person
	if estimated {
		e.Detail["estimated"] = true
	}
	if r.Target.All {
		e.Detail["all"] = true
	}
	return e
}

// Revoked is the effect of a revocation.
type Revoked struct {
	// Sessions is the number of live sessions that ended. For apps the sessions are
	// counted before the change. If there are too many to count within a second,
	// it is the database's estimate.
	Sessions int
	// CutoffID is the greatest id of the written cutoffs, or zero when there
	// was nothing to revoke.
	CutoffID int64
}

// RevocationStore is the part of a database that revoking needs. [Store] describes the
// rules for all methods.
type RevocationStore interface {
	// Revoke ends the sessions of the target, with reason [auth.EndRevoked], their
	// cutoffs and one audit event, in one transaction that keeps the order of
	// locks. It is harmless to repeat: a session that has ended already, or
	// expired so long ago that all its tokens have expired, is not counted
	// and gets no cutoff; an app's epoch rises again. The audit event is written
	// even if there was no session to end.
	//
	// Errors: [auth.NotFound] when there is no such session, identity, person
	// or app.
	Revoke(ctx context.Context, r RevokeParams) (Revoked, error)
}
