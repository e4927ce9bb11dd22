package session

import (
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// The rows and audit events that all stores share.

// firstVer is the ver of a new session. No session has zero, which means "all tokens"
// in a cutoff.
const firstVer = 1

// Session returns the row of the session that x starts, without the values that only the
// database knows: identity, person and epoch.
func (x *ExchangeParams) Session() auth.Session {
	now := auth.StoredTime(x.Now)
	expires := auth.StoredTime(now.Add(x.MaxTTL))
	return auth.Session{
		ID: x.NewSession, AppID: x.AppID, Device: x.Device,
		Ver: firstVer, Generation: auth.FirstGeneration,
		RotatedAt: now, StartedAt: now,
		IdleExpiresAt: auth.StoredTime(IdleExpiry(now, x.IdleTTL, expires)), ExpiresAt: expires,
	}
}

// LimitEvent returns the audit event of a session of the identity that ends
// because x exceeds the limit of live sessions.
func (x *ExchangeParams) LimitEvent(identity, ended uuid.UUID) auth.AuditEvent {
	return auth.AuditEvent{
		At: x.Now, Action: auth.AuditSessionLimit, Actor: auth.ActorService,
		AppID: x.AppID, Identity: identity, Session: ended, RequestID: x.RequestID,
		Detail: map[string]any{"limit": x.MaxSessions, "started": x.NewSession},
	}
}

// EndReason returns the reason for which the verdict ends the session, or "" if it does
// not end it.
func (v Verdict) EndReason() auth.EndReason {
	switch v {
	case ReplayLate:
		return auth.EndReplayLate
	case Reuse:
		return auth.EndReuse
	default:
		return ""
	}
}

// Event returns the audit event of a verdict, or false if the verdict is not audited. s is
// the session before the change.
func (r *RefreshParams) Event(v Verdict, s *auth.Session) (auth.AuditEvent, bool) {
	e := auth.AuditEvent{
		At: r.Now, Actor: auth.ActorBearer,
		AppID: s.AppID, Identity: s.Identity, Session: s.ID, RequestID: r.RequestID,
		Detail: map[string]any{"presented": r.Presented, "generation": s.Generation},
	}
	switch v {
	case RolledBack:
		e.Action = auth.AuditRefreshRollback
	case ReplayLate:
		e.Action = auth.AuditRefreshReplay
		e.Detail["age_ms"] = r.Now.Sub(s.RotatedAt).Milliseconds()
	case Reuse:
		e.Action = auth.AuditRefreshReuse
		e.Detail["age_ms"] = r.Now.Sub(s.RotatedAt).Milliseconds()
	default:
		return auth.AuditEvent{}, false
	}
	return e, true
}
