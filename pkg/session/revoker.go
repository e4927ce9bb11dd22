package session

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// RevokerConfig is what a [Revoker] is made of. All fields are required.
type RevokerConfig struct {
	// Store applies the cutoffs that it writes, see [Config].
	Store RevocationStore
	// Verifier and Codec tell which session a token is of.
	Verifier *token.Verifier
	Codec    *token.RefreshCodec
	// MaxStaleness is how old the knowledge of a validator that follows the feed
	// may be.
	MaxStaleness time.Duration
	// AccessTokenTTL is how long access tokens live.
	AccessTokenTTL time.Duration
	// Clock returns the current time.
	Clock func() time.Time
}

// Revoker is the use case of an admin who ends sessions. It is safe for
// concurrent use and keeps no state.
type Revoker struct {
	c RevokerConfig
}

// NewRevoker returns a revoker.
func NewRevoker(c RevokerConfig) *Revoker { return &Revoker{c} }

// RevocationRequest is what an admin wants to end.
type RevocationRequest struct {
	// Token is an access token, expired or not, or a refresh token: its session
	// ends. Exactly one of Token and the fields of Target is set.
	Token  auth.Secret
	Target Target
	// Reason is for the audit trail; it may be empty.
	Reason string
	// Apps restricts whoever asks to these apps; empty means all.
	Apps []string
	// Actor and RequestID go into the audit trail.
	Actor, RequestID string
}

// Revocation is what became of it.
type Revocation struct {
	Revoked
	// Target is what was revoked: that of the request, or the token's session.
	Target Target
	// EffectiveBy is when no validator that follows the feed accepts the tokens
	// any more, ExpiresBy when no validator at all does.
	EffectiveBy, ExpiresBy time.Time
}

// Revoke ends what the request names. It is harmless to repeat.
//
// Errors: [auth.InvalidRequest] when not exactly one thing is named or the
// reason is no text; [auth.NotFound] when there is no such thing, or it is
// outside of the apps, or the token is not ours; [auth.InsufficientScope] when
// whoever is restricted to apps asks for a person or for all.
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
	// From after the commit: the times are promises.
	now = auth.StoredTime(r.c.Clock())
	return Revocation{Revoked: done, Target: target, EffectiveBy: now.Add(r.c.MaxStaleness), ExpiresBy: now.Add(r.c.AccessTokenTTL)}, nil
}

var (
	errNoToken  = &auth.Error{Code: auth.NotFound, Description: "This is not a token of this server, or its session is no longer stored."}
	errNoTarget = &auth.Error{Code: auth.NotFound, Description: "The target of the revocation does not exist."}
)

// check refuses requests that name nothing, or more than one thing, or more
// than whoever asks may end.
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

// sessionOf returns the session that a token of ours is of.
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
