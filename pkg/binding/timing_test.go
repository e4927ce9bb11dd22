package binding_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/storetest"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// TestUnknownPersonsTakeAsLongAsWrongFacts holds the whole attempt, from the
// counting to the refusal, against itself: a person who does not exist, and one of
// whom a fact is wrong, in turn and in random order. A rank test (Mann-Whitney)
// says how probable it is that one of them is slower; it does not care how noisy
// the machine is, since the noise hits both alike.
//
// It says "slower" only of an effect that an attacker could use: he needs far more
// attempts than the delays leave him to see less.
func TestUnknownPersonsTakeAsLongAsWrongFacts(t *testing.T) {
	w := newWorld(t)
	const persons = 200
	for i := range persons {
		w.Person("E-"+strconv.Itoa(i), "人"+strconv.Itoa(i), "")
	}
	var login session.Grant
	n := 0
	attempt := func(number string) time.Duration {
		if n%300 == 0 {
			login = w.Login("alice") // the access token lives ten minutes
		}
		n++
		w.Clock.Advance(time.Second) // the app's failure budget lets one a second through
		began := time.Now()
		_, err := w.ByFacts(login.AccessToken, number, "不对")
		took := time.Since(began)
		if auth.CodeOf(err) != auth.BindingNoMatch {
			t.Fatal(err)
		}
		// Nobody may be delayed here.
		if _, err := w.db.ExecContext(t.Context(), `delete from bind_attempts`); err != nil {
			t.Fatal(err)
		}
		return took
	}
	for range 50 {
		attempt("warm-up")
	}
	apart, found := storetest.Apart(storetest.TimingSamples/3, func(i int, exists bool) time.Duration {
		if exists {
			return attempt("E-" + strconv.Itoa(rand.IntN(persons)))
		}
		return attempt("N-" + strconv.Itoa(i))
	})
	t.Logf("a wrong fact takes longer than an unknown person %s", found)
	if apart {
		t.Error("they can be told apart")
	}
	// The test must be able to fail: a lookup that stops at the first miss.
	t.Run("and_a_shorter_way_for_the_unknown_would_be_found_out", func(t *testing.T) {
		apart, found := storetest.Apart(100, func(i int, exists bool) time.Duration {
			number := "N-" + strconv.Itoa(i)
			if exists {
				return attempt(number)
			}
			began := time.Now()
			_, _ = w.store.Candidate(t.Context(), "employee_no", w.Facts.MAC("employee_no", number))
			return time.Since(began)
		})
		if !apart {
			t.Errorf("it was not: longer %s", found)
		}
	})
}
