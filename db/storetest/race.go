//go:build race

package storetest

// TimingSamples is how often a timing test measures each operation. Under the race
// detector, times say little about those that an attacker measures, and each
// measurement takes longer. So .ci/check runs these tests without it.
const TimingSamples = 300
