package bindingtest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// Renewals checks that an access token cannot renew itself: no call with it yields an
// access token that outlives it. It runs the service over the caller's
// database; fixture returns a new one, with no users, for each test.
func Renewals(t *testing.T, fixture func(t *testing.T) *Fixture) {
	// expiry returns the exp of a token that is valid now.
	expiry := func(t *testing.T, f *Fixture, token auth.Secret) time.Time {
		t.Helper()
		claims, err := f.Verifier.Verify(t.Context(), token.Reveal())
		if err != nil {
			t.Fatalf("Verify() error = %v", err)
		}
		return claims.ExpiresAt.Time
	}

	t.Run("fifty calls that change nothing yield no token", func(t *testing.T) {
		f := fixture(t)
		free := f.Login("alice").AccessToken
		bound, err := f.ByFacts(f.Login("bob").AccessToken, "1001", "李雷")
		if err != nil || !bound.Changed {
			t.Fatalf("Bind() = changed %t, error %v", bound.Changed, err)
		}
		for i := range 50 {
			f.Clock.Advance(5 * time.Second)
			for name, call := range map[string]func() (binding.Grant, error){
				"unbinding an unbound user":  func() (binding.Grant, error) { return f.Binding.Unbind(t.Context(), free, "req") },
				"binding to the same person": func() (binding.Grant, error) { return f.ByFacts(bound.AccessToken, "1001", "李雷") },
				"the same person by phone":   func() (binding.Grant, error) { return f.ByPhone(bound.AccessToken, "bob", "13800001001") },
				"the same person by ticket":  func() (binding.Grant, error) { return f.ByTicket(bound.AccessToken, f.Ticket(f.LiLei)) },
				"the same person by webhook": func() (binding.Grant, error) {
					f.AnswerWebhook(func(binding.Question) (binding.Answer, error) { return binding.Answer{ExternalID: "1001"}, nil })
					return f.Bind(binding.Request{AccessToken: bound.AccessToken, Method: auth.BindWebhook})
				},
			} {
				g, err := call()
				if err != nil || g.Changed || g.AccessToken != "" || g.ExpiresIn != 0 {
					t.Fatalf("call %d, %s: changed %t, token %t, expires_in %d, error %v; want no change and no token",
						i, name, g.Changed, g.AccessToken != "", g.ExpiresIn, err)
				}
			}
		}
		f.Clock.Advance(sessiontest.AccessTTL)
		for _, token := range []auth.Secret{free, bound.AccessToken} {
			if g, err := f.Binding.Unbind(t.Context(), token, "req"); auth.CodeOf(err) != auth.TokenExpired {
				t.Errorf("Unbind() with the expired first token = %+v, %v; want %s", g, err, auth.TokenExpired)
			}
		}
	})

	t.Run("no chain of changes moves the expiry", func(t *testing.T) {
		f := fixture(t)
		for chain := range 20 {
			rng := rand.New(rand.NewPCG(uint64(chain), 1)) //nolint:gosec // a test
			user := "user" + string(rune('a'+chain))
			token := f.Login(user).AccessToken
			first := expiry(t, f, token)
			exp := first
			for changes := 0; ; {
				f.Clock.Advance(time.Duration(rng.IntN(60_000)) * time.Millisecond)
				before := f.Clock.Now()
				var g binding.Grant
				var err error
				switch rng.IntN(4) {
				case 0:
					g, err = f.Binding.Unbind(t.Context(), token, "req")
				case 1:
					g, err = f.ByTicket(token, f.Ticket(f.LiLei))
				case 2:
					g, err = f.ByPhone(token, user, "13800001002")
				default:
					g, err = f.ByFacts(token, "1001", "李雷")
				}
				if auth.CodeOf(err) == auth.TokenExpired {
					if before.Before(exp) {
						t.Errorf("chain %d: the token expired at %v, want %v", chain, before, exp)
					}
					if changes == 0 {
						t.Errorf("chain %d changed nothing", chain)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if g.Changed != (g.AccessToken != "") {
					t.Fatalf("chain %d: changed %t, token %t, want a token exactly after a change", chain, g.Changed, g.AccessToken != "")
				}
				if !g.Changed {
					continue
				}
				changes++
				token = g.AccessToken
				exp = expiry(t, f, token)
				if exp.After(first) {
					t.Fatalf("chain %d, change %d: exp = %v, want at most %v", chain, changes, exp, first)
				}
				if end := before.Add(time.Duration(g.ExpiresIn) * time.Second); end.Truncate(time.Second).After(first) {
					t.Errorf("chain %d: expires_in %d at %v is after %v", chain, g.ExpiresIn, before, first)
				}
			}
			// Free the person for the next user.
			if _, err := f.Binding.Unbind(t.Context(), f.Login(user).AccessToken, "req"); err != nil {
				t.Fatal(err)
			}
		}
	})

	t.Run("a change during which the token expires is made without a new token", func(t *testing.T) {
		f := fixture(t)
		login := f.Login("alice")
		left := expiry(t, f, login.AccessToken).Sub(f.Clock.Now())
		f.Clock.Advance(left - time.Millisecond)
		f.AnswerWebhook(func(binding.Question) (binding.Answer, error) {
			f.Clock.Advance(time.Millisecond) // the webhook is slow
			return binding.Answer{ExternalID: "1001"}, nil
		})
		g, err := f.Bind(binding.Request{AccessToken: login.AccessToken, Method: auth.BindWebhook})
		if err != nil || !g.Changed || g.AccessToken != "" || g.Session.Person == nil || g.Session.Person.ID != f.LiLei.ID {
			t.Fatalf("Bind() = %+v, %v; want a change without a token", g, err)
		}
		next, err := f.Refresh(login.RefreshToken)
		if err != nil || next.Session.Person == nil || next.Session.Person.ID != f.LiLei.ID {
			t.Errorf("Refresh() person = %v, error %v", next.Session.Person, err)
		}
	})
}
