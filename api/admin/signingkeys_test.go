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
func signing(t *testing.T, c *adminclient.ClientWithResponses, use, state string) []adminclient.SigningKey {
	t.Helper()
	resp, err := c.ListSigningKeysWithResponse(t.Context(), nil)
	all := succeed(t, resp, err).JSON200.SigningKeys
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
				t.Fatalf("%+v", first)
			}
			w.Clock.Advance(time.Hour)
			now = w.Clock.Now()
			resp, err := c.RotateSigningKeysWithResponse(t.Context(), adminclient.RotationRequest{Use: ptr("access"), Reason: ptr("工单 4711")})
			rotated := succeed(t, resp, err).JSON200.SigningKeys
			if len(rotated) != 1 || rotated[0].State != "current" || !rotated[0].ActiveAt.Equal(now) {
				t.Errorf("%s", resp.Body)
			}
			if cc := resp.HTTPResponse.Header.Get("Cache-Control"); cc != "no-store" {
				t.Errorf("Cache-Control %q", cc)
			}
			previous := signing(t, c, "access", "previous")
			until := now.Add(auth.MaxAccessTokenTTL + keyring.Spread)
			if len(previous) != 1 || previous[0].Kid != first[0].Kid || previous[0].RetiresAt == nil || !previous[0].RetiresAt.Equal(until) {
				t.Errorf("%+v", previous)
			}

			var e *adminclient.Error
			refused, err := c.RetireSigningKeyWithResponse(t.Context(), first[0].Kid, adminclient.RetirementRequest{})
			if err != nil || !errors.As(adminclient.Failure(refused), &e) || e.Problem.Code != "key_in_use" || e.Problem.Status != 409 ||
				e.Problem.Detail == nil || !strings.Contains(*e.Problem.Detail, until.UTC().Format(time.RFC3339)) {
				t.Errorf("%v %s", err, refused.Body)
			}
			w.Clock.Advance(auth.MaxAccessTokenTTL + keyring.Spread)
			gone, err := c.RetireSigningKeyWithResponse(t.Context(), first[0].Kid, adminclient.RetirementRequest{})
			done := succeed(t, gone, err).JSON200
			if done.Retired.State != "retired" || done.Retired.RetiredAt == nil || done.EffectiveBy != nil || done.SessionsEnded ||
				len(done.SigningKeys) != 1 || done.SigningKeys[0].Kid != rotated[0].Kid {
				t.Errorf("%s", gone.Body)
			}
		})
		t.Run(kind+": a signing key that has leaked ends, and sessions go on", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			g := w.Login("alice")
			w.Clock.Advance(6 * time.Minute)
			dead := signing(t, c, "access", "current")[0]
			resp, err := c.RetireSigningKeyWithResponse(t.Context(), dead.Kid, adminclient.RetirementRequest{Compromised: ptr(true), Reason: ptr("leaked")})
			done := succeed(t, resp, err).JSON200
			if done.SessionsEnded || done.EffectiveBy == nil || !done.EffectiveBy.Equal(w.Clock.Now().Add(sessiontest.MaxStaleness)) {
				t.Errorf("%s", resp.Body)
			}
			b, err := w.store.Cutoffs(t.Context(), 0, 10)
			if err != nil || len(b.Cutoffs) != 1 || b.Cutoffs[0].KID != dead.Kid {
				t.Errorf("%+v, %v", b, err)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err == nil {
				t.Error("its tokens live")
			}
			again, err := w.Refresh(g.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Service.Authenticate(t.Context(), again.AccessToken); err != nil {
				t.Errorf("the session's new token: %v", err)
			}
		})
		t.Run(kind+": a MAC key that has leaked ends every session", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			c := w.client(t, "admin")
			g := w.Login("alice")
			dead := signing(t, c, "refresh", "current")[0]
			resp, err := c.RetireSigningKeyWithResponse(t.Context(), dead.Kid, adminclient.RetirementRequest{Compromised: ptr(true)})
			if !succeed(t, resp, err).JSON200.SessionsEnded {
				t.Errorf("%s", resp.Body)
			}
			if _, err := w.Refresh(g.RefreshToken); auth.CodeOf(err) != auth.RefreshInvalid {
				t.Errorf("refresh: %v", err)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); auth.CodeOf(err) != auth.SessionRevoked {
				t.Errorf("access: %v", err)
			}
		})
	}
	t.Run("a list has pages", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		c := w.client(t, "admin")
		var kids []string
		var cursor *string
		for range 2 {
			resp, err := c.ListSigningKeysWithResponse(t.Context(), &adminclient.ListSigningKeysParams{Limit: ptr(2), Cursor: cursor})
			page := succeed(t, resp, err).JSON200
			for _, k := range page.SigningKeys {
				kids = append(kids, k.Kid)
			}
			cursor = page.Next
		}
		slices.Sort(kids)
		if len(slices.Compact(kids)) != 4 || cursor != nil {
			t.Errorf("%q and then %v", kids, cursor)
		}
	})
	t.Run("who may read, reads and changes nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		reader, restricted := w.key(t, "read"), w.key(t, "admin", sessiontest.AppID)
		c := w.client(t, "read")
		kid := signing(t, c, "access", "current")[0].Kid
		for path, code := range map[string]auth.Code{
			"/admin/v1/signing-keys/rotate":                             auth.InsufficientScope,
			"/admin/v1/signing-keys/" + url.PathEscape(kid) + "/retire": auth.InsufficientScope,
		} {
			w.post(t, path, reader, `{}`).want(t, 403, code)
			w.post(t, path, restricted, `{}`).want(t, 403, code)
		}
		w.do(t, "GET", "/admin/v1/signing-keys", restricted.Key().Reveal(), "", "").want(t, 403, auth.InsufficientScope)
		w.do(t, "GET", "/admin/v1/signing-keys", w.key(t, "service").Key().Reveal(), "", "").want(t, 403, auth.InsufficientScope)
		if now := signing(t, c, "access", "current")[0].Kid; now != kid {
			t.Error("the key has changed")
		}
	})
	t.Run("what is wrong is refused, and says why", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		key := w.key(t, "admin")
		kid := url.PathEscape(signing(t, w.client(t, "read"), "access", "current")[0].Kid)
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
		w.post(t, "/admin/v1/signing-keys/nobody/retire", key, `{"compromised":true}`).want(t, 404, auth.NotFound)
		w.do(t, "GET", "/admin/v1/signing-keys?limit=0", key.Key().Reveal(), "", "").want(t, 400, auth.InvalidRequest)
		w.do(t, "GET", "/admin/v1/signing-keys?cursor=nobody", key.Key().Reveal(), "", "").want(t, 400, auth.InvalidRequest)
	})
}
