package keyring

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// Spread is how long a change of the keys may take to reach every replica, the
// difference between their clocks included: they ask every second, wait three
// seconds for an answer, and are ready only within two seconds of the
// database's clock.
const Spread = 10 * time.Second

// Policy is the settings of how keys change.
type Policy struct {
	// Rotation is how long a key signs before the next one does; 0 means until
	// somebody says so.
	Rotation time.Duration
	// JWKSMaxAge is how long validators may keep a copy of the JWK set.
	JWKSMaxAge time.Duration
	// SessionMaxTTL is how long a session may live, and with it what a MAC key
	// has signed.
	SessionMaxTTL time.Duration
}

// DefaultPolicy is 30 days, five minutes, and the default lifetime of sessions.
var DefaultPolicy = Policy{Rotation: 30 * 24 * time.Hour, JWKSMaxAge: 5 * time.Minute, SessionMaxTTL: 180 * 24 * time.Hour}

// Bounds of the settings.
const (
	minRotation   = time.Hour
	minJWKSMaxAge = time.Second
	maxJWKSMaxAge = 24 * time.Hour
)

// maxPublished bounds the signing keys that are published at once: validators
// bound what they read, ours at 100 keys.
const maxPublished = 50

// Check refuses settings that are out of bounds or contradict each other.
func (p Policy) Check() error {
	switch {
	case p.JWKSMaxAge < minJWKSMaxAge || p.JWKSMaxAge > maxJWKSMaxAge || p.JWKSMaxAge%time.Second != 0:
		return fmt.Errorf("keyring: the max-age of the JWK set must be between %s and %s in whole seconds, got %s", minJWKSMaxAge, maxJWKSMaxAge, p.JWKSMaxAge)
	case p.Rotation != 0 && p.Rotation < minRotation:
		return fmt.Errorf("keyring: the rotation must be 0 or at least %s, got %s", minRotation, p.Rotation)
	case p.Rotation != 0 && p.Rotation < p.JWKSMaxAge+Spread:
		return fmt.Errorf("keyring: the rotation must be at least %s longer than the max-age of the JWK set (%s), got %s", Spread, p.JWKSMaxAge, p.Rotation)
	}
	return nil
}

// known returns from when on everybody knows the key: every validator a signing
// key, whatever copy of the JWK set it keeps, and every replica a MAC key.
func (p Policy) known(k *StoredKey) time.Time {
	if k.Use == UseAccess {
		return k.CreatedAt.Add(p.JWKSMaxAge + Spread)
	}
	return k.CreatedAt.Add(Spread)
}

// outlived returns when nothing is left of what a key signed that signed until
// then. A replica may go on with it for a while, until it hears of the change.
func (p Policy) outlived(use Use, until time.Time) time.Time {
	if use == UseAccess {
		return until.Add(auth.MaxAccessTokenTTL + Spread)
	}
	return until.Add(p.SessionMaxTTL + Spread)
}

// kind is the keys that take over from each other.
type kind struct {
	use Use
	alg string
}

// mandatory kinds are there from the first start on.
var mandatory = []kind{{UseAccess, token.DefaultAlg}, {UseRefresh, AlgMAC}}

// kindsOf returns the kinds that the keys have or had, the mandatory ones first. A
// kind of signing key comes with the first app that chooses it, and stays.
func kindsOf(keys []StoredKey) []kind {
	kinds := slices.Clone(mandatory)
	for i := range keys {
		k := kind{keys[i].Use, keys[i].Alg}
		if k.use == UseAccess && auth.CheckSigningAlg(k.alg) == nil && !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// line is the keys of one kind that are not retired, in the order of their
// first use: the previous ones, the current one, the next ones.
type line []*StoredKey

func lineOf(keys []StoredKey, of kind) line {
	var l line
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
func (l line) current(now time.Time) (found *StoredKey) {
	for _, k := range l {
		if !k.ActiveAt.IsZero() && !k.ActiveAt.After(now) {
			found = k
		}
	}
	return found
}

// coming returns the key that has been promoted and does not sign yet, or nil.
func (l line) coming(now time.Time) *StoredKey {
	i := slices.IndexFunc(l, func(k *StoredKey) bool { return k.ActiveAt.After(now) })
	if i < 0 {
		return nil
	}
	return l[i]
}

// next returns the key to promote, or nil.
func (l line) next() *StoredKey {
	i := slices.IndexFunc(l, func(k *StoredKey) bool { return k.ActiveAt.IsZero() })
	if i < 0 {
		return nil
	}
	return l[i]
}

// after returns t, or the first moment after the last that any key of the line
// began to sign or will: what is promoted later takes over later, whatever the
// clocks say.
func (l line) after(t time.Time, except *StoredKey) time.Time {
	for _, k := range l {
		if k != except && !k.ActiveAt.Before(t) {
			t = k.ActiveAt.Add(time.Microsecond)
		}
	}
	return t
}

// retires returns when a key that another one takes over from has outlived what
// it signed; zero while none does.
func (l line) retires(p Policy, k *StoredKey) time.Time {
	i := slices.Index(l, k)
	if i < 0 || k.ActiveAt.IsZero() || i+1 >= len(l) || l[i+1].ActiveAt.IsZero() {
		return time.Time{}
	}
	return p.outlived(k.Use, l[i+1].ActiveAt)
}

// dues are what has to happen by itself.
type dues struct {
	// incomplete says that a kind lacks a key.
	incomplete bool
	promote    []kind
	retire     []string
}

func (d *dues) none() bool { return !d.incomplete && len(d.promote)+len(d.retire) == 0 }

// due says what has to happen at now.
func (p Policy) due(keys []StoredKey, now time.Time) dues {
	signs, without := missing(keys)
	d := dues{incomplete: len(signs)+len(without) > 0}
	for _, of := range kindsOf(keys) {
		l := lineOf(keys, of)
		current, next := l.current(now), l.next()
		if p.Rotation > 0 && current != nil && next != nil && l.coming(now) == nil &&
			!current.ActiveAt.Add(p.Rotation).After(now) && !p.known(next).After(now) {
			d.promote = append(d.promote, of)
		}
		for _, k := range l {
			if at := l.retires(p, k); !at.IsZero() && !at.After(now) {
				d.retire = append(d.retire, k.KID)
			}
		}
	}
	return d
}
