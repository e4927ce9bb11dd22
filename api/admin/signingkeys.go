package admin

import (
	"net/http"
	"slices"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

func (a *API) listSigningKeys(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	keys, err := a.c.SigningKeys.Keys(r.Context())
	if err != nil {
		return err
	}
	// There are a few keys per month: a page is cut from all of them.
	if cursor := queryText(r, "cursor"); cursor != "" {
		at := slices.IndexFunc(keys, func(k keyring.Key) bool { return k.KID == cursor })
		if at < 0 {
			return errCursor
		}
		keys = keys[at+1:]
	}
	var answer adminclient.SigningKeyList
	keys, answer.Next = cutPage(keys, limit, func(k keyring.Key) string { return k.KID })
	answer.SigningKeys = signingKeys(keys...)
	return web.SecretJSON(w, http.StatusOK, answer)
}

func (a *API) rotateSigningKeys(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody[adminclient.Rotation](w, r)
	if err != nil {
		return err
	}
	by, err := a.event(r, body.Reason)
	if err != nil {
		return err
	}
	keys, err := a.c.SigningKeys.Rotate(r.Context(), keyring.RotateRequest{
		Use: keyring.Use(body.Use), Alg: body.Alg, Now: body.Now, By: by,
	})
	if err != nil {
		return err
	}
	return web.SecretJSON(w, http.StatusOK, adminclient.Rotated{SigningKeys: signingKeys(keys...)})
}

func (a *API) retireSigningKey(w http.ResponseWriter, r *http.Request) error {
	kid, err := pathText(r, "kid")
	if err != nil {
		return err
	}
	body, err := readBody[adminclient.Retirement](w, r)
	if err != nil {
		return err
	}
	by, err := a.event(r, body.Reason)
	if err != nil {
		return err
	}
	compromised := body.Compromised
	done, err := a.c.SigningKeys.Retire(r.Context(), keyring.RetireRequest{KID: kid, Compromised: compromised, By: by})
	if err != nil {
		return err
	}
	answer := adminclient.Retired{
		Retired: signingKeys(done.Key)[0], SigningKeys: signingKeys(), SessionsEnded: done.SessionsEnded,
	}
	for _, k := range []*keyring.Key{done.Current, done.Pending} {
		if k != nil {
			answer.SigningKeys = append(answer.SigningKeys, signingKeys(*k)...)
		}
	}
	if compromised {
		// The clock is read after the commit, because effective_by is a promise.
		by := auth.StoredTime(a.c.Clock()).Add(a.c.MaxStaleness)
		answer.EffectiveBy = &by
	}
	return web.SecretJSON(w, http.StatusOK, answer)
}

// signingKeys returns keys for an answer.
func signingKeys(keys ...keyring.Key) []adminclient.SigningKey {
	out := []adminclient.SigningKey{}
	for _, k := range keys {
		out = append(out, adminclient.SigningKey{
			KID: k.KID, Use: string(k.Use), Alg: k.Alg, State: string(k.State),
			CreatedAt: k.CreatedAt.UTC(), KnownAt: k.KnownAt.UTC(),
			ActiveAt: timeOrNull(k.ActiveAt), RetiresAt: timeOrNull(k.RetiresAt), RetiredAt: timeOrNull(k.RetiredAt),
		})
	}
	return out
}
