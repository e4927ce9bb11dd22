package keyring

import "time"

// CurrentAge returns how long the current key of the use and algorithm has been signing.
// It is zero if there is no such key, and never negative.
func (r *Ring) CurrentAge(use Use, alg string, now time.Time) time.Duration {
	current := sequenceOf(r.keys.Load().rows, kind{use, alg}).current(now)
	if current == nil {
		return 0
	}
	return now.Sub(current.ActiveAt)
}
