package keyring

import (
	"cmp"
	"slices"
	"time"
)

// State is the state of a key.
type State string

// The states, in their order.
const (
	Next     State = "next"
	Current  State = "current"
	Previous State = "previous"
	Retired  State = "retired"
)

// Key is a key as admins see it.
type Key struct {
	KID   string
	Use   Use
	Alg   string
	State State
	// CreatedAt is when a signing key was first published, or a MAC key was made.
	CreatedAt time.Time
	// KnownAt is the time from which all validators (of a MAC key: all replicas) know
	// the key, so that it can sign without refusals.
	KnownAt time.Time
	// ActiveAt is the time from which the key signs; zero for a next key that was not
	// promoted.
	ActiveAt time.Time
	// RetiresAt is when a previous key will be retired; zero for other keys.
	RetiresAt time.Time
	// RetiredAt is when the key was retired.
	RetiredAt time.Time
}

// Describe returns the stored keys with their states at now, ordered by kind, and within
// a kind by state: retired, previous, current, next.
func Describe(stored []StoredKey, p Policy, now time.Time) []Key {
	out := make([]Key, 0, len(stored))
	for i := range stored {
		k := &stored[i]
		out = append(out, describe(k, sequenceOf(stored, kind{k.Use, k.Alg}), p, now))
	}
	rank := map[State]int{Retired: 0, Previous: 1, Current: 2, Next: 3}
	slices.SortStableFunc(out, func(a, b Key) int {
		zero := func(t time.Time) int {
			if t.IsZero() {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.Use, b.Use), cmp.Compare(a.Alg, b.Alg), cmp.Compare(rank[a.State], rank[b.State]),
			cmp.Compare(zero(a.ActiveAt), zero(b.ActiveAt)), a.ActiveAt.Compare(b.ActiveAt), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.KID, b.KID))
	})
	return out
}

func describe(k *StoredKey, l sequence, p Policy, now time.Time) Key {
	d := Key{
		KID: k.KID, Use: k.Use, Alg: k.Alg,
		CreatedAt: k.CreatedAt, KnownAt: p.knownAt(k), ActiveAt: k.ActiveAt, RetiredAt: k.RetiredAt,
	}
	switch current := l.current(now); {
	case !k.RetiredAt.IsZero():
		d.State = Retired
	case k == current:
		d.State = Current
	case k.ActiveAt.IsZero() || k.ActiveAt.After(now):
		d.State = Next
	default:
		d.State, d.RetiresAt = Previous, l.retiresAt(p, k)
	}
	return d
}
