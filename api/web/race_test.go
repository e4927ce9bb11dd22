//go:build race

package web

// flood is the number of addresses in the flood. The race detector makes each twenty
// times as expensive, so there are fewer, but still more than are remembered.
const flood = 1 << 18
