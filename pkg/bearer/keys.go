package bearer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
)

// verificationKey is a public key and the one algorithm it is for.
type verificationKey struct {
	alg string
	key crypto.PublicKey
}

// keySource provides verification keys. Implemented by [remoteKeys] and [localKeys].
type keySource interface {
	// find returns a known key. It does no I/O.
	find(kid string) (verificationKey, bool)
	// await returns a key that find does not know. It may fetch the issuer's keys, within
	// limits. It returns errUnknownKey if the issuer has no such key, and an error that
	// wraps ErrStale if the issuer does not answer.
	await(ctx context.Context, kid string) (verificationKey, error)
}

// equal reports whether the keys and their algorithms are equal.
func (k verificationKey) equal(other verificationKey) bool {
	if k.alg != other.alg {
		return false
	}
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		o, ok := other.key.(*ecdsa.PublicKey)
		return ok && (key == o || key.Equal(o))
	case *rsa.PublicKey:
		o, ok := other.key.(*rsa.PublicKey)
		return ok && (key == o || key.Equal(o))
	case ed25519.PublicKey:
		return key.Equal(other.key)
	default:
		return false
	}
}

// valid reports whether the key has the kind and strength that its algorithm requires.
func (k verificationKey) valid() bool {
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		return k.alg == "ES256" && key != nil && key.Curve == elliptic.P256()
	case *rsa.PublicKey:
		return k.alg == "RS256" && key != nil && key.N != nil && key.N.BitLen() >= minRSA && key.N.BitLen() <= maxRSA
	case ed25519.PublicKey:
		return k.alg == "EdDSA" && len(key) == ed25519.PublicKeySize
	default:
		return false
	}
}

// The bounds of RSA keys, in bits: smaller keys are weak, larger ones slow.
const (
	minRSA = 2048
	maxRSA = 8192
)

// localKeys looks keys up in the caller's memory: those of the service itself.
type localKeys func(kid string) (key crypto.PublicKey, alg string, ok bool)

func (l localKeys) find(kid string) (verificationKey, bool) {
	key, alg, ok := l(kid)
	k := verificationKey{alg, key}
	return k, ok && k.valid()
}

func (l localKeys) await(context.Context, string) (verificationKey, error) {
	return verificationKey{}, errUnknownKey
}
