//go:build race

package storetest

// refreshesEach is how often the suite refreshes each of a hundred sessions. The race
// detector slows SQLite, which is written in Go here, about tenfold, and finds no more in
// later refreshes than in the first ones.
const refreshesEach = 10

// TimingSamples is how often a timing test measures each operation. Under the race
// detector, times say little about those that an attacker measures, and each
// measurement takes ten times as long.
const TimingSamples = 300
