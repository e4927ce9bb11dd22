package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func ptr[T any](v T) *T { return &v }

func TestRevocations(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		for name, request := range map[string]func(g session.Grant) adminclient.Revocation{
			"an access token": func(g session.Grant) adminclient.Revocation {
				return adminclient.Revocation{Token: g.AccessToken.Reveal()}
			},
			"a refresh token": func(g session.Grant) adminclient.Revocation {
				return adminclient.Revocation{Token: g.RefreshToken.Reveal()}
			},
			"a session": func(g session.Grant) adminclient.Revocation {
				return adminclient.Revocation{Session: &g.Session.ID}
			},
			"a user": func(g session.Grant) adminclient.Revocation {
				return adminclient.Revocation{UUID: &g.Session.Identity}
			},
			"an app": func(g session.Grant) adminclient.Revocation {
				return adminclient.Revocation{App: g.Session.AppID}
			},
			"everything there": func(session.Grant) adminclient.Revocation {
				return adminclient.Revocation{All: true}
			},
		} {
			t.Run(kind+": "+name+" is revoked, and its session ends", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, open)
				g := w.Login("alice")
				now := w.Clock.Now()
				r := request(g)
				r.Reason = "工单 4711"
				resp, err := w.client(t, "admin").Revoke(t.Context(), r)
				got := succeed(t, resp, err)
				if got.SessionsRevoked != 1 || got.CutoffID == nil || !regexp.MustCompile(`^t1\.[1-9][0-9]*$`).MatchString(*got.CutoffID) ||
					!got.EffectiveBy.Equal(now.Add(sessiontest.MaxStaleness)) || !got.ExpiresBy.Equal(now.Add(sessiontest.AccessTTL)) {
					t.Errorf("the answer at %[2]s is %+[1]v", got, now)
				}
				if _, err := w.Refresh(g.RefreshToken); !errors.Is(err, auth.SessionRevoked) {
					t.Errorf("Refresh() error = %v, want session_revoked", err)
				}
				if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); !errors.Is(err, auth.SessionRevoked) {
					t.Errorf("Authenticate() error = %v, want session_revoked", err)
				}
				if w.CaughtUp.Load() != 1 {
					t.Errorf("the catch-up hook was called %d times, want 1", w.CaughtUp.Load())
				}
			})
		}
		t.Run(kind+": a session that has ended gets no second cutoff", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			g := w.Login("alice")
			c := w.client(t, "admin")
			for i := range 2 {
				resp, err := c.Revoke(t.Context(), adminclient.Revocation{Session: &g.Session.ID})
				got := succeed(t, resp, err)
				if (got.CutoffID == nil) != (i == 1) || got.SessionsRevoked != 1-i {
					t.Errorf("answer %d is %+v", i+1, got)
				}
			}
		})
		t.Run(kind+": a key that is restricted to apps revokes in these apps and finds no other target", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			g := w.Login("alice")
			here, elsewhere := w.client(t, "admin", sessiontest.AppID), w.client(t, "admin", sessiontest.OtherAppID)
			for name, r := range map[string]adminclient.Revocation{
				"token":   {Token: g.AccessToken.Reveal()},
				"session": {Session: &g.Session.ID},
				"user":    {UUID: &g.Session.Identity},
				"app":     {App: g.Session.AppID},
			} {
				_, found := elsewhere.Revoke(t.Context(), r)
				never := adminclient.Revocation{Session: ptr(uuid.Must(uuid.NewV7()))}
				if name == "token" {
					never = adminclient.Revocation{Token: "x"}
				}
				_, unknown := elsewhere.Revoke(t.Context(), never)
				var got, want *adminclient.Error
				if !errors.As(found, &got) || !errors.As(unknown, &want) {
					t.Fatalf("%s: error = %v, for an unknown target %v", name, found, unknown)
				}
				got.Problem.RequestID, want.Problem.RequestID = "", ""
				if got.StatusCode != http.StatusNotFound || got.Error() != want.Error() {
					t.Errorf("%s: error = %v, for an unknown target %v", name, got, want)
				}
			}
			for name, r := range map[string]adminclient.Revocation{"person": {Person: ptr(uuid.Must(uuid.NewV7()))}, "all": {All: true}} {
				_, err := here.Revoke(t.Context(), r)
				var e *adminclient.Error
				if !errors.As(err, &e) || e.StatusCode != http.StatusForbidden || e.Problem.Code != adminclient.CodeInsufficientScope {
					t.Errorf("%s: error %v, want insufficient_scope", name, err)
				}
			}
			if _, err := w.Refresh(g.RefreshToken); err != nil {
				t.Fatal(err)
			}
			resp, err := here.Revoke(t.Context(), adminclient.Revocation{UUID: &g.Session.Identity})
			if got := succeed(t, resp, err); got.SessionsRevoked != 1 {
				t.Errorf("Revoke() = %+v, want 1 session", got)
			}
		})
	}
}

// TestRevocationScopes revokes each target with a key of each scope, restricted to the
// target's app and not.
func TestRevocationScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	g := w.Login("alice")
	person := w.person(t, w.client(t, "admin"), "1001")
	targets := map[string]struct {
		adminclient.Revocation

		scopes     string
		restricted bool
	}{
		"token":   {adminclient.Revocation{Token: g.AccessToken.Reveal()}, "support admin", true},
		"session": {adminclient.Revocation{Session: &g.Session.ID}, "support admin", true},
		"user":    {adminclient.Revocation{UUID: &g.Session.Identity}, "support admin", true},
		"person":  {adminclient.Revocation{Person: &person.ID}, "support admin", false},
		"app":     {adminclient.Revocation{App: g.Session.AppID}, "admin", true},
		"all":     {adminclient.Revocation{All: true}, "admin", false},
	}
	for _, scope := range servicekey.Scopes() {
		for _, apps := range [][]string{nil, {g.Session.AppID}} {
			c := w.client(t, string(scope), apps...)
			for name, target := range targets {
				t.Run(fmt.Sprintf("%s by %s of apps %q", name, scope, apps), func(t *testing.T) {
					t.Parallel()
					done, err := c.Revoke(t.Context(), target.Revocation)
					if slices.Contains(strings.Fields(target.scopes), string(scope)) && (apps == nil || target.restricted) {
						succeed(t, done, err)
					} else {
						failed(t, err, http.StatusForbidden, auth.InsufficientScope)
					}
				})
			}
		}
	}
	t.Run("the challenge names the scope that is missing", func(t *testing.T) {
		t.Parallel()
		a := w.post(t, "/admin/v1/revocations", w.key(t, "support"), `{"all":true}`)
		if got := a.Header.Get("WWW-Authenticate"); !strings.Contains(got, `scope="admin"`) {
			t.Errorf("challenge = %s, want the scope admin", got)
		}
	})
	// The parallel subtests run after this: all their keys are read at once, because
	// lookups of single new keys are bounded.
	w.Clock.Advance(servicekey.FreshFor)
}

func TestRevocationsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stores["sqlite"])
	g := w.Login("alice")
	key := w.key(t, "admin")
	sid := g.Session.ID.String()
	for name, tc := range map[string]struct {
		body   string
		status int
		code   auth.Code
	}{
		"nothing":                        {``, 400, auth.InvalidRequest},
		"an empty object":                {`{}`, 400, auth.InvalidRequest},
		"only a reason":                  {`{"reason":"x"}`, 400, auth.InvalidRequest},
		"two things":                     {`{"session":"` + sid + `","all":true}`, 400, auth.InvalidRequest},
		"a repeated member":              {`{"session":"` + sid + `","session":"` + sid + `"}`, 400, auth.InvalidRequest},
		"all: false":                     {`{"all":false}`, 400, auth.InvalidRequest},
		"all as a text":                  {`{"all":"true"}`, 400, auth.InvalidRequest},
		"an empty token":                 {`{"token":""}`, 400, auth.InvalidRequest},
		"a malformed session":            {`{"session":"x"}`, 400, auth.InvalidRequest},
		"a member in another case":       {`{"Session":"` + sid + `"}`, 400, auth.InvalidRequest},
		"an unknown member":              {`{"session":"` + sid + `","why":"x"}`, 400, auth.InvalidRequest},
		"a long reason":                  {`{"session":"` + sid + `","reason":"` + strings.Repeat("x", 201) + `"}`, 400, auth.InvalidRequest},
		"an array":                       {`[]`, 400, auth.InvalidRequest},
		"a body that is too large":       {`{"reason":"` + strings.Repeat("x", 1<<17) + `"}`, 413, auth.BodyTooLarge},
		"a session that never was":       {`{"session":"` + uuid.NewString() + `"}`, 404, auth.NotFound},
		"a token that is not ours":       {`{"token":"a.b.c"}`, 404, auth.NotFound},
		"an app that is not there":       {`{"app":"wx404"}`, 404, auth.NotFound},
		"the uuid in place of a session": {`{"session":"` + g.Session.Identity.String() + `"}`, 404, auth.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := w.post(t, "/admin/v1/revocations", key, tc.body)
			a.want(t, tc.status, tc.code)
			if strings.Contains(a.Body, sid) {
				t.Errorf("the answer quotes the request: %s", a.Body)
			}
		})
	}
	t.Run("a form is refused", func(t *testing.T) {
		t.Parallel()
		w.do(t, http.MethodPost, "/admin/v1/revocations", key.Key().Reveal(), "application/x-www-form-urlencoded", "all=true").want(t, 415, auth.UnsupportedMediaType)
	})
	t.Run("other methods are refused", func(t *testing.T) {
		t.Parallel()
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			a := w.do(t, method, "/admin/v1/revocations", key.Key().Reveal(), "", "")
			a.want(t, 405, auth.MethodNotAllowed)
			if a.Header.Get("Allow") != "POST" {
				t.Errorf("Allow %q", a.Header.Get("Allow"))
			}
		}
	})
	t.Run("a request without a key is refused whatever the body is", func(t *testing.T) {
		t.Parallel()
		for _, body := range []string{``, `{"all":true}`, strings.Repeat("x", 1<<20)} {
			w.do(t, http.MethodPost, "/admin/v1/revocations", "", "application/json", body).want(t, 401, auth.ServiceKeyMissing)
			w.do(t, http.MethodPost, "/admin/v1/revocations", g.AccessToken.Reveal(), "application/json", body).want(t, 401, auth.ServiceKeyInvalid)
		}
	})
}
