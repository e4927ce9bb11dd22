//go:build race

package storetest

import "flag"

// The suite measures and repeats less under the race detector, which slows each call down.
// .ci/check runs these tests once without it.

// raceRounds is how often the suite repeats each race of bindings.
const raceRounds = 25

// refreshesEach is how often the suite refreshes each of a hundred sessions.
const refreshesEach = 10

// TimingSamples is how often a timing test measures each operation.
const TimingSamples = 300

// The flag for rapid still overrides this number of runs.
func init() { _ = flag.Set("rapid.checks", "25") }
