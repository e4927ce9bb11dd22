//go:build !race

package storetest

// refreshesEach is how often the suite refreshes each of a hundred sessions.
const refreshesEach = 100
