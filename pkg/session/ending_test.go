package session_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/token"
)

// endings are all ways to end a session before it expires. Add a row for each new one.
// They return the error of the call that ends the session.
var endings = map[string]struct {
	end func(t *testing.T, w *world, g session.Grant) error
	// ended is the code of a call that ended the session because of the presented
	// token; "" if the caller asked to end it.
	ended auth.Code
	// kind is the kind of the cutoff.
	kind auth.CutoffKind
	// wide endings end every session of the user.
	wide bool
}{
	"a log-out by the refresh token": {func(t *testing.T, w *world, g session.Grant) error {
		return w.revoke(t, g.RefreshToken)
	}, "", auth.CutoffSession, false},
	"a log-out by the access token": {func(t *testing.T, w *world, g session.Grant) error {
		return w.revoke(t, g.AccessToken)
	}, "", auth.CutoffSession, false},
	"a late replay": {func(t *testing.T, w *world, g session.Grant) error {
		must(w.Refresh(g.RefreshToken))(t)
		w.Clock.Advance(w.Lifetimes.Grace + time.Microsecond)
		_, err := w.Refresh(g.RefreshToken)
		return err
	}, auth.RefreshReused, auth.CutoffSession, false},
	"a reuse": {func(t *testing.T, w *world, g session.Grant) error {
		must(w.Refresh(must(w.Refresh(g.RefreshToken))(t).RefreshToken))(t)
		_, err := w.Refresh(g.RefreshToken)
		return err
	}, auth.RefreshReused, auth.CutoffSession, false},
	"another device of the user": {func(t *testing.T, w *world, g session.Grant) error {
		_, err := w.Service.End(t.Context(), session.EndRequest{AccessToken: w.Login("alice").AccessToken, Session: g.Session.ID})
		return err
	}, "", auth.CutoffSession, false},
	"an admin who has the access token": {revokes(func(_ *testing.T, _ *world, g session.Grant) session.RevocationRequest {
		return session.RevocationRequest{Token: g.AccessToken}
	}), "", auth.CutoffSession, false},
	"an admin who has the refresh token": {revokes(func(_ *testing.T, _ *world, g session.Grant) session.RevocationRequest {
		return session.RevocationRequest{Token: g.RefreshToken}
	}), "", auth.CutoffSession, false},
	"an admin who names the session": {revokes(func(_ *testing.T, _ *world, g session.Grant) session.RevocationRequest {
		return session.RevocationRequest{Target: session.Target{Session: g.Session.ID}}
	}), "", auth.CutoffSession, false},
	"an admin who names the user": {revokes(func(_ *testing.T, _ *world, g session.Grant) session.RevocationRequest {
		return session.RevocationRequest{Target: session.Target{Identity: g.Session.Identity}}
	}), "", auth.CutoffSession, true},
	"an admin who names the person": {revokes(func(t *testing.T, w *world, g session.Grant) session.RevocationRequest {
		return session.RevocationRequest{Target: session.Target{Person: w.bind(t, g.Session.Identity).ID}}
	}), "", auth.CutoffSession, true},
	"an admin who names the app": {revokes(func(_ *testing.T, _ *world, g session.Grant) session.RevocationRequest {
		return session.RevocationRequest{Target: session.Target{AppID: g.Session.AppID}}
	}), "", auth.CutoffApp, false},
	"an admin who names everything": {revokes(func(*testing.T, *world, session.Grant) session.RevocationRequest {
		return session.RevocationRequest{Target: session.Target{All: true}}
	}), "", auth.CutoffApp, false},
	"log-ins above the limit": {func(t *testing.T, w *world, g session.Grant) error {
		for w.row(t, g.Session.ID).EndedAt.IsZero() {
			_, err := w.Service.Exchange(t.Context(), session.ExchangeRequest{
				ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode("alice")),
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, "", auth.CutoffSession, false},
	"an admin who disables the user": {changes(func(t *testing.T, _ *world, a *person.Service, _ auth.Person, identity uuid.UUID, c auth.Caller) error {
		_, err := a.DisableIdentity(t.Context(), identity, c)
		return err
	}), "", auth.CutoffSession, true},
	"an admin who erases the user": {changes(func(t *testing.T, _ *world, a *person.Service, _ auth.Person, identity uuid.UUID, c auth.Caller) error {
		return a.EraseIdentity(t.Context(), identity, c)
	}), "", auth.CutoffSession, true},
	"an admin who disables the person": {changes(func(t *testing.T, _ *world, a *person.Service, p auth.Person, _ uuid.UUID, c auth.Caller) error {
		_, err := a.DisablePerson(t.Context(), p.ID, c)
		return err
	}), "", auth.CutoffSession, true},
	"another identity of the person that replaces it": {func(t *testing.T, w *world, g session.Grant) error {
		b := bindingtest.New(t, w.Fixture, w.store)
		p := bindingtest.Policy()
		p.SecondIdentity = auth.SecondReplaces
		b.SetPolicy(p)
		if _, err := w.store.Store.Bind(t.Context(), binding.BindParams{
			Session: g.Session.ID, Ver: g.Session.Ver, Target: binding.Target{Person: b.LiLei.ID}, Method: auth.BindTicket,
			Now: w.Clock.Now(), Event: w.Event(auth.AuditBound),
		}); err != nil {
			return err
		}
		_, err := b.ByTicket(w.Login("carol").AccessToken, b.Ticket(b.LiLei))
		return err
	}, "", auth.CutoffSession, true},
	"another identity of the person, which an admin binds, that replaces it": {changes(func(t *testing.T, w *world, a *person.Service, p auth.Person, _ uuid.UUID, c auth.Caller) error {
		policy := bindingtest.Policy()
		policy.SecondIdentity = auth.SecondReplaces
		if _, err := w.Store.UpdateApp(t.Context(), sessiontest.AppID, app.Change{Policy: &policy}, w.Event(auth.AuditAppUpdated)); err != nil {
			return err
		}
		_, err := a.BindIdentity(t.Context(), w.Login("carol").Session.Identity, p.ID, c)
		return err
	}), "", auth.CutoffSession, true},
	"the app disabled": {func(t *testing.T, w *world, _ session.Grant) error {
		_, err := w.DB.DisableApp(t.Context(), sessiontest.AppID, w.Event(auth.AuditAppDisabled))
		return err
	}, "", auth.CutoffApp, false},
	"the app disabled and enabled again": {func(t *testing.T, w *world, _ session.Grant) error {
		_, errDisable := w.DB.DisableApp(t.Context(), sessiontest.AppID, w.Event(auth.AuditAppDisabled))
		_, errEnable := w.DB.EnableApp(t.Context(), sessiontest.AppID, w.Event(auth.AuditAppEnabled))
		return errors.Join(errDisable, errEnable)
	}, "", auth.CutoffApp, false},
	"the MAC key retired": {func(t *testing.T, w *world, _ session.Grant) error {
		return w.retire(t, w.current(t, keyring.UseRefresh))
	}, "", auth.CutoffApp, false},
	"a previous MAC key retired": {func(t *testing.T, w *world, _ session.Grant) error {
		was := w.current(t, keyring.UseRefresh)
		w.Clock.Advance(time.Minute)
		must(w.keeper.Rotate(t.Context(), keyring.RotateRequest{}))(t)
		return w.retire(t, was)
	}, "", auth.CutoffApp, false},
}

// observers are all parts that must see that a session has ended. Each returns its error
// code, or "" if it accepts the session as live.
var observers = map[string]func(t *testing.T, w *world, g session.Grant) auth.Code{
	"the refresh": func(_ *testing.T, w *world, g session.Grant) auth.Code {
		_, err := w.Refresh(g.RefreshToken)
		return auth.CodeOf(err)
	},
	"a caller that asks for the session of an access token": func(t *testing.T, w *world, g session.Grant) auth.Code {
		_, err := w.Service.Authenticate(t.Context(), g.AccessToken)
		return auth.CodeOf(err)
	},
	"a back end with pkg/bearer": func(t *testing.T, w *world, g session.Grant) auth.Code {
		v := must(bearer.NewLocal(w.memory()))(t)
		_, err := v.Verify(t.Context(), g.AccessToken.Reveal())
		switch {
		case errors.Is(err, bearer.ErrRevoked):
			return auth.SessionRevoked
		case err != nil:
			t.Error(err)
		}
		return ""
	},
	"a validator whose service key is restricted to the app": func(t *testing.T, w *world, g session.Grant) auth.Code {
		cutoffsOf := func(app string) []cutoff.Cutoff {
			return w.Cutoffs.Page("", 1000, cutoffs.Subscriber{Apps: []string{app}}).Cutoffs
		}
		for _, c := range cutoffsOf(sessiontest.OtherAppID) {
			if c.Kind == cutoff.KindSession {
				t.Errorf("a key of another app gets a cutoff of the session: %+v", c)
			}
		}
		set := cutoff.NewSet()
		for _, c := range cutoffsOf(g.Session.AppID) {
			set.Add(c, w.Clock.Now())
		}
		if set.Hits(cutoff.Token{Session: g.Session.ID.String(), Ver: g.Session.Ver, App: g.Session.AppID, Epoch: g.Session.Epoch}) {
			return auth.SessionRevoked
		}
		return ""
	},
	"introspection": func(t *testing.T, w *world, g session.Grant) auth.Code {
		answer := w.serve(t, func(r chi.Router, v *token.Verifier) {
			i := oauth.NewIntrospection(anyKey{}, v, noApps{}, w.store, nil)
			t.Cleanup(i.Close)
			i.Mount(r)
		}, httptest.NewRequest(http.MethodPost, "/oauth2/introspect", strings.NewReader(url.Values{"token": {g.AccessToken.Reveal()}}.Encode())))
		if answer.Code != http.StatusOK {
			t.Errorf("introspection: status %d, body %s", answer.Code, answer.Body)
		}
		if strings.TrimSpace(answer.Body.String()) == `{"active":false}` {
			return auth.SessionRevoked
		}
		return ""
	},
	"forward-auth": func(t *testing.T, w *world, g session.Grant) auth.Code {
		r := httptest.NewRequest(http.MethodGet, "/v1/verify", nil)
		r.Header.Set("Authorization", "Bearer "+g.AccessToken.Reveal())
		answer := w.serve(t, func(r chi.Router, v *token.Verifier) { gate.NewForwardAuth(v, oneApp{}, "").Mount(r) }, r)
		if answer.Code == http.StatusOK {
			return ""
		}
		var problem struct{ Code auth.Code }
		if err := json.Unmarshal(answer.Body.Bytes(), &problem); err != nil {
			t.Error(err)
		}
		return problem.Code
	},
	"a caller that asks for the user's sessions": func(t *testing.T, w *world, g session.Grant) auth.Code {
		all, err := w.Store.LiveSessions(t.Context(), g.Session.Identity, w.Clock.Now(), session.MaxListed)
		if err != nil {
			t.Error(err)
		}
		if slices.ContainsFunc(all, func(s auth.Session) bool { return s.ID == g.Session.ID }) {
			return ""
		}
		return auth.SessionRevoked
	},
	"the log-out": func(t *testing.T, w *world, g session.Grant) auth.Code {
		// A log-out of an ended session writes nothing.
		before := w.count(t, `select count(*) from audit`)
		if err := w.revoke(t, g.RefreshToken); err != nil {
			t.Error(err)
		}
		if w.count(t, `select count(*) from audit`) == before {
			return auth.SessionRevoked
		}
		return ""
	},
}

// memory holds the data of validators: the keys and the cutoffs of the feed. They use no
// database.
func (w *world) memory() bearer.Local {
	return bearer.Local{
		Issuer: sessiontest.Issuer, Keys: w.Keys.VerificationKey,
		Cutoffs: w.Cutoffs.Set(), Staleness: w.Cutoffs.Age, MaxStaleness: sessiontest.MaxStaleness, Clock: w.Clock.Now,
	}
}

// serve answers a request from memory, as the service does.
func (w *world) serve(t *testing.T, mount func(chi.Router, *token.Verifier), r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	router := chi.NewRouter()
	router.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, w.Clock.Now))
	mount(router, must(token.NewVerifier(w.memory()))(t))
	if r.Method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer := httptest.NewRecorder()
	router.ServeHTTP(answer, r)
	return answer
}

// anyKey accepts every request, as for a back end that sees all apps.
type anyKey struct{}

func (anyKey) Authorize(*http.Request, servicekey.Scope) (servicekey.Key, error) {
	return servicekey.Key{Scopes: []servicekey.Scope{servicekey.ScopeService}}, nil
}

// oneApp is a service with a single app.
type oneApp struct{}

func (oneApp) HasSeveral() (bool, error) { return false, nil }

// current returns the current key of a use.
func (w *world) current(t *testing.T, use keyring.Use) string {
	t.Helper()
	for _, k := range must(w.keeper.Keys(t.Context()))(t) {
		if k.Use == use && k.State == keyring.Current {
			return k.KID
		}
	}
	t.Fatalf("no current %s key", use)
	return ""
}

// retire retires a key as compromised.
func (w *world) retire(t *testing.T, kid string) error {
	t.Helper()
	_, err := w.keeper.Retire(t.Context(), keyring.RetireRequest{KID: kid, Compromised: true, By: auth.AuditEvent{Actor: auth.ActorCLI}})
	return err
}

func (w *world) revoke(t *testing.T, s auth.Secret) error {
	t.Helper()
	_, err := w.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: s})
	return err
}

// revokes returns an ending by an admin.
func revokes(request func(t *testing.T, w *world, g session.Grant) session.RevocationRequest) func(*testing.T, *world, session.Grant) error {
	return func(t *testing.T, w *world, g session.Grant) error {
		_, err := w.Revoker.Revoke(t.Context(), request(t, w, g))
		return err
	}
}

// changes returns an ending by an admin, for a user who is bound to a person.
func changes(change func(t *testing.T, w *world, a *person.Service, p auth.Person, identity uuid.UUID, c auth.Caller) error) func(*testing.T, *world, session.Grant) error {
	return func(t *testing.T, w *world, g session.Grant) error {
		p := w.bind(t, g.Session.Identity)
		a := person.NewService(person.Config{
			Store: w.DB, Apps: w.DB, Clock: w.Clock.Now,
		})
		return change(t, w, a, p, g.Session.Identity, auth.Caller{Actor: auth.ActorCLI})
	}
}

// cutoffs counts the cutoffs of a kind that hit tokens of the session.
func (w *world) cutoffs(t *testing.T, kind auth.CutoffKind, g session.Grant) int {
	t.Helper()
	if kind == auth.CutoffApp {
		return w.count(t, `select count(*) from cutoffs where kind = 'app' and appid = ? and epoch > ?`, g.Session.AppID, g.Session.Epoch)
	}
	return w.count(t, `select count(*) from cutoffs where kind = 'session' and session_id = ? and ver = 0`, g.Session.ID.String())
}

func TestEveryEnding(t *testing.T) {
	t.Parallel()
	for observer, observe := range observers {
		t.Run("without an ending the session is live for "+observer, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			if got := observe(t, w, w.Login("alice")); got != "" {
				t.Errorf("code = %q, want none", got)
			}
		})
	}
	for ending, e := range endings {
		for observer, observe := range observers {
			if observer == "the log-out" && e.kind == auth.CutoffApp {
				continue // the session's row is not ended, so a log-out still ends it
			}
			t.Run(ending+" is seen by "+observer, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, session.Lifetimes{})
				g := w.Login("alice")
				if got := auth.CodeOf(e.end(t, w, g)); got != e.ended {
					t.Fatalf("code of the ending = %q, want %q", got, e.ended)
				}
				// A token of a retired key cannot be distinguished from a forgery.
				forged := observer == "the refresh" && strings.Contains(ending, "MAC key retired")
				if got := observe(t, w, g); got != auth.SessionRevoked && got != auth.AppDisabled && (!forged || got != auth.RefreshInvalid) {
					t.Errorf("code = %q, want that of an ended session", got)
				}
			})
		}
		t.Run(ending+" writes a cutoff only for its session", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g, bystander := w.Login("alice"), w.Login(map[bool]string{true: "bob", false: "alice"}[e.wide])
			if got := auth.CodeOf(e.end(t, w, g)); got != e.ended {
				t.Fatalf("code of the ending = %q, want %q", got, e.ended)
			}
			if n := w.cutoffs(t, e.kind, g); n == 0 {
				t.Error("no cutoff was written")
			}
			if n := w.cutoffs(t, auth.CutoffSession, bystander); n != 0 {
				t.Errorf("%d cutoffs hit another session, want 0", n)
			}
		})
		t.Run(ending+" fails without its cutoff", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g := w.Login("alice")
			w.breakCutoffs(t)
			if got := auth.CodeOf(e.end(t, w, g)); got == e.ended {
				t.Errorf("code of the ending = %q, want an error", got)
			}
			st, err := w.Store.Session(t.Context(), g.Session.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.RefreshError(sessiontest.AppID, w.Clock.Now()); err != nil {
				t.Errorf("RefreshError() after the failed ending = %v, want nil", err)
			}
			if n := w.count(t, `select count(*) from audit where session_id = ?`, g.Session.ID.String()); n != 0 {
				t.Errorf("%d audit events of the failed ending, want 0", n)
			}
		})
	}
}

// breakCutoffs makes every write of a cutoff fail.
func (w *world) breakCutoffs(t *testing.T) {
	t.Helper()
	if _, err := w.db.ExecContext(t.Context(), `create trigger no_cutoffs before insert on cutoffs begin select raise(abort, 'broken'); end`); err != nil {
		t.Fatal(err)
	}
}

// noApps implements [oauth.Apps].
type noApps struct{ *app.Directory }

func (noApps) Answering() bool { return true }
