//go:build race

package web

// flood is how many addresses a flood comes from: fewer under the race detector,
// which makes each of them twenty times as dear, and still more than are
// remembered.
const flood = 1 << 18
