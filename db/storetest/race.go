//go:build race

package storetest

// The suite measures and repeats less under the race detector, which slows each call down.
// .ci/check runs these tests once without it.

// refreshesEach is how often the suite refreshes each of a hundred sessions.
const refreshesEach = 10

// TimingSamples is how often a timing test measures each operation.
const TimingSamples = 300
