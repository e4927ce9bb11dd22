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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/token"
)

// AlgMAC is the algorithm of MAC keys.
const AlgMAC = "HS256"

const (
	macKeySize = 32
	macIDSize  = 4
)

// Ring holds the keys in memory. It is safe for concurrent use, and implements
// [token.SigningKeys] and [token.MACKeys].
type Ring struct {
	store  Store
	sealer *seal.Ring
	keys   atomic.Pointer[snapshot]

	// mu is held while the keys are read or changed, so that an older state never
	// replaces a newer one.
	mu sync.Mutex
	// version is that of the last state that was read.
	version string
	// retired are the keys that this ring has ever seen retired, with the times.
	retired map[string]time.Time
	// hasCutoff is the function given to [Ring.SetCutoffCheck].
	hasCutoff func(kid string) bool
}

// snapshot is one load of the store; it never changes.
type snapshot struct {
	rows    []StoredKey  // without Sealed
	signing []signingKey // by ActiveAt, the next keys last
	verify  map[string]verificationKey
	mac     []macKey // by ActiveAt, the next keys last
	macByID map[uint32][]byte
	jwks    []byte
	// lostRetirement says that the store has lost the retirement of a key.
	lostRetirement bool
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

// Open makes the missing keys and loads all keys. On the first start it makes a current
// and a next key of each kind. Replicas that start at the same time agree, because the
// store admits one of them at a time.
func Open(ctx context.Context, store Store, sealer *seal.Ring, now time.Time) (*Ring, error) {
	r := &Ring{store: store, sealer: sealer}
	stored, err := store.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("keyring: load: %w", err)
	}
	if signs, next := missing(stored); len(signs)+len(next) == 0 {
		if err := r.install(stored); err != nil {
			return nil, err
		}
		return r, nil
	}
	err = r.change(ctx, Policy{}, now, auth.AuditEvent{Actor: auth.ActorService}, (*plan).addMissing)
	if err != nil {
		return nil, fmt.Errorf("keyring: create keys: %w", err)
	}
	return r, nil
}

// Reload reads the keys again. On error the ring keeps its keys, except those that
// other replicas have retired.
func (r *Ring) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reload(ctx)
}

func (r *Ring) reload(ctx context.Context) error {
	stored, err := r.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("keyring: load: %w", err)
	}
	if err := r.install(stored); err != nil {
		// One bad key must not keep a leaked key valid on this replica until
		// an operator repairs it.
		return errors.Join(err, r.dropRetired(stored))
	}
	return nil
}

// dropRetired removes the ring's keys that are retired in the store.
func (r *Ring) dropRetired(stored []StoredKey) error {
	s, err := r.keys.Load().without(stored)
	if err != nil {
		return err
	}
	r.keys.Store(s)
	return nil
}

// reloadIfChanged reads the keys again if they have changed.
func (r *Ring) reloadIfChanged(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Read before the keys, which are then as new or newer.
	version, err := r.store.KeysVersion(ctx)
	if err != nil {
		return fmt.Errorf("keyring: load: %w", err)
	}
	if version == r.version {
		return nil
	}
	if err := r.reload(ctx); err != nil {
		return err
	}
	r.version = version
	return nil
}

// isVersion reports whether the ring's keys were read in the state with this name.
func (r *Ring) isVersion(version string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version != "" && version == r.version
}

// CurrentSigningKey implements [token.SigningKeys]. Right after an app chose an
// algorithm, no key of it may sign yet; the result is then the key of
// [token.DefaultAlg]. If no key of the default algorithm is active yet, because this
// clock is behind the clock of the replica that made the keys, the result is the key that
// becomes active first.
// A key that a cutoff hits does not sign; the result is then the next key, which all
// validators know. If the cutoffs hit that one too, the error is [token.ErrNoKey] until
// [Keeper.CatchUp] has made another key.
func (r *Ring) CurrentSigningKey(alg string, now time.Time) (token.SigningKey, error) {
	keys := r.keys.Load().signing
	found := r.currentSigning(keys, alg, now)
	if alg != token.DefaultAlg && (found == nil || found.activeAt.After(now)) {
		found = r.currentSigning(keys, token.DefaultAlg, now)
	}
	if found == nil {
		return token.SigningKey{}, fmt.Errorf("keyring: %w for %s", token.ErrNoKey, alg)
	}
	return found.SigningKey, nil
}

func (r *Ring) currentSigning(keys []signingKey, alg string, now time.Time) (found *signingKey) {
	for i := range keys {
		if k := &keys[i]; k.Alg == alg && (found == nil || !k.activeAt.After(now)) && !r.distrusts(k.KID) {
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

// VerificationKey returns a published key that may have signed access tokens, and its
// algorithm. It returns false for an unknown kid. It does no I/O.
func (r *Ring) VerificationKey(kid string) (crypto.PublicKey, string, bool) {
	k, ok := r.keys.Load().verify[kid]
	return k.key, k.alg, ok
}

// CurrentMACKey implements [token.MACKeys], with the rule of
// [Ring.CurrentSigningKey] for clocks.
func (r *Ring) CurrentMACKey(now time.Time) (uint32, []byte, error) {
	found := currentMAC(r.keys.Load().mac, now)
	if found == nil {
		return 0, nil, fmt.Errorf("keyring: %w for refresh tokens", token.ErrNoKey)
	}
	return found.id, found.key, nil
}

// MACKey implements [token.MACKeys].
func (r *Ring) MACKey(id uint32) ([]byte, bool) {
	key, ok := r.keys.Load().macByID[id]
	return key, ok
}

// JWKS returns the published JWK set (RFC 7517 §5) as JSON. The caller must not change
// the bytes.
func (r *Ring) JWKS() []byte { return r.keys.Load().jwks }

// keySpec describes a key to make: its kind, and the time from which it signs, zero for
// a next key.
type keySpec struct {
	kind
	activeAt time.Time
}

// missing returns the kinds for which a store lacks a key that signs, and those for
// which it lacks a next key.
//
// A key that becomes active a moment from now was made by a replica whose clock
// is ahead. It counts as current: that replica would not know a second one.
func missing(keys []StoredKey) (signs, next []kind) {
	for _, of := range kindsOf(keys) {
		l := sequenceOf(keys, of)
		if len(l) == 0 || l[0].ActiveAt.IsZero() {
			signs = append(signs, of)
		}
		if l.next() == nil {
			next = append(next, of)
		}
	}
	return signs, next
}

// generate makes a key of a kind.
func (r *Ring) generate(spec keySpec, now time.Time) (StoredKey, error) {
	k := StoredKey{Use: spec.use, Alg: spec.alg, CreatedAt: now, ActiveAt: spec.activeAt}
	var plain []byte
	switch spec.use {
	case UseRefresh:
		id := make([]byte, macIDSize)
		plain = make([]byte, macKeySize)
		_, _ = rand.Read(id) // never fails: crypto/rand aborts the program instead
		_, _ = rand.Read(plain)
		k.KID = hex.EncodeToString(id)
	case UseAccess:
		jwk, private, err := generateSigningKey(spec.alg)
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

// keyAAD returns the associated data of a stored key.
func keyAAD(kid string) []byte { return seal.AAD("signing_keys", "sealed", kid) }

// install opens the keys and replaces the ring's keys with them.
func (r *Ring) install(stored []StoredKey) error {
	remembered := r.mergeRetired(stored)
	s, err := r.open(remembered)
	if err != nil {
		return err
	}
	s.lostRetirement = !slices.EqualFunc(stored, remembered, func(a, b StoredKey) bool { return a.RetiredAt.Equal(b.RetiredAt) })
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
		row := *k
		row.Sealed = nil
		s.rows = append(s.rows, row)
		if !k.RetiredAt.IsZero() {
			continue
		}
		plain, err := r.sealer.Open(k.Sealed, keyAAD(k.KID))
		if err != nil {
			return nil, fmt.Errorf("keyring: open stored key %s: %w (check that the master key file is the one this database was set up with)", k.KID, err)
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
			// A newer release made it; this one does not use it.
		}
	}
	s.sort()
	return s, s.publish(set)
}

// publish prepares the JWK set.
func (s *snapshot) publish(set jwkSet) (err error) {
	if s.jwks, err = json.Marshal(set); err != nil {
		return fmt.Errorf("keyring: encode the JWK set: %w", err)
	}
	return nil
}

func (s *snapshot) addMAC(k *StoredKey, key []byte) error {
	id, err := hex.DecodeString(k.KID)
	if err != nil || len(id) != macIDSize || len(key) != macKeySize {
		return fmt.Errorf("keyring: key %s must be a MAC key: an id of %d bytes and a key of %d bytes", k.KID, macIDSize, macKeySize)
	}
	n := binary.BigEndian.Uint32(id)
	s.macByID[n] = key
	s.mac = append(s.mac, macKey{n, key, activeAt(k)})
	return nil
}

// addSigning adds a signing key and returns its public JWK, derived from the private
// key. The public key in the database is only compared, never trusted: otherwise an
// attacker who can write to the database could publish their own key.
func (s *snapshot) addSigning(k *StoredKey, private []byte) (JWK, error) {
	key, jwk, err := parseSigningKey(k.Alg, private)
	if err != nil {
		return JWK{}, fmt.Errorf("keyring: key %s: %w", k.KID, err)
	}
	var published JWK
	if err := json.Unmarshal(k.Public, &published); err != nil || published != jwk || jwk.KID != k.KID {
		return JWK{}, fmt.Errorf("keyring: key %s: the stored public key does not match the private key", k.KID)
	}
	s.verify[k.KID] = verificationKey{key.Public(), k.Alg}
	s.signing = append(s.signing, signingKey{token.SigningKey{KID: k.KID, Alg: k.Alg, Key: key}, activeAt(k)})
	return jwk, nil
}
