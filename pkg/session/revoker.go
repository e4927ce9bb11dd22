package session

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// RevokerConfig configures a [Revoker]. All fields are required.
type RevokerConfig struct {
	// Store applies the cutoffs that it writes, see [Config].
	Store RevocationStore
	// Verifier and Codec find the session of a token.
	Verifier *token.Verifier
	Codec    *token.RefreshCodec
	// MaxStaleness is the maximum age of a validator's revocation data.
	MaxStaleness time.Duration
	// AccessTokenTTL is the lifetime of access tokens.
	AccessTokenTTL time.Duration
	// Clock returns the current time by the database's clock.
	Clock func() time.Time
}

// Revoker ends sessions for admins. It is safe for concurrent use and keeps no
// state.
type Revoker struct {
	c RevokerConfig
}

// NewRevoker returns a revoker.
func NewRevoker(c RevokerConfig) *Revoker { return &Revoker{c} }

// RevocationRequest names the sessions that an admin wants to end.
type RevocationRequest struct {
	// Token is an access token, expired or not, or a refresh token: its session
	// ends. Exactly one of Token and the fields of Target is set.
	Token  auth.Secret
	Target Target
	// Reason is for the audit trail; it may be empty.
	Reason string
	// Apps restricts the caller to these apps; empty means all.
	Apps []string
	// Actor and RequestID go into the audit trail.
	Actor, RequestID string
}

// Revocation is the result of [Revoker.Revoke].
type Revocation struct {
	Revoked
	// Target is the request's target, or the session of its token.
	Target Target
	// EffectiveBy is when all validators that follow the feed refuse the tokens.
	// ExpiresBy is when all other validators refuse them too.
	EffectiveBy, ExpiresBy time.Time
}

// Revoke ends the sessions that the request names. It is harmless to repeat.
//
// Errors: [auth.InvalidRequest] when the request does not name exactly one target or
// the reason is not valid text; [auth.NotFound] when the target does not exist, is
// outside of the apps, or the token is not ours; [auth.InsufficientScope] when a
// caller that is restricted to apps names a person or all.
func (r *Revoker) Revoke(ctx context.Context, q RevocationRequest) (Revocation, error) {
	if err := q.check(); err != nil {
		return Revocation{}, err
	}
	target := q.Target
	if q.Token != "" {
		id, ok := r.sessionOf(ctx, q.Token.Reveal())
		if !ok {
			return Revocation{}, errNoToken
		}
		target = Target{Session: id}
	}
	now := auth.StoredTime(r.c.Clock())
	p := RevokeParams{
		Target: target,
		Event:  auth.AuditEvent{At: now, Action: auth.AuditRevoked, Actor: q.Actor, Reason: q.Reason, RequestID: q.RequestID},
		Now:    now,
	}
	if len(q.Apps) > 0 {
		p.Apps = q.Apps
	}
	done, err := r.c.Store.Revoke(ctx, p)
	if auth.CodeOf(err) == auth.NotFound {
		if q.Token != "" {
			return Revocation{}, errNoToken
		}
		return Revocation{}, errNoTarget
	}
	if err != nil {
		return Revocation{}, err
	}
	// The time after the commit: both times are guarantees.
	now = auth.StoredTime(r.c.Clock())
	return Revocation{Revoked: done, Target: target, EffectiveBy: now.Add(r.c.MaxStaleness), ExpiresBy: now.Add(r.c.AccessTokenTTL)}, nil
}

var (
	errNoToken  = &auth.Error{Code: auth.NotFound, Description: "This is not a token of this server, or its session is no longer stored."}
	errNoTarget = &auth.Error{Code: auth.NotFound, Description: "The target of the revocation does not exist."}
)

// check refuses a request that does not name exactly one target, or names sessions that
// the caller may not end.
func (q *RevocationRequest) check() error {
	named := 0
	t := &q.Target
	for _, is := range []bool{q.Token != "", t.Session != uuid.Nil, t.Identity != uuid.Nil, t.Person != uuid.Nil, t.AppID != "", t.All} {
		if is {
			named++
		}
	}
	switch {
	case named != 1:
		return auth.Invalid("Name exactly one of token, session, uuid, person, app and all: true.")
	case len(q.Apps) > 0 && (t.All || t.Person != uuid.Nil):
		return auth.ErrRestricted
	case t.AppID != "" && !auth.ValidAppID(t.AppID):
		return errNoTarget
	}
	return auth.CheckReason(q.Reason)
}

// sessionOf returns the session of one of our tokens.
func (r *Revoker) sessionOf(ctx context.Context, s string) (uuid.UUID, bool) {
	if strings.HasPrefix(s, token.RefreshPrefix) {
		presented, err := r.c.Codec.Decode(s)
		return presented.Session, err == nil
	}
	claims, err := r.c.Verifier.VerifyExpired(ctx, s)
	if err != nil {
		return uuid.Nil, false
	}
	return claims.Session, true
}
