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

// TestTiming compares the whole attempt, from the counting to the refusal, for a person
// who does not exist and for a person with a wrong fact, alternately and in random order.
// A rank test (Mann-Whitney) computes how probable it is that one of them is slower. Noise
// of the machine does not matter, because it affects both.
//
// The test fails only for an effect that an attacker could use: to see a smaller one, an
// attacker needs far more attempts than the delays allow.
func TestTiming(t *testing.T) {
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
		w.Clock.Advance(time.Second) // the app's failure budget admits one a second
		began := time.Now()
		_, err := w.ByFacts(login.AccessToken, number, "不对")
		took := time.Since(began)
		if auth.CodeOf(err) != auth.BindingNoMatch {
			t.Fatal(err)
		}
		// Remove the counters, so that no attempt is delayed.
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
		t.Error("unknown persons and wrong facts take different times")
	}
	// The test must be able to fail: a lookup that stops at the first miss.
	t.Run("a shorter path for unknown persons is detected", func(t *testing.T) {
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
			t.Errorf("the shorter path was not detected: longer %s", found)
		}
	})
}
