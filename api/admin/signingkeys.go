package admin

import (
	"context"
	"slices"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

// ListSigningKeys implements [StrictServerInterface].
func (a *API) ListSigningKeys(ctx context.Context, r ListSigningKeysRequestObject) (ListSigningKeysResponseObject, error) {
	if key := keyOf(ctx); key.Restricted() {
		return nil, errRestricted
	}
	limit := defaultLimit
	if r.Params.Limit != nil {
		limit = *r.Params.Limit
	}
	if limit < 1 || limit > maxLimit {
		return nil, auth.Invalid("limit is 1 to 1000")
	}
	keys, err := a.c.SigningKeys.Keys(ctx)
	if err != nil {
		return nil, err
	}
	// A page is cut out of them all: there are some for each month.
	if cursor := r.Params.Cursor; cursor != nil {
		at := slices.IndexFunc(keys, func(k keyring.Key) bool { return k.KID == *cursor })
		if at < 0 {
			return nil, auth.Invalid("cursor is the next of another page")
		}
		keys = keys[at+1:]
	}
	answer := ListSigningKeys200JSONResponse{}
	if len(keys) > limit {
		keys = keys[:limit]
		answer.Next = &keys[limit-1].KID
	}
	answer.SigningKeys = signingKeys(keys...)
	return answer, nil
}

// RotateSigningKeys implements [StrictServerInterface].
func (a *API) RotateSigningKeys(ctx context.Context, r RotateSigningKeysRequestObject) (RotateSigningKeysResponseObject, error) {
	by, err := a.keyEvent(ctx, r.Body.Reason)
	if err != nil {
		return nil, err
	}
	keys, err := a.c.SigningKeys.Rotate(ctx, keyring.RotateRequest{
		Use: keyring.Use(value(r.Body.Use)), Alg: value(r.Body.Alg), Now: value(r.Body.Now), By: by,
	})
	if err != nil {
		return nil, err
	}
	return RotateSigningKeys200JSONResponse{SigningKeys: signingKeys(keys...)}, nil
}

// RetireSigningKey implements [StrictServerInterface].
func (a *API) RetireSigningKey(ctx context.Context, r RetireSigningKeyRequestObject) (RetireSigningKeyResponseObject, error) {
	by, err := a.keyEvent(ctx, r.Body.Reason)
	if err != nil {
		return nil, err
	}
	compromised := value(r.Body.Compromised)
	done, err := a.c.SigningKeys.Retire(ctx, keyring.RetireRequest{KID: r.Kid, Compromised: compromised, By: by})
	if err != nil {
		return nil, err
	}
	answer := RetireSigningKey200JSONResponse{
		Retired: signingKeys(done.Key)[0], SigningKeys: signingKeys(), SessionsEnded: done.SessionsEnded,
	}
	for _, k := range []*keyring.Key{done.Signs, done.Coming} {
		if k != nil {
			answer.SigningKeys = append(answer.SigningKeys, signingKeys(*k)...)
		}
	}
	if compromised {
		// From after the commit: the time is a promise.
		by := auth.StoredTime(a.c.Clock()).Add(a.c.MaxStaleness)
		answer.EffectiveBy = &by
	}
	return answer, nil
}

// keyEvent returns an audit event of a change of keys, or says why the caller may
// not make it.
func (a *API) keyEvent(ctx context.Context, reason *string) (auth.AuditEvent, error) {
	if key := keyOf(ctx); key.Restricted() {
		return auth.AuditEvent{}, errRestricted
	}
	return a.reasoned(ctx, reason)
}

// reasoned returns an audit event by the caller, with the reason, or
// [auth.InvalidRequest] for a reason that is none.
func (a *API) reasoned(ctx context.Context, reason *string) (auth.AuditEvent, error) {
	e := a.event(ctx)
	e.Reason = value(reason)
	return e, auth.CheckReason(e.Reason)
}

func signingKeys(keys ...keyring.Key) []SigningKey {
	out := []SigningKey{}
	for _, k := range keys {
		out = append(out, SigningKey{
			Kid: k.KID, Use: string(k.Use), Alg: k.Alg, State: string(k.State),
			CreatedAt: k.CreatedAt.UTC(), KnownAt: k.KnownAt.UTC(),
			ActiveAt: timeOrNull(k.ActiveAt), RetiresAt: timeOrNull(k.RetiresAt), RetiredAt: timeOrNull(k.RetiredAt),
		})
	}
	return out
}
