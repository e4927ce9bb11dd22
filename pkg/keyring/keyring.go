// Package keyring owns the keys that tokens are made of: asymmetric keys that
// sign access tokens, and MAC keys that authenticate refresh tokens. It
// generates them, keeps them sealed at rest, publishes the public halves as a
// JWK set, and says which one is current.
//
// It does not own the tokens (pkg/token), the master key (pkg/seal), or the
// database (a [Store] is handed in).
//
// # States of a key
//
//	next      published, does not sign yet
//	current   signs; published
//	previous  signs no more; published, so that what it signed still verifies
//	retired   neither
//
// There is always a next key beside the current one, published long before its
// first use, so no validator ever meets a key that it could not have fetched.
//
// # Failure
//
// [Open] fails when a key does not open with the master key, or when a public
// key at rest does not belong to its private one: a service that cannot trust
// its keys does not start. Lookups afterwards are in memory and cannot fail
// for want of a database.
package keyring

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/token"
)

// AlgMAC is the algorithm of MAC keys.
const AlgMAC = "HS256"

const (
	macKeySize = 32
	macIDSize  = 4
)

// ErrNoKey means that the ring holds no current key of a kind. A ring that
// [Open] returned always has one of the default kind.
var ErrNoKey = errors.New("keyring: no current key")

// Ring is the keys in memory. It is safe for concurrent use, and implements
// [token.SigningKeys] and [token.MACKeys].
type Ring struct {
	store  Store
	sealer *seal.Ring
	keys   atomic.Pointer[snapshot]
}

// snapshot is one load of the store; it never changes.
type snapshot struct {
	signing []signingKey // by ActiveAt, the next keys (zero) left out
	verify  map[string]verificationKey
	mac     []macKey // by ActiveAt, the next keys left out
	macByID map[uint32][]byte
	jwks    []byte
}

type signingKey struct {
	token.SigningKey
	activeAt time.Time
}

type verificationKey struct {
	key crypto.PublicKey
	alg string
}

type macKey struct {
	id       uint32
	key      []byte
	activeAt time.Time
}

// Open loads the keys, after it has made those that are missing: on the first
// start a current and a next one of each kind. Replicas that start at once
// agree, because the store admits one of them at a time.
func Open(ctx context.Context, store Store, sealer *seal.Ring, now time.Time) (*Ring, error) {
	r := &Ring{store: store, sealer: sealer}
	stored, err := store.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("keyring: load: %w", err)
	}
	if len(missing(stored)) > 0 {
		stored, err = store.AddKeys(ctx, now, func(existing []StoredKey) ([]StoredKey, error) {
			// A key made under the wrong master key would lock the right one
			// out, so those that are there must open first.
			if _, err := r.open(existing); err != nil {
				return nil, err
			}
			var add []StoredKey
			for _, m := range missing(existing) {
				k, err := r.generate(m, now)
				if err != nil {
					return nil, err
				}
				add = append(add, k)
			}
			return add, nil
		})
		if err != nil {
			return nil, fmt.Errorf("keyring: create keys: %w", err)
		}
	}
	if err := r.install(stored); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the keys again. On error the ring keeps those it has.
func (r *Ring) Reload(ctx context.Context) error {
	stored, err := r.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("keyring: load: %w", err)
	}
	return r.install(stored)
}

// CurrentSigningKey implements [token.SigningKeys]. While no key of the
// algorithm is active yet, because this clock is behind the one of the replica
// that made them, it is the one that will be active first.
func (r *Ring) CurrentSigningKey(alg string, now time.Time) (token.SigningKey, error) {
	found := currentSigning(r.keys.Load().signing, alg, now)
	if found == nil {
		return token.SigningKey{}, fmt.Errorf("%w: signing, %s", ErrNoKey, alg)
	}
	return found.SigningKey, nil
}

func currentSigning(keys []signingKey, alg string, now time.Time) (found *signingKey) {
	for i := range keys {
		if k := &keys[i]; k.Alg == alg && (found == nil || !k.activeAt.After(now)) {
			found = k
		}
	}
	return found
}

func currentMAC(keys []macKey, now time.Time) (found *macKey) {
	for i := range keys {
		if k := &keys[i]; found == nil || !k.activeAt.After(now) {
			found = k
		}
	}
	return found
}

// VerificationKey returns a published key that access tokens may be signed by,
// and its algorithm, or false. It does no I/O.
func (r *Ring) VerificationKey(kid string) (crypto.PublicKey, string, bool) {
	k, ok := r.keys.Load().verify[kid]
	return k.key, k.alg, ok
}

// CurrentMACKey implements [token.MACKeys], by the same rule as
// [Ring.CurrentSigningKey].
func (r *Ring) CurrentMACKey(now time.Time) (uint32, []byte, error) {
	found := currentMAC(r.keys.Load().mac, now)
	if found == nil {
		return 0, nil, fmt.Errorf("%w: refresh", ErrNoKey)
	}
	return found.id, found.key, nil
}

// MACKey implements [token.MACKeys].
func (r *Ring) MACKey(id uint32) ([]byte, bool) {
	key, ok := r.keys.Load().macByID[id]
	return key, ok
}

// JWKS returns the published JWK set (RFC 7517 §5) as prepared bytes. The
// caller must not change them.
func (r *Ring) JWKS() []byte { return r.keys.Load().jwks }

// want is a kind of key and whether it is to sign at once.
type want struct {
	use    Use
	alg    string
	active bool
}

// missing says which keys a store lacks to have a current and a next one of
// each kind. A key that becomes active a moment from now was made by a replica
// whose clock is ahead, and is current for all: a second one would be unknown
// there.
func missing(keys []StoredKey) []want {
	var out []want
	for _, kind := range []want{{use: UseAccess, alg: token.DefaultAlg}, {use: UseRefresh, alg: AlgMAC}} {
		var current, next bool
		for i := range keys {
			k := &keys[i]
			if k.Use != kind.use || k.Alg != kind.alg || !k.RetiredAt.IsZero() {
				continue
			}
			if k.ActiveAt.IsZero() {
				next = true
			} else {
				current = true
			}
		}
		if !current {
			out = append(out, want{kind.use, kind.alg, true})
		}
		if !next {
			out = append(out, want{kind.use, kind.alg, false})
		}
	}
	return out
}

// generate makes a key of a kind.
func (r *Ring) generate(w want, now time.Time) (StoredKey, error) {
	k := StoredKey{Use: w.use, Alg: w.alg, CreatedAt: now}
	if w.active {
		k.ActiveAt = now
	}
	var plain []byte
	switch w.use {
	case UseRefresh:
		id := make([]byte, macIDSize)
		plain = make([]byte, macKeySize)
		_, _ = rand.Read(id) // never fails: crypto/rand aborts the program instead
		_, _ = rand.Read(plain)
		k.KID = hex.EncodeToString(id)
	case UseAccess:
		jwk, private, err := generateSigningKey(w.alg)
		if err != nil {
			return StoredKey{}, err
		}
		k.KID, plain = jwk.KID, private
		if k.Public, err = json.Marshal(jwk); err != nil {
			return StoredKey{}, fmt.Errorf("keyring: encode public key: %w", err)
		}
	}
	sealed, err := r.sealer.Seal(plain, keyAAD(k.KID))
	if err != nil {
		return StoredKey{}, err
	}
	k.Sealed = sealed
	return k, nil
}

// keyAAD is the associated data of a key at rest.
func keyAAD(kid string) []byte { return seal.AAD("signing_keys", "sealed", kid) }

// install opens the keys and makes them the ring's.
func (r *Ring) install(stored []StoredKey) error {
	s, err := r.open(stored)
	if err != nil {
		return err
	}
	r.keys.Store(s)
	return nil
}

// open opens the keys that are not retired.
func (r *Ring) open(stored []StoredKey) (*snapshot, error) {
	s := &snapshot{
		verify:  make(map[string]verificationKey),
		macByID: make(map[uint32][]byte),
	}
	set := jwkSet{Keys: []JWK{}}
	for i := range stored {
		k := &stored[i]
		if !k.RetiredAt.IsZero() {
			continue
		}
		plain, err := r.sealer.Open(k.Sealed, keyAAD(k.KID))
		if err != nil {
			return nil, fmt.Errorf("keyring: key %s at rest: %w (check that the master key file is the one this database was set up with)", k.KID, err)
		}
		switch k.Use {
		case UseRefresh:
			if err := s.addMAC(k, plain); err != nil {
				return nil, err
			}
		case UseAccess:
			jwk, err := s.addSigning(k, plain)
			if err != nil {
				return nil, err
			}
			set.Keys = append(set.Keys, jwk)
		default:
			// A newer release made it; this one has no business with it.
		}
	}
	s.sort()
	jwks, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("keyring: encode the JWK set: %w", err)
	}
	s.jwks = jwks
	return s, nil
}

func (s *snapshot) addMAC(k *StoredKey, key []byte) error {
	id, err := hex.DecodeString(k.KID)
	if err != nil || len(id) != macIDSize || len(key) != macKeySize {
		return fmt.Errorf("keyring: key %s is not a MAC key", k.KID)
	}
	n := binary.BigEndian.Uint32(id)
	s.macByID[n] = key
	if !k.ActiveAt.IsZero() {
		s.mac = append(s.mac, macKey{n, key, k.ActiveAt})
	}
	return nil
}

// addSigning returns the public JWK, derived from the private key: what the
// database says of the public half is compared, never trusted, or whoever can
// write there could publish a key of his own.
func (s *snapshot) addSigning(k *StoredKey, private []byte) (JWK, error) {
	key, jwk, err := parseSigningKey(k.Alg, private)
	if err != nil {
		return JWK{}, fmt.Errorf("keyring: key %s: %w", k.KID, err)
	}
	var published JWK
	if err := json.Unmarshal(k.Public, &published); err != nil || published != jwk || jwk.KID != k.KID {
		return JWK{}, fmt.Errorf("keyring: key %s: the public key at rest is not the private key's", k.KID)
	}
	s.verify[k.KID] = verificationKey{key.Public(), k.Alg}
	if !k.ActiveAt.IsZero() {
		s.signing = append(s.signing, signingKey{token.SigningKey{KID: k.KID, Alg: k.Alg, Key: key}, k.ActiveAt})
	}
	return jwk, nil
}
