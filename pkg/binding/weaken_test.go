package binding_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// changes are all changes of the claims of a session's tokens that do not end the
// session. Add a row for each new one. They begin with a session that is bound to 李雷,
// and return the session of the request after the change.
var changes = map[string]struct {
	change func(t *testing.T, w *world, bound binding.Grant) (binding.Grant, error)
	// person is the person of the session afterwards.
	person func(w *world) uuid.UUID
}{
	"unbinding": {
		func(t *testing.T, w *world, bound binding.Grant) (binding.Grant, error) {
			return w.Binding.Unbind(t.Context(), bound.AccessToken, "req")
		}, func(*world) uuid.UUID { return uuid.Nil },
	},
	"rebinding": {
		func(_ *testing.T, w *world, bound binding.Grant) (binding.Grant, error) {
			return w.ByFacts(bound.AccessToken, "1002", "韩梅梅")
		}, func(w *world) uuid.UUID { return w.HanMeimei.ID },
	},
	"unbinding from another device": {
		func(t *testing.T, w *world, _ binding.Grant) (binding.Grant, error) {
			return w.Binding.Unbind(t.Context(), w.Login("alice").AccessToken, "req")
		}, func(*world) uuid.UUID { return uuid.Nil },
	},
	"an admin's unbinding": {
		func(t *testing.T, w *world, bound binding.Grant) (binding.Grant, error) {
			return w.byAdmin(func(a *person.Service, c auth.Caller) (person.IdentityRecord, error) {
				return a.UnbindIdentity(t.Context(), bound.Session.Identity, c)
			})
		}, func(*world) uuid.UUID { return uuid.Nil },
	},
	"an admin's rebinding": {
		func(t *testing.T, w *world, bound binding.Grant) (binding.Grant, error) {
			return w.byAdmin(func(a *person.Service, c auth.Caller) (person.IdentityRecord, error) {
				return a.BindIdentity(t.Context(), bound.Session.Identity, w.HanMeimei.ID, c)
			})
		}, func(w *world) uuid.UUID { return w.HanMeimei.ID },
	},
	"rebinding from another device": {
		func(_ *testing.T, w *world, _ binding.Grant) (binding.Grant, error) {
			return w.ByTicket(w.Login("alice").AccessToken, w.Ticket(w.HanMeimei))
		}, func(w *world) uuid.UUID { return w.HanMeimei.ID },
	},
}

// byAdmin changes the binding of an identity as an admin. An admin gets no token, so it
// returns the session of a later log-in.
func (w *world) byAdmin(change func(*person.Service, auth.Caller) (person.IdentityRecord, error)) (binding.Grant, error) {
	if _, err := change(w.Persons, auth.Caller{Actor: auth.ActorCLI}); err != nil {
		return binding.Grant{}, err
	}
	g := w.Login("alice")
	return binding.Grant{AccessToken: g.AccessToken, Session: g.Session, Changed: true}, nil
}

// personOf returns the person of a session.
func personOf(s *auth.Session) uuid.UUID {
	if s.Person == nil {
		return uuid.Nil
	}
	return s.Person.ID
}

// witnesses each return the person of the user after the change, given the session and
// the tokens from before the change.
var witnesses = map[string]func(t *testing.T, w *world, login session.Grant, bound binding.Grant) uuid.UUID{
	"a refresh with the token from before": func(t *testing.T, w *world, login session.Grant, _ binding.Grant) uuid.UUID {
		g, err := w.Refresh(login.RefreshToken)
		if err != nil {
			t.Fatal(err)
		}
		return personOf(&g.Session)
	},
	"a refresh repeated within its window": func(t *testing.T, w *world, login session.Grant, _ binding.Grant) uuid.UUID {
		for range 2 {
			g, err := w.Refresh(login.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			login.Session = g.Session
		}
		return personOf(&login.Session)
	},
	"the next log-in": func(_ *testing.T, w *world, _ session.Grant, _ binding.Grant) uuid.UUID {
		g := w.Login("alice")
		return personOf(&g.Session)
	},
	"the list of devices": func(t *testing.T, w *world, login session.Grant, _ binding.Grant) uuid.UUID {
		all, err := w.store.LiveSessions(t.Context(), login.Session.Identity, w.Clock.Now(), 10)
		if err != nil || len(all) == 0 {
			t.Fatal(len(all), err)
		}
		for i := range all {
			if personOf(&all[i]) != personOf(&all[0]) {
				t.Error("two sessions of one identity have different persons")
			}
		}
		return personOf(&all[0])
	},
}

func TestEveryChange(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) (*world, session.Grant, binding.Grant) {
		t.Helper()
		w := newWorld(t)
		login := w.Login("alice")
		bound, err := w.ByFacts(login.AccessToken, "1001", "李雷")
		return w, login, mustBind(t, bound, err)
	}
	for name, c := range changes {
		for witness, see := range witnesses {
			t.Run(name+" is seen by "+witness, func(t *testing.T) {
				t.Parallel()
				w, login, bound := begin(t)
				g, err := c.change(t, w, bound)
				mustBind(t, g, err)
				if got, want := see(t, w, login, bound), c.person(w); got != want {
					t.Errorf("person = %s, want %s", got, want)
				}
			})
		}
		t.Run(name+" revokes the old tokens, here and at every validator", func(t *testing.T) {
			t.Parallel()
			w, _, bound := begin(t)
			v, err := bearer.NewLocal(bearer.Local{
				Issuer: sessiontest.Issuer, Audience: sessiontest.Audience, Keys: w.Keys.VerificationKey,
				Cutoffs: w.Cutoffs.Set(), Staleness: w.Cutoffs.Age, Clock: w.Clock.Now,
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Verify(t.Context(), bound.AccessToken.Reveal()); err != nil {
				t.Errorf("Verify() before the change: error = %v", err)
			}
			g, err := c.change(t, w, bound)
			mustBind(t, g, err)
			if _, err := w.Service.Authenticate(t.Context(), bound.AccessToken); !errors.Is(err, auth.SessionRevoked) {
				t.Errorf("Authenticate() with the old token: error = %v, want %v", err, auth.SessionRevoked)
			}
			// As introspection, forward-auth and other back ends verify: without a
			// database.
			if _, err := v.Verify(t.Context(), bound.AccessToken.Reveal()); !errors.Is(err, bearer.ErrRevoked) {
				t.Errorf("Verify() of the old token: error = %v, want %v", err, bearer.ErrRevoked)
			}
			if n := w.count(t, `select count(*) from cutoffs where kind = 'session' and session_appid = ? and session_id = ? and ver = ?`,
				sessiontest.AppID, bound.Session.ID.String(), bound.Session.Ver+1); n != 1 {
				t.Errorf("%d cutoffs above the old token, want 1", n)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil {
				t.Errorf("Authenticate() with the new token: error = %v", err)
			}
			if claims, err := v.Verify(t.Context(), g.AccessToken.Reveal()); err != nil || claims.Bound != (c.person(w) != uuid.Nil) {
				t.Errorf("Verify() of the new token = %+v, %v, want the new binding", claims, err)
			}
			if n := w.count(t, `select count(*) from cutoffs where session_id = ? and (ver = 0 or ver > ?)`, g.Session.ID.String(), g.Session.Ver); n != 0 {
				t.Errorf("%d cutoffs hit the new token, want 0", n)
			}
		})
		t.Run(name+" without its cutoff does not happen", func(t *testing.T) {
			t.Parallel()
			w, _, bound := begin(t)
			if _, err := w.db.ExecContext(t.Context(), `create trigger no_cutoffs before insert on cutoffs begin select raise(abort, 'broken'); end`); err != nil {
				t.Fatal(err)
			}
			if _, err := c.change(t, w, bound); err == nil {
				t.Error("the change succeeds without its cutoff")
			}
			st, err := w.store.Session(t.Context(), bound.Session.ID)
			if err != nil || personOf(&st.Session) != w.LiLei.ID || st.Session.Ver != bound.Session.Ver {
				t.Errorf("Session() = %+v, %v, want the row from before", st.Session, err)
			}
		})
	}
}
