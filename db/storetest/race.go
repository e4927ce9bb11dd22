//go:build race

package storetest

// refreshesEach is how often the suite refreshes each of a hundred sessions.
// The race detector slows SQLite, which is Go throughout, by an order of
// magnitude, and finds no more in the later refreshes than in the first.
const refreshesEach = 10

// TimingSamples is how often a test of what takes how long measures either case.
// Under the race detector, times tell little of those that an attacker measures,
// and each takes an order of magnitude longer.
const TimingSamples = 300
