//go:build !race

package storetest

// TimingSamples is how often a timing test measures each operation.
const TimingSamples = 1500
