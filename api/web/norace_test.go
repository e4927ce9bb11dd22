//go:build !race

package web

// flood is how many addresses a flood comes from: a small botnet, or one IPv6
// /44.
const flood = 1 << 20
