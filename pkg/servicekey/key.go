package servicekey

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Prefix starts every service key, so that secret scanners find leaked ones.
const Prefix = "yfk_"

const (
	idLen      = 16
	secretSize = 32
	secretLen  = 43 // of secretSize bytes in base64url, without padding
	keyLen     = len(Prefix) + idLen + 1 + secretLen
)

// Presented is a service key that a client presents. It is well-formed, but not yet
// verified.
type Presented struct {
	ID     string
	Secret auth.Secret
}

// Parse parses yfk_<id>_<secret>, or returns [auth.ServiceKeyInvalid].
// [Presented.Key] of the result is identical to key.
func Parse(key auth.Secret) (Presented, error) {
	s := key.Reveal()
	if len(s) != keyLen || s[:len(Prefix)] != Prefix || s[len(Prefix)+idLen] != '_' {
		return Presented{}, auth.ServiceKeyInvalid
	}
	return New(s[len(Prefix):len(Prefix)+idLen], auth.Secret(s[len(Prefix)+idLen+1:]))
}

// strictBase64 decodes only texts that it would encode identically.
var strictBase64 = base64.RawURLEncoding.Strict()

// New returns the key of an id and a secret that came separately, as in HTTP Basic. It
// returns [auth.ServiceKeyInvalid] when one of them is not well-formed.
func New(id string, secret auth.Secret) (Presented, error) {
	s := secret.Reveal()
	if !ValidID(id) || len(s) != secretLen || strings.ContainsAny(s, "\r\n") {
		return Presented{}, auth.ServiceKeyInvalid
	}
	if _, err := strictBase64.DecodeString(s); err != nil {
		return Presented{}, auth.ServiceKeyInvalid
	}
	return Presented{ID: id, Secret: secret}, nil
}

// Key returns the key as text.
func (p Presented) Key() auth.Secret {
	return auth.Secret(Prefix + p.ID + "_" + p.Secret.Reveal())
}

// Hash returns the SHA-256 of the secret's text, which the store keeps.
func (p Presented) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(p.Secret.Reveal())) }

// ValidID reports whether s has the form of a key's id: [0-9a-z]{16}.
func ValidID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return true
}

// generate returns a new random key.
func generate() Presented {
	var secret [secretSize]byte
	_, _ = rand.Read(secret[:]) // never fails
	return Presented{
		ID:     strings.ToLower(rand.Text()[:idLen]), // 80 bits: an id is unique, and no secret
		Secret: auth.Secret(base64.RawURLEncoding.EncodeToString(secret[:])),
	}
}

// Generate makes a new key from a checked draft. Only the second result holds the
// secret.
func Generate(d Draft, now time.Time) (Key, Presented) {
	p := generate()
	return Key{
		ID: p.ID, Name: d.Name, Scopes: d.Scopes, Apps: d.Apps, Hash: p.Hash(),
		CreatedAt: now.UTC().Truncate(time.Microsecond), ExpiresAt: d.ExpiresAt,
	}, p
}
