//go:build !race

package web

// flood is the number of addresses in the flood: a small botnet, or one IPv6 /44.
const flood = 1 << 20
