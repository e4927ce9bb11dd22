package db

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// ApplyCutoffs returns a store that calls catchUp after each commit that may have
// written a cutoff, before the method returns. If catchUp reads the new cutoffs, the
// replica enforces a revocation before it answers the request. catchUp has at most
// [catchUpTimeout], even if the caller gives up meanwhile. Its failure changes no
// result: the change is committed, and the replica learns of it when the others do.
func ApplyCutoffs(s Store, catchUp func(ctx context.Context)) Store {
	return &applying{s, catchUp}
}

// applying overrides each method that may write a cutoff.
type applying struct {
	Store
	catchUp func(ctx context.Context)
}

// catchUpTimeout bounds a catch-up. Callers may hold locks: a leaked key stays in use
// until its retirement is installed.
const catchUpTimeout = 5 * time.Second

func (a *applying) catchUpIf(ctx context.Context, wrote bool) {
	if !wrote {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), catchUpTimeout)
	defer cancel()
	a.catchUp(ctx)
}

func (a *applying) DisableApp(ctx context.Context, appID string, event auth.AuditEvent) (auth.App, error) {
	app, err := a.Store.DisableApp(ctx, appID, event)
	a.catchUpIf(ctx, err == nil)
	return app, err
}

func (a *applying) EnableApp(ctx context.Context, appID string, event auth.AuditEvent) (auth.App, error) {
	app, err := a.Store.EnableApp(ctx, appID, event)
	a.catchUpIf(ctx, err == nil)
	return app, err
}

// Exchange may end older sessions.
func (a *applying) Exchange(ctx context.Context, x session.ExchangeParams) (session.Granted, error) {
	g, err := a.Store.Exchange(ctx, x)
	a.catchUpIf(ctx, g.Ended > 0)
	return g, err
}

// Refresh ends the session of a reused token.
func (a *applying) Refresh(ctx context.Context, r session.RefreshParams) (session.Granted, error) {
	g, err := a.Store.Refresh(ctx, r)
	a.catchUpIf(ctx, errors.Is(err, auth.RefreshReused))
	return g, err
}

func (a *applying) End(ctx context.Context, e session.EndParams) error {
	err := a.Store.End(ctx, e)
	a.catchUpIf(ctx, err == nil)
	return err
}

func (a *applying) Revoke(ctx context.Context, r session.RevokeParams) (session.Revoked, error) {
	done, err := a.Store.Revoke(ctx, r)
	a.catchUpIf(ctx, err == nil)
	return done, err
}

func (a *applying) RestoreCutoffs(ctx context.Context, r session.RestoreParams) (session.Restored, error) {
	done, err := a.Store.RestoreCutoffs(ctx, r)
	a.catchUpIf(ctx, done.Sessions+done.Apps > 0)
	return done, err
}

func (a *applying) EndEverything(ctx context.Context, event auth.AuditEvent, now time.Time) (int, error) {
	apps, err := a.Store.EndEverything(ctx, event, now)
	a.catchUpIf(ctx, err == nil)
	return apps, err
}

func (a *applying) Bind(ctx context.Context, b binding.BindParams) (binding.BindResult, error) {
	done, err := a.Store.Bind(ctx, b)
	a.catchUpIf(ctx, done.Changed)
	return done, err
}

func (a *applying) Unbind(ctx context.Context, u binding.UnbindParams) (binding.BindResult, error) {
	done, err := a.Store.Unbind(ctx, u)
	a.catchUpIf(ctx, done.Changed)
	return done, err
}

func (a *applying) DisablePerson(ctx context.Context, id uuid.UUID, event auth.AuditEvent) (auth.PersonRecord, error) {
	p, err := a.Store.DisablePerson(ctx, id, event)
	a.catchUpIf(ctx, err == nil)
	return p, err
}

func (a *applying) DisableIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	i, err := a.Store.DisableIdentity(ctx, c)
	a.catchUpIf(ctx, err == nil)
	return i, err
}

func (a *applying) BindIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	i, err := a.Store.BindIdentity(ctx, c)
	a.catchUpIf(ctx, err == nil)
	return i, err
}

func (a *applying) UnbindIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	i, err := a.Store.UnbindIdentity(ctx, c)
	a.catchUpIf(ctx, err == nil)
	return i, err
}

func (a *applying) EraseIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	i, err := a.Store.EraseIdentity(ctx, c)
	a.catchUpIf(ctx, err == nil)
	return i, err
}

// ChangeKeys retires leaked keys and may end all sessions.
func (a *applying) ChangeKeys(ctx context.Context, now time.Time, plan func([]keyring.StoredKey) (keyring.Change, error)) ([]keyring.StoredKey, error) {
	wrote := false
	keys, err := a.Store.ChangeKeys(ctx, now, func(existing []keyring.StoredKey) (keyring.Change, error) {
		c, err := plan(existing)
		wrote = c.EndSessions || len(c.Compromised) > 0
		return c, err
	})
	a.catchUpIf(ctx, err == nil && wrote)
	return keys, err
}
