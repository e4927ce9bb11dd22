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

// Verifier verifies our own access tokens. It is the verifier of pkg/bearer,
// the one that back ends have, and says in the words of package auth what that
// one finds. It does no I/O and is safe for concurrent use.
type Verifier struct {
	current, acceptExpired *bearer.Verifier
}

// NewVerifier returns a verifier with the keys and the cutoffs of l. Who reads
// the session's row too needs l.Staleness as well: the row is never stale, but it
// says nothing of the key.
//
// It fails only when l is wrong.
func NewVerifier(l bearer.Local) (*Verifier, error) {
	current, err := bearer.NewLocal(l)
	if err != nil {
		return nil, err
	}
	// It is asked seldom, by admins, and what it accepts need not be remembered.
	l.Cutoffs, l.Staleness, l.CacheSize, l.UnsafeAcceptExpired = nil, nil, -1, true
	acceptExpired, err := bearer.NewLocal(l)
	if err != nil {
		return nil, err
	}
	return &Verifier{current: current, acceptExpired: acceptExpired}, nil
}

// Verify returns the claims of a token that is good now, as far as keys, clock
// and cutoffs tell.
//
// Errors: [auth.TokenExpired] for a token that is good but for its time,
// [auth.SessionRevoked] for one that a cutoff hits, [auth.StorageUnavailable]
// when the cutoffs are too old to tell, and [auth.TokenInvalid] for anything
// else. The first three are about whom the token names ([auth.SubjectOf]): its
// signature is good.
func (v *Verifier) Verify(ctx context.Context, s string) (*Claims, error) {
	return claimsOf(v.current.Verify(ctx, s))
}

// VerifyExpired returns the claims of a token that is ours, whether it has
// expired, was revoked or is good: it tells which session a token belongs
// to, and grants no access.
//
// Errors: [auth.TokenInvalid].
func (v *Verifier) VerifyExpired(ctx context.Context, s string) (*Claims, error) {
	return claimsOf(v.acceptExpired.Verify(ctx, s))
}

// claimsOf translates an answer of pkg/bearer.
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
		// It was found to be one.
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
