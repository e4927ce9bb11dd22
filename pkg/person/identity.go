package person

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Identity returns an identity, or [auth.NotFound].
func (s *Service) Identity(ctx context.Context, id uuid.UUID, c auth.Caller) (IdentityRecord, error) {
	i, err := s.c.Store.Identity(ctx, id, c.Scope())
	return i, notFoundAs(err, errNoIdentity)
}

// Identities finds identities of the caller's apps.
//
// Errors: [auth.InvalidRequest] for a search value that does not have the right form.
func (s *Service) Identities(ctx context.Context, q IdentityQuery, c auth.Caller) ([]IdentityRecord, error) {
	if !auth.CleanText(q.OpenID) || !auth.CleanText(q.UnionID) || q.AppID != "" && !auth.ValidAppID(q.AppID) {
		return nil, auth.Invalid("openid, unionid or app has an invalid value")
	}
	q.Apps = c.Scope()
	return s.c.Store.Identities(ctx, q)
}

// Sessions returns sessions of an identity as [Store.IdentitySessions] does.
func (s *Service) Sessions(ctx context.Context, id, before uuid.UUID, limit int, c auth.Caller) ([]session.State, error) {
	all, err := s.c.Store.IdentitySessions(ctx, id, c.Scope(), before, limit)
	return all, notFoundAs(err, errNoIdentity)
}

// DisableIdentity refuses the account's log-ins and ends its sessions.
//
// Errors, here and in the other methods that change an identity: [auth.InvalidRequest],
// [auth.NotFound].
func (s *Service) DisableIdentity(ctx context.Context, id uuid.UUID, c auth.Caller) (IdentityRecord, error) {
	return s.change(ctx, auth.AuditIdentityDisabled, id, c, s.c.Store.DisableIdentity)
}

// EnableIdentity lets an account log in again.
func (s *Service) EnableIdentity(ctx context.Context, id uuid.UUID, c auth.Caller) (IdentityRecord, error) {
	return s.change(ctx, auth.AuditIdentityEnabled, id, c, s.c.Store.EnableIdentity)
}

// BindIdentity binds an identity to a person, by the policy of its app.
//
// Errors: also [auth.NotFound] when there is no such
// person, [auth.PersonDisabled] and [auth.PersonTaken].
func (s *Service) BindIdentity(ctx context.Context, id, person uuid.UUID, c auth.Caller) (IdentityRecord, error) {
	i, err := s.Identity(ctx, id, c)
	if err != nil {
		return IdentityRecord{}, err
	}
	app, err := s.c.Apps.App(ctx, i.AppID)
	if err != nil {
		return IdentityRecord{}, err
	}
	i, err = s.change(ctx, auth.AuditBound, id, c, func(ctx context.Context, change IdentityChange) (IdentityRecord, error) {
		change.Person, change.Second = person, app.Policy.Second()
		return s.c.Store.BindIdentity(ctx, change)
	})
	if errors.Is(err, auth.BindingNoMatch) {
		err = errNoPerson
	}
	return i, err
}

// UnbindIdentity unbinds an identity.
func (s *Service) UnbindIdentity(ctx context.Context, id uuid.UUID, c auth.Caller) (IdentityRecord, error) {
	return s.change(ctx, auth.AuditUnbound, id, c, s.c.Store.UnbindIdentity)
}

// EraseIdentity erases the data by which an identity could be recognised.
func (s *Service) EraseIdentity(ctx context.Context, id uuid.UUID, c auth.Caller) error {
	_, err := s.change(ctx, auth.AuditIdentityErased, id, c, s.c.Store.EraseIdentity)
	return err
}

// change runs one change of an identity.
func (s *Service) change(ctx context.Context, action auth.AuditAction, id uuid.UUID, c auth.Caller,
	do func(context.Context, IdentityChange) (IdentityRecord, error),
) (IdentityRecord, error) {
	event, err := s.event(action, &c)
	if err != nil {
		return IdentityRecord{}, err
	}
	i, err := do(ctx, IdentityChange{Identity: id, Apps: c.Scope(), Now: event.At, Event: event})
	if err != nil {
		return IdentityRecord{}, notFoundAs(err, errNoIdentity)
	}
	return i, nil
}

// Attempts returns counters of failed attempts that still have an effect.
func (s *Service) Attempts(ctx context.Context, q AttemptQuery) ([]auth.Attempts, error) {
	q.Now = auth.StoredTime(s.c.Clock())
	return s.c.Store.Attempts(ctx, q)
}

// LiftDelay forgets the attempts against a key.
//
// Errors: [auth.InvalidRequest], [auth.NotFound] when there are none.
func (s *Service) LiftDelay(ctx context.Context, key auth.AttemptKey, c auth.Caller) error {
	event, err := s.event(auth.AuditDelayLifted, &c)
	if err != nil {
		return err
	}
	return notFoundAs(s.c.Store.LiftDelay(ctx, key, event), ErrNoDelay)
}
