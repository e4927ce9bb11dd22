package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
)

// Verifier verifies our own access tokens. It uses the verifier of pkg/bearer, which back
// ends use too, and translates its errors to those of package auth. It does no I/O and is
// safe for concurrent use.
type Verifier struct {
	current, acceptExpired *bearer.Verifier
}

// NewVerifier returns a verifier with the keys and the cutoffs of l. A caller that also
// reads the session's row needs l.Staleness too: the row is never stale, but it does not
// show that a key was revoked.
//
// It returns an error only if l is not valid.
func NewVerifier(l bearer.Local) (*Verifier, error) {
	current, err := bearer.NewLocal(l)
	if err != nil {
		return nil, err
	}
	// It is used rarely, by admins, so it needs no memory.
	l.Cutoffs, l.Staleness, l.TokenMemory, l.UnsafeAcceptExpired = nil, nil, -1, true
	acceptExpired, err := bearer.NewLocal(l)
	if err != nil {
		return nil, err
	}
	return &Verifier{current: current, acceptExpired: acceptExpired}, nil
}

// Verify returns the claims of a token that is valid now by keys, clock and cutoffs.
//
// Errors: [auth.TokenExpired] for a token that is valid except for its time,
// [auth.SessionRevoked] for one that a cutoff hits, [auth.StorageUnavailable]
// when the cutoffs are too old to decide, and [auth.TokenInvalid] for any other token.
// The first three have the token's subject ([auth.SubjectOf]), because its signature is
// valid.
func (v *Verifier) Verify(ctx context.Context, s string) (*Claims, error) {
	return claimsOf(v.current.Verify(ctx, s))
}

// remember stores a token that was just minted, so that its first Verify checks no
// signature.
func (v *Verifier) remember(minted string) { v.current.UnsafeRemember(context.Background(), minted) }

// VerifyExpired returns the claims of a token of ours, even if it has expired or was
// revoked. It only finds the session of a token and must not grant access.
//
// Errors: [auth.TokenInvalid].
func (v *Verifier) VerifyExpired(ctx context.Context, s string) (*Claims, error) {
	return claimsOf(v.acceptExpired.Verify(ctx, s))
}

// claimsOf translates a result of pkg/bearer.
func claimsOf(c *bearer.Claims, err error) (*Claims, error) {
	if err != nil {
		refusal := &auth.Error{Code: codeOf(err), Err: err}
		genuine, ok := bearer.ClaimsOf(err)
		if !ok {
			return nil, refusal
		}
		named, e := claimsOf(genuine, nil)
		if e != nil {
			return nil, e
		}
		return nil, auth.About(refusal, named.Owner())
	}
	subject, errSubject := uuid.Parse(c.Subject)
	session, errSession := uuid.Parse(c.Session)
	var person *uuid.UUID
	var errPerson error
	if c.Bound {
		var id uuid.UUID
		id, errPerson = uuid.Parse(c.Person)
		person = &id
	}
	if err := errors.Join(errSubject, errSession, errPerson); err != nil {
		// pkg/bearer has checked this, so it is a defect.
		return nil, &auth.Error{Code: auth.Internal, Err: fmt.Errorf("token: a claim is not a uuid: %w", err)}
	}
	return &Claims{
		Issuer:    c.Issuer,
		Subject:   subject,
		Audience:  c.Audience,
		ClientID:  c.App,
		IssuedAt:  jwt.NewNumericDate(c.IssuedAt),
		ExpiresAt: jwt.NewNumericDate(c.ExpiresAt),
		ID:        c.ID,
		Session:   session,
		Ver:       c.Ver,
		Epoch:     c.Epoch,
		Bound:     c.Bound,
		Person:    person,

		ExternalID: c.ExternalID,
	}, nil
}

// codeOf returns the code of an error of pkg/bearer.
func codeOf(err error) auth.Code {
	switch {
	case errors.Is(err, bearer.ErrExpired):
		return auth.TokenExpired
	case errors.Is(err, bearer.ErrRevoked):
		return auth.SessionRevoked
	case errors.Is(err, bearer.ErrStale):
		// Cutoffs grow old because the database does not answer.
		return auth.StorageUnavailable
	default:
		return auth.TokenInvalid
	}
}
