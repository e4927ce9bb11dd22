package admin_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// signing returns the keys of a use and state, as the API lists them.
func signing(t *testing.T, c *adminclient.Client, use, state string) []adminclient.SigningKey {
	t.Helper()
	resp, err := c.ListSigningKeys(t.Context(), adminclient.Page{})
	all := succeed(t, resp, err).SigningKeys
	return slices.DeleteFunc(all, func(k adminclient.SigningKey) bool { return k.Use != use || k.State != state })
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": keys are listed, rotated and retired", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			now := w.Clock.Now()
			first := signing(t, c, "access", "current")
			if len(first) != 1 || first[0].Alg != "ES256" || !first[0].CreatedAt.Equal(now) || first[0].ActiveAt == nil || first[0].RetiresAt != nil || first[0].RetiredAt != nil {
				t.Fatalf("current access keys = %+v, want one active ES256 key", first)
			}
			w.Clock.Advance(time.Hour)
			now = w.Clock.Now()
			resp, err := c.RotateSigningKeys(t.Context(), adminclient.Rotation{Use: "access", Reason: "工单 4711"})
			rotated := succeed(t, resp, err).SigningKeys
			if len(rotated) != 1 || rotated[0].State != "current" || !rotated[0].ActiveAt.Equal(now) {
				t.Errorf("RotateSigningKeys() = %+v, want one current key, active now", resp)
			}
			previous := signing(t, c, "access", "previous")
			until := now.Add(auth.MaxAccessTokenTTL + keyring.PropagationTime)
			if len(previous) != 1 || previous[0].KID != first[0].KID || previous[0].RetiresAt == nil || !previous[0].RetiresAt.Equal(until) {
				t.Errorf("previous access keys = %+v, want the first key, which retires at %s", previous, until)
			}

			var e *adminclient.Error
			_, err = c.RetireSigningKey(t.Context(), first[0].KID, adminclient.Retirement{})
			if !errors.As(err, &e) || e.Problem.Code != "key_in_use" || e.Problem.Status != 409 ||
				!strings.Contains(e.Problem.Detail, until.UTC().Format(time.RFC3339)) {
				t.Errorf("RetireSigningKey() error = %v, want key_in_use with the time", err)
			}
			w.Clock.Advance(auth.MaxAccessTokenTTL + keyring.PropagationTime)
			gone, err := c.RetireSigningKey(t.Context(), first[0].KID, adminclient.Retirement{})
			done := succeed(t, gone, err)
			if done.Retired.State != "retired" || done.Retired.RetiredAt == nil || done.EffectiveBy != nil || done.SessionsEnded ||
				len(done.SigningKeys) != 1 || done.SigningKeys[0].KID != rotated[0].KID {
				t.Errorf("RetireSigningKey() = %+v, want it retired, no ended sessions, and the current key", gone)
			}
		})
		t.Run(kind+": a leaked signing key is retired, and sessions go on", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			g := w.Login("alice")
			w.Clock.Advance(6 * time.Minute)
			dead := signing(t, c, "access", "current")[0]
			resp, err := c.RetireSigningKey(t.Context(), dead.KID, adminclient.Retirement{Compromised: true, Reason: "leaked"})
			done := succeed(t, resp, err)
			if done.SessionsEnded || done.EffectiveBy == nil || !done.EffectiveBy.Equal(w.Clock.Now().Add(sessiontest.MaxStaleness)) {
				t.Errorf("RetireSigningKey() = %+v, want no ended sessions, and a time after the maximum staleness", resp)
			}
			b, err := w.Store.Cutoffs(t.Context(), 0, 10)
			if err != nil || len(b.Cutoffs) != 1 || b.Cutoffs[0].KID != dead.KID {
				t.Errorf("got %+v, error %v", b, err)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err == nil {
				t.Error("a token of the retired key is accepted")
			}
			again, err := w.Refresh(g.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Service.Authenticate(t.Context(), again.AccessToken); err != nil {
				t.Errorf("the session's new token is refused: %v", err)
			}
		})
		t.Run(kind+": a leaked MAC key ends every session", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			g := w.Login("alice")
			dead := signing(t, c, "refresh", "current")[0]
			resp, err := c.RetireSigningKey(t.Context(), dead.KID, adminclient.Retirement{Compromised: true})
			if !succeed(t, resp, err).SessionsEnded {
				t.Errorf("RetireSigningKey() = %+v, want ended sessions", resp)
			}
			if _, err := w.Refresh(g.RefreshToken); auth.CodeOf(err) != auth.RefreshInvalid {
				t.Errorf("Refresh() error = %v, want refresh_invalid", err)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); auth.CodeOf(err) != auth.SessionRevoked {
				t.Errorf("Authenticate() error = %v, want session_revoked", err)
			}
		})
	}
	t.Run("a list has pages", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		c := w.client(t, "admin")
		var kids []string
		for _, k := range collect(t, c.SigningKeys(t.Context(), adminclient.Page{Limit: 2})) {
			kids = append(kids, k.KID)
		}
		slices.Sort(kids)
		if len(kids) != 4 || len(slices.Compact(kids)) != 4 {
			t.Errorf("the pages have %q, want four keys", kids)
		}
	})
	t.Run("keys without the scope admin change nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		reader, restricted := w.key(t, "read"), w.key(t, "admin", sessiontest.AppID)
		c := w.client(t, "admin")
		kid := signing(t, c, "access", "current")[0].KID
		for path, code := range map[string]auth.Code{
			"/admin/v1/signing-keys/rotate":                             auth.InsufficientScope,
			"/admin/v1/signing-keys/" + url.PathEscape(kid) + "/retire": auth.InsufficientScope,
		} {
			w.post(t, path, reader, `{}`).want(t, 403, code)
			w.post(t, path, restricted, `{}`).want(t, 403, code)
		}
		w.do(t, "GET", "/admin/v1/signing-keys", restricted.Key().Reveal(), "", "").want(t, 403, auth.InsufficientScope)
		w.do(t, "GET", "/admin/v1/signing-keys", w.key(t, "service").Key().Reveal(), "", "").want(t, 403, auth.InsufficientScope)
		if now := signing(t, c, "access", "current")[0].KID; now != kid {
			t.Error("the current key has changed")
		}
	})
	t.Run("malformed requests are refused with the reason", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		key := w.key(t, "admin")
		kid := url.PathEscape(signing(t, w.client(t, "admin"), "access", "current")[0].KID)
		for body, code := range map[string]auth.Code{
			`{"alg":"RS256"}`:       auth.InvalidRequest,
			`{"use":"id"}`:          auth.InvalidRequest,
			`{"now":"yes"}`:         auth.InvalidRequest,
			`{"force":true}`:        auth.InvalidRequest,
			`{"reason":"a\u0000b"}`: auth.InvalidRequest,
			`{"reason":"` + strings.Repeat("x", 201) + `"}`: auth.InvalidRequest,
			``: auth.InvalidRequest,
		} {
			w.post(t, "/admin/v1/signing-keys/rotate", key, body).want(t, 400, code)
		}
		w.post(t, "/admin/v1/signing-keys/"+kid+"/retire", key, `{"compromised":1}`).want(t, 400, auth.InvalidRequest)
		w.post(t, "/admin/v1/signing-keys/"+kid+"/retire", key, `{}`).want(t, 409, auth.KeyInUse)
		w.post(t, "/admin/v1/signing-keys/unknown/retire", key, `{"compromised":true}`).want(t, 404, auth.NotFound)
		w.do(t, "GET", "/admin/v1/signing-keys?limit=0", key.Key().Reveal(), "", "").want(t, 400, auth.InvalidRequest)
		w.do(t, "GET", "/admin/v1/signing-keys?cursor=unknown", key.Key().Reveal(), "", "").want(t, 400, auth.InvalidRequest)
	})
}
