//go:build !race

package storetest

// raceRounds is how often the suite repeats each race of bindings.
const raceRounds = 100

// refreshesEach is how often the suite refreshes each of a hundred sessions.
const refreshesEach = 100

// TimingSamples is how often a timing test measures each operation.
const TimingSamples = 1500
