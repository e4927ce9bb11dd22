package binding_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/storetest"
	"github.com/yufu-auth/yufu/pkg/auth"
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
	const persons, samples = 200, storetest.TimingSamples / 3
	for i := range persons {
		w.Person("E-"+strconv.Itoa(i), "人"+strconv.Itoa(i), "")
	}
	login := w.Login("alice")
	attempt := func(number string) time.Duration {
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
	order := slices.Repeat([]bool{true, false}, samples)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for range 50 {
		attempt("warm-up")
	}
	took := map[bool][]time.Duration{}
	for i, exists := range order {
		number := "E-" + strconv.Itoa(rand.IntN(persons))
		if !exists {
			number = "N-" + strconv.Itoa(i)
		}
		took[exists] = append(took[exists], attempt(number))
	}
	effect, z := storetest.RankTest(took[true], took[false])
	t.Logf("a wrong fact takes longer than an unknown person in %.1f %% of the pairs (z = %.2f)", 100*effect, z)
	// 50 % is no difference. Both conditions: one says that it is real, the other
	// that it is of use to anybody.
	if math.Abs(z) > 5 && math.Abs(effect-0.5) > 0.08 {
		t.Errorf("they can be told apart: %.1f %%, z = %.2f", 100*effect, z)
	}
	// The test must be able to fail: a lookup that stops at the first miss.
	t.Run("and_a_shorter_way_for_the_unknown_would_be_found_out", func(t *testing.T) {
		took := map[bool][]time.Duration{}
		for i, exists := range order[:200] {
			number := "N-" + strconv.Itoa(i)
			began := time.Now()
			if exists {
				_, _ = w.ByFacts(login.AccessToken, number, "不对")
				if _, err := w.db.ExecContext(t.Context(), `delete from bind_attempts`); err != nil {
					t.Fatal(err)
				}
			} else {
				_, _ = w.store.Candidate(t.Context(), "employee_no", w.Facts.MAC("employee_no", number))
			}
			took[exists] = append(took[exists], time.Since(began))
		}
		if effect, z := storetest.RankTest(took[true], took[false]); z < 5 || effect < 0.58 {
			t.Errorf("it was not: %.1f %%, z = %.2f", 100*effect, z)
		}
	})
}
