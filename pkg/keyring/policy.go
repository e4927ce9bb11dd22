package keyring

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// PropagationTime is the maximum time that a change of the keys takes to reach every
// replica, including the difference between their clocks: replicas ask every second,
// wait three seconds for an answer, and are ready only within two seconds of the
// database's clock.
const PropagationTime = 10 * time.Second

// Policy holds the settings of key rotation.
type Policy struct {
	// Rotation is how long a key signs before the next one replaces it; 0 means until
	// [Keeper.Rotate] is called.
	Rotation time.Duration
	// JWKSMaxAge is how long validators may keep a copy of the JWK set.
	JWKSMaxAge time.Duration
	// SessionMaxTTL is the maximum lifetime of a session, and so of refresh tokens
	// that a MAC key has signed.
	SessionMaxTTL time.Duration
}

// DefaultPolicy rotates every 30 days, with a max-age of five minutes and the default
// lifetime of sessions.
var DefaultPolicy = Policy{Rotation: 30 * 24 * time.Hour, JWKSMaxAge: 5 * time.Minute, SessionMaxTTL: 180 * 24 * time.Hour}

// Bounds of the settings.
const (
	minRotation   = time.Hour
	minJWKSMaxAge = time.Second
	maxJWKSMaxAge = 24 * time.Hour
)

// maxPublished bounds the number of published signing keys: validators bound the number
// of keys that they read, ours at 100.
const maxPublished = 50

// Check refuses settings that are out of bounds or contradict each other.
func (p Policy) Check() error {
	switch {
	case p.JWKSMaxAge < minJWKSMaxAge || p.JWKSMaxAge > maxJWKSMaxAge || p.JWKSMaxAge%time.Second != 0:
		return fmt.Errorf("keyring: the max-age of the JWK set must be between %s and %s in whole seconds, got %s", minJWKSMaxAge, maxJWKSMaxAge, p.JWKSMaxAge)
	case p.Rotation != 0 && p.Rotation < minRotation:
		return fmt.Errorf("keyring: the rotation must be 0 or at least %s, got %s", minRotation, p.Rotation)
	case p.Rotation != 0 && p.Rotation < p.JWKSMaxAge+PropagationTime:
		return fmt.Errorf("keyring: the rotation must be at least %s longer than the max-age of the JWK set (%s), got %s", PropagationTime, p.JWKSMaxAge, p.Rotation)
	}
	return nil
}

// knownAt returns the time from which the key is known everywhere: a signing key to every
// validator, even with the oldest copy of the JWK set, and a MAC key to every replica.
func (p Policy) knownAt(k *StoredKey) time.Time {
	if k.Use == UseAccess {
		return k.CreatedAt.Add(p.JWKSMaxAge + PropagationTime)
	}
	return k.CreatedAt.Add(PropagationTime)
}

// signaturesExpireAt returns when all tokens have expired that a key signed until the
// given time. A replica may sign with the key for a while longer, until it learns of the
// change.
func (p Policy) signaturesExpireAt(use Use, until time.Time) time.Time {
	if use == UseAccess {
		return until.Add(auth.MaxAccessTokenTTL + PropagationTime)
	}
	return until.Add(p.SessionMaxTTL + PropagationTime)
}

// kind is a use and an algorithm. Keys of one kind replace each other.
type kind struct {
	use Use
	alg string
}

// mandatoryKinds exist from the first start on.
var mandatoryKinds = []kind{{UseAccess, token.DefaultAlg}, {UseRefresh, AlgMAC}}

// kindsOf returns the kinds that the keys have or had, the mandatory ones first. Keys of
// another kind are made for the first app that chooses it, and the kind stays.
func kindsOf(keys []StoredKey) []kind {
	kinds := slices.Clone(mandatoryKinds)
	for i := range keys {
		k := kind{keys[i].Use, keys[i].Alg}
		if k.use == UseAccess && auth.CheckSigningAlg(k.alg) == nil && !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// sequence holds the keys of one kind that are not retired, in the order of their
// first use: the previous ones, the current one, the next ones.
type sequence []*StoredKey

func sequenceOf(keys []StoredKey, of kind) sequence {
	var l sequence
	for i := range keys {
		if k := &keys[i]; k.RetiredAt.IsZero() && (kind{k.Use, k.Alg}) == of {
			l = append(l, k)
		}
	}
	slices.SortStableFunc(l, func(a, b *StoredKey) int {
		switch {
		case a.ActiveAt.IsZero() != b.ActiveAt.IsZero():
			if a.ActiveAt.IsZero() {
				return 1
			}
			return -1
		default:
			return cmp.Or(a.ActiveAt.Compare(b.ActiveAt), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.KID, b.KID))
		}
	})
	return l
}

// current returns the key that signs, or nil.
func (l sequence) current(now time.Time) (found *StoredKey) {
	for _, k := range l {
		if !k.ActiveAt.IsZero() && !k.ActiveAt.After(now) {
			found = k
		}
	}
	return found
}

// pending returns the key that has been promoted and does not sign yet, or nil.
func (l sequence) pending(now time.Time) *StoredKey {
	i := slices.IndexFunc(l, func(k *StoredKey) bool { return k.ActiveAt.After(now) })
	if i < 0 {
		return nil
	}
	return l[i]
}

// next returns the key to promote, or nil.
func (l sequence) next() *StoredKey {
	i := slices.IndexFunc(l, func(k *StoredKey) bool { return k.ActiveAt.IsZero() })
	if i < 0 {
		return nil
	}
	return l[i]
}

// activationAfter returns t, or the first moment after the ActiveAt of all other keys of
// the sequence if that is later: a key that is promoted later signs later, even if the
// clocks disagree.
func (l sequence) activationAfter(t time.Time, except *StoredKey) time.Time {
	for _, k := range l {
		if k != except && !k.ActiveAt.Before(t) {
			t = k.ActiveAt.Add(time.Microsecond)
		}
	}
	return t
}

// retiresAt returns when a replaced key can be retired, because everything it signed
// has expired; zero while no key replaces it.
func (l sequence) retiresAt(p Policy, k *StoredKey) time.Time {
	i := slices.Index(l, k)
	if i < 0 || k.ActiveAt.IsZero() || i+1 >= len(l) || l[i+1].ActiveAt.IsZero() {
		return time.Time{}
	}
	return p.signaturesExpireAt(k.Use, l[i+1].ActiveAt)
}

// dueChanges are the changes that the policy requires at a time.
type dueChanges struct {
	// incomplete says that a kind lacks a key.
	incomplete bool
	promote    []kind
	retire     []string
}

func (d *dueChanges) empty() bool { return !d.incomplete && len(d.promote)+len(d.retire) == 0 }

// due returns the changes that the policy requires at now.
func (p Policy) due(keys []StoredKey, now time.Time) dueChanges {
	signs, without := missing(keys)
	d := dueChanges{incomplete: len(signs)+len(without) > 0}
	for _, of := range kindsOf(keys) {
		l := sequenceOf(keys, of)
		current, next := l.current(now), l.next()
		if p.Rotation > 0 && current != nil && next != nil && l.pending(now) == nil &&
			!current.ActiveAt.Add(p.Rotation).After(now) && !p.knownAt(next).After(now) {
			d.promote = append(d.promote, of)
		}
		for _, k := range l {
			if at := l.retiresAt(p, k); !at.IsZero() && !at.After(now) {
				d.retire = append(d.retire, k.KID)
			}
		}
	}
	return d
}
