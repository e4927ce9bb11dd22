//go:build !race

package storetest

// refreshesEach is how often the suite refreshes each of a hundred sessions.
const refreshesEach = 100

// TimingSamples is how often a test of what takes how long measures either case.
const TimingSamples = 1500
