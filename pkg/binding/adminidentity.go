package binding

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Identity returns an identity, or [auth.NotFound].
func (a *Admin) Identity(ctx context.Context, id uuid.UUID, c Caller) (IdentityRecord, error) {
	i, err := a.c.Store.Identity(ctx, id, c.scope())
	return i, said(err, errNoIdentity)
}

// Identities finds identities of the caller's apps.
//
// Errors: [auth.InvalidRequest] for what is no text.
func (a *Admin) Identities(ctx context.Context, q IdentityQuery, c Caller) ([]IdentityRecord, error) {
	if !auth.CleanText(q.OpenID) || !auth.CleanText(q.UnionID) || q.AppID != "" && !auth.ValidAppID(q.AppID) {
		return nil, auth.Invalid("openid, unionid or app does not have the form that it should")
	}
	q.Apps = c.scope()
	return a.c.Store.Identities(ctx, q)
}

// Sessions returns sessions of an identity as [PersonStore.IdentitySessions] does.
func (a *Admin) Sessions(ctx context.Context, id, before uuid.UUID, limit int, c Caller) ([]session.State, error) {
	all, err := a.c.Store.IdentitySessions(ctx, id, c.scope(), before, limit)
	return all, said(err, errNoIdentity)
}

// DisableIdentity keeps an account out and ends its sessions.
//
// Errors, here and at the others that change an identity: [auth.InvalidRequest],
// [auth.NotFound].
func (a *Admin) DisableIdentity(ctx context.Context, id uuid.UUID, c Caller) (IdentityRecord, error) {
	return a.change(ctx, auth.AuditIdentityDisabled, id, c, a.c.Store.DisableIdentity)
}

// EnableIdentity lets an account log in again.
func (a *Admin) EnableIdentity(ctx context.Context, id uuid.UUID, c Caller) (IdentityRecord, error) {
	return a.change(ctx, auth.AuditIdentityEnabled, id, c, a.c.Store.EnableIdentity)
}

// BindIdentity binds an identity to a person, by the policy of its app.
//
// Errors: besides those of the others, [auth.NotFound] when there is no such
// person, [auth.PersonDisabled] and [auth.PersonTaken].
func (a *Admin) BindIdentity(ctx context.Context, id, person uuid.UUID, c Caller) (IdentityRecord, error) {
	i, err := a.Identity(ctx, id, c)
	if err != nil {
		return IdentityRecord{}, err
	}
	app, err := a.c.Apps.App(ctx, i.AppID)
	if err != nil {
		return IdentityRecord{}, err
	}
	i, err = a.change(ctx, auth.AuditBound, id, c, func(ctx context.Context, change IdentityChange) (IdentityRecord, error) {
		change.Person, change.Second = person, app.Policy.Second()
		return a.c.Store.BindIdentity(ctx, change)
	})
	if errors.Is(err, auth.BindingNoMatch) {
		err = errNoPerson
	}
	return i, err
}

// UnbindIdentity unbinds an identity.
func (a *Admin) UnbindIdentity(ctx context.Context, id uuid.UUID, c Caller) (IdentityRecord, error) {
	return a.change(ctx, auth.AuditUnbound, id, c, a.c.Store.UnbindIdentity)
}

// EraseIdentity forgets who an identity was.
func (a *Admin) EraseIdentity(ctx context.Context, id uuid.UUID, c Caller) error {
	_, err := a.change(ctx, auth.AuditIdentityErased, id, c, a.c.Store.EraseIdentity)
	return err
}

func (a *Admin) change(ctx context.Context, action auth.AuditAction, id uuid.UUID, c Caller,
	do func(context.Context, IdentityChange) (IdentityRecord, error),
) (IdentityRecord, error) {
	event, err := a.event(action, c)
	if err != nil {
		return IdentityRecord{}, err
	}
	i, err := do(ctx, IdentityChange{Identity: id, Apps: c.scope(), Now: event.At, Event: event})
	if err != nil {
		return IdentityRecord{}, said(err, errNoIdentity)
	}
	a.c.Applied(ctx)
	return i, nil
}

// Attempts returns counters of failed attempts that say something now.
func (a *Admin) Attempts(ctx context.Context, q AttemptQuery) ([]Attempts, error) {
	q.Now = a.now()
	return a.c.Store.Attempts(ctx, q)
}

// LiftDelay forgets the attempts against a key.
//
// Errors: [auth.InvalidRequest], [auth.NotFound] when there are none.
func (a *Admin) LiftDelay(ctx context.Context, key AttemptKey, c Caller) error {
	event, err := a.event(auth.AuditDelayLifted, c)
	if err != nil {
		return err
	}
	return said(a.c.Store.LiftDelay(ctx, key, event), errNoDelay)
}
