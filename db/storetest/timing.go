package storetest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// spread maps a number to a MAC, evenly over all MACs.
func spread(n uint64) []byte {
	m := make([]byte, 32)
	binary.BigEndian.PutUint64(m, n*0x9e3779b97f4a7c15)
	return m
}

var timingTests = []test{
	// An attacker who measures times must not learn who exists. The two lookups run in
	// random order, so that other load affects both alike, and a rank test says whether
	// one is slower.
	{"a lookup takes equally long whether or not a person has the value", func(t *testing.T, f *fixture) {
		const persons = 300
		for i := range uint64(persons) {
			_, err := f.Store.CreatePerson(t.Context(), person.Draft{ID: newID(), Facts: map[string][]byte{"no": spread(i), "name": spread(i)}}, event(auth.AuditPersonCreated, t0))
			wantCode(t, err, "")
		}
		apart, found := Apart(TimingSamples, func(i int, exists bool) time.Duration {
			asked := spread(rand.Uint64N(persons))
			if !exists {
				asked = spread(persons + uint64(i))
			}
			began := time.Now()
			c, err := f.Store.Candidate(t.Context(), "no", asked)
			took := time.Since(began)
			if err != nil || c.Person == uuid.Nil || len(c.Facts) != 2 {
				t.Fatal(c, err)
			}
			return took
		})
		t.Logf("a lookup with the value takes longer %s", found)
		if apart {
			t.Error("the times show whether a person has the value")
		}
	}},
}

// Apart reports whether an attacker who measures times can tell two operations apart, and
// describes the measurement. take runs the first or the second operation and returns how
// long it took; i rises with each call. The two run in random order, samples times each.
//
// Only a difference that an attacker could use counts. A positive result is measured
// again with twice the samples: chance alone produces one in two million runs even on
// an idle machine, and the second measurement then finds nothing.
func Apart(samples int, take func(i int, first bool) time.Duration) (apart bool, found string) {
	i := 0
	look := func(samples int) (effect, z float64) {
		order := slices.Repeat([]bool{true, false}, samples)
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		took := map[bool][]time.Duration{}
		for _, first := range order {
			took[first] = append(took[first], take(i, first))
			i++
		}
		return rankTest(took[true], took[false])
	}
	// An effect of 0.5 is no difference. The first condition says that a difference is
	// real, the second that it is usable.
	differ := func(effect, z float64) bool { return math.Abs(z) > 5 && math.Abs(effect-0.5) > 0.08 }
	effect, z := look(samples)
	found = fmt.Sprintf("in %.1f %% of the pairs (z = %.2f)", 100*effect, z)
	if !differ(effect, z) {
		return false, found
	}
	again, zAgain := look(2 * samples)
	found += fmt.Sprintf(", and on remeasurement in %.1f %% (z = %.2f)", 100*again, zAgain)
	return differ(again, zAgain) && (z > 0) == (zAgain > 0), found
}

// rankTest returns the probability that a value of a is greater than one of b, and its
// distance from one half in standard deviations (Mann-Whitney U, normal approximation).
func rankTest(a, b []time.Duration) (effect, z float64) {
	type sample struct {
		d     time.Duration
		fromA bool
	}
	var all []sample
	for _, d := range a {
		all = append(all, sample{d, true})
	}
	for _, d := range b {
		all = append(all, sample{d, false})
	}
	slices.SortFunc(all, func(x, y sample) int { return int(x.d - y.d) })
	var ranks float64
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].d == all[i].d {
			j++
		}
		for k := i; k < j; k++ {
			if all[k].fromA {
				ranks += float64(i+j+1) / 2 // the mean rank of equal values
			}
		}
		i = j
	}
	n, m := float64(len(a)), float64(len(b))
	u := ranks - n*(n+1)/2
	return u / (n * m), (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
}
