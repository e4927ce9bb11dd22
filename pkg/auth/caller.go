package auth

import (
	"slices"
	"time"
)

// ErrRestricted refuses an operation to a caller that is restricted to apps.
var ErrRestricted = &Error{Code: InsufficientScope, Description: "The request needs a service key that is not restricted to apps."}

// Caller is the admin or program that makes a request, with the reason.
type Caller struct {
	// Actor, Reason and RequestID go into the audit trail. Reason and RequestID may
	// be empty.
	Actor, Reason, RequestID string
	// Apps restricts the caller to these apps; empty means all.
	Apps []string
}

// Restricted reports whether the caller is restricted to some apps.
func (c *Caller) Restricted() bool { return len(c.Apps) > 0 }

// Sees reports whether the app exists for the caller.
func (c *Caller) Sees(appID string) bool { return !c.Restricted() || slices.Contains(c.Apps, appID) }

// Scope returns the caller's apps as stores take them: nil means all apps.
func (c *Caller) Scope() []string {
	if !c.Restricted() {
		return nil
	}
	return c.Apps
}

// Event returns the audit event of the caller's action. It returns [InvalidRequest] if
// the reason is not valid.
func (c *Caller) Event(action AuditAction, at time.Time) (AuditEvent, error) {
	if err := CheckReason(c.Reason); err != nil {
		return AuditEvent{}, err
	}
	return AuditEvent{At: StoredTime(at), Action: action, Actor: c.Actor, Reason: c.Reason, RequestID: c.RequestID}, nil
}
