package keyring

import "time"

// CurrentAge returns how long the key that signs now for the use and algorithm
// has been signing. It is zero when there is none, and never negative.
func (r *Ring) CurrentAge(use Use, alg string, now time.Time) time.Duration {
	current := sequenceOf(r.keys.Load().rows, kind{use, alg}).current(now)
	if current == nil {
		return 0
	}
	return now.Sub(current.ActiveAt)
}
