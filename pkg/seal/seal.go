// Package seal encrypts small secrets at rest: AppSecrets, session keys, signing
// and MAC keys.
//
// It owns the master-key ring, its file format, and the sealed format. It does
// not own the storage of sealed bytes, and it derives no tokens.
//
// A sealed value is
//
//	format (1 byte, 0x01) | master-key id (4 bytes) | nonce (12) | ciphertext | tag (16)
//
// sealed with AES-256-GCM. HKDF-SHA-256 derives a separate key from the master key
// for each associated data, so random nonces never run out, for any number of rows. The
// associated data name the table, the column and the row ([AAD]): a sealed value that is
// copied into another row does not open.
//
// Failure: the error for a value that does not open is [ErrOpen]; no part of the value is
// returned. A ring without keys cannot be made. The keys of a ring can be replaced while
// values are sealed and opened ([Ring.Replace]).
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// KeySize is the length of a master key in bytes.
const KeySize = 32

const (
	format    = 0x01
	keyIDSize = 4
	headSize  = 1 + keyIDSize
	// maxMasterKeys bounds a ring: more is a mistake, not a rotation.
	maxMasterKeys = 16
)

// Errors of this package.
var (
	// ErrMasterKey: the master-key file does not hold a ring.
	ErrMasterKey = errors.New("seal: bad master key file")
	// ErrOpen: the value was not sealed by a key of this ring with these
	// associated data, or was changed since.
	ErrOpen = errors.New("seal: the value cannot be opened")
)

// Ring seals with its first key and opens with all. It is safe for concurrent
// use.
type Ring struct {
	keys atomic.Pointer[[]masterKey]
}

type masterKey struct {
	id  [keyIDSize]byte
	key []byte
}

// NewRing makes a ring from keys of [KeySize] bytes each; the first seals.
func NewRing(keys ...[]byte) (*Ring, error) {
	if len(keys) == 0 || len(keys) > maxMasterKeys {
		return nil, fmt.Errorf("%w: it must have 1 to %[3]d keys, got %[2]d", ErrMasterKey, len(keys), maxMasterKeys)
	}
	var ring []masterKey
	for i, k := range keys {
		if len(k) != KeySize {
			return nil, fmt.Errorf("%w: key %d has %d bytes, want %d", ErrMasterKey, i+1, len(k), KeySize)
		}
		// The id is derived separately from all sealing keys and reveals nothing of them.
		id, err := hkdf.Key(sha256.New, k, nil, "yufu master key id", keyIDSize)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMasterKey, err)
		}
		mk := masterKey{id: [keyIDSize]byte(id), key: slices.Clone(k)}
		if slices.ContainsFunc(ring, func(other masterKey) bool { return other.id == mk.id }) {
			return nil, fmt.Errorf("%w: key %d is repeated", ErrMasterKey, i+1)
		}
		ring = append(ring, mk)
	}
	r := &Ring{}
	r.keys.Store(&ring)
	return r, nil
}

// Replace replaces the keys of the ring with those of other. Values that only the old
// keys open no longer open.
func (r *Ring) Replace(other *Ring) { r.keys.Store(other.keys.Load()) }

// Fingerprints returns the ids of the ring's keys in hex, in the order of the keys. An id
// reveals nothing of its key.
func (r *Ring) Fingerprints() []string {
	var ids []string
	for _, mk := range *r.keys.Load() {
		ids = append(ids, hex.EncodeToString(mk.id[:]))
	}
	return ids
}

// Fingerprint returns the id in hex of the key that sealed a value, or "" if the value
// does not have the form of a sealed value. The value may still not open.
func Fingerprint(sealed []byte) string {
	if len(sealed) < headSize || sealed[0] != format {
		return ""
	}
	return hex.EncodeToString(sealed[1:headSize])
}

// ParseRing parses the master-key file: base64 keys of 32 bytes, one per line; the
// first seals. White space around a line, empty lines and lines that begin
// with # are ignored. Errors name the line, never its content.
func ParseRing(file []byte) (*Ring, error) {
	var keys [][]byte
	for i, line := range strings.Split(string(bytes.TrimPrefix(file, []byte("\ufeff"))), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(k) != KeySize {
			return nil, fmt.Errorf("%w: line %d must be the base64 of %d bytes", ErrMasterKey, i+1, KeySize)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: it is empty; write one with: openssl rand -base64 %d", ErrMasterKey, KeySize)
	}
	return NewRing(keys...)
}

// GenerateFile returns the content of a master-key file with one new key.
func GenerateFile() []byte {
	k := make([]byte, KeySize)
	_, _ = rand.Read(k) // never fails: crypto/rand aborts the program instead
	return append(base64.StdEncoding.AppendEncode(nil, k), '\n')
}

// Seal seals plaintext for the place that aad names.
func (r *Ring) Seal(plaintext, aad []byte) ([]byte, error) {
	mk := (*r.keys.Load())[0]
	aead, err := mk.aead(aad)
	if err != nil {
		return nil, err
	}
	out := make([]byte, headSize, headSize+len(plaintext)+aead.Overhead())
	out[0] = format
	copy(out[1:], mk.id[:])
	return aead.Seal(out, nil, plaintext, aad), nil
}

// Open returns what was sealed for the place that aad names, or [ErrOpen].
func (r *Ring) Open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < headSize || sealed[0] != format {
		return nil, fmt.Errorf("%w: not a sealed value", ErrOpen)
	}
	id := [keyIDSize]byte(sealed[1:headSize])
	keys := *r.keys.Load()
	i := slices.IndexFunc(keys, func(mk masterKey) bool { return mk.id == id })
	if i < 0 {
		return nil, fmt.Errorf("%w: its master key is not in the master key file", ErrOpen)
	}
	aead, err := keys[i].aead(aad)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, sealed[headSize:], aad)
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, or it belongs to another row", ErrOpen)
	}
	return plaintext, nil
}

func (mk masterKey) aead(aad []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, mk.key, nil, "yufu seal v1\x00"+string(aad), KeySize)
	if err != nil {
		return nil, fmt.Errorf("seal: derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// AAD returns the associated data that name the place of a sealed value: table, column,
// then the key of the row. Parts are length-prefixed, so no two places share a name.
func AAD(table, column string, row ...string) []byte {
	var b []byte
	for _, part := range append([]string{table, column}, row...) {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}
