package bearer

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxKeys bounds a key set.
const maxKeys = 100

// jwk is one key of a set (RFC 7517, RFC 7518 §6, RFC 8037).
type jwk struct {
	KeyType    string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	KID        string   `json:"kid"`
	Curve      string   `json:"crv"`
	X          string   `json:"x"`
	Y          string   `json:"y"`
	N          string   `json:"n"`
	E          string   `json:"e"`
	// Members that only private or secret keys have.
	D json.RawMessage `json:"d"`
	K json.RawMessage `json:"k"`
}

// parseKeySet reads a JWK set. It returns the keys that may verify access tokens and
// skips the others: keys for other uses, of other kinds, too weak, or not public. skipped
// names each with the reason.
//
// It fails for a set that is malformed, too large, ambiguous, or without a usable key.
func parseKeySet(data []byte, algorithms []string) (keys map[string]verificationKey, skipped []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, nil, errors.New("bearer: the key set is not JSON")
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("bearer: the key set has %d keys, more than %d", len(set.Keys), maxKeys)
	}
	keys = map[string]verificationKey{}
	for i, raw := range set.Keys {
		var k jwk
		if err := json.Unmarshal(raw, &k); err != nil {
			skipped = append(skipped, fmt.Errorf("key %d is not a JWK", i))
			continue
		}
		key, err := k.parse()
		if err == nil && !slices.Contains(algorithms, key.alg) {
			err = fmt.Errorf("the algorithm %s is not allowed", key.alg)
		}
		if err != nil {
			skipped = append(skipped, fmt.Errorf("key %d: %w", i, err))
			continue
		}
		if _, twice := keys[k.KID]; twice {
			return nil, nil, fmt.Errorf("bearer: the key set repeats a kid at key %d", i)
		}
		keys[k.KID] = key
	}
	if len(keys) == 0 {
		return nil, skipped, errors.New("bearer: the key set has no usable key")
	}
	return keys, skipped, nil
}

// parse returns the key for its one algorithm. The errors contain nothing that could be
// secret.
func (k *jwk) parse() (verificationKey, error) {
	switch {
	case k.KID == "" || len(k.KID) > maxKeyID:
		return verificationKey{}, errors.New("the kid is missing or too long")
	case k.D != nil || k.K != nil:
		return verificationKey{}, errors.New("the key set contains a private key; replace that key")
	case k.Use != "" && k.Use != "sig":
		return verificationKey{}, errors.New(`use is not "sig"`)
	case k.Operations != nil && !slices.Contains(k.Operations, "verify"):
		return verificationKey{}, errors.New(`key_ops does not include "verify"`)
	}
	var key verificationKey
	var err error
	switch {
	case k.KeyType == "EC" && k.Curve == "P-256":
		key, err = k.ecdsa()
	case k.KeyType == "OKP" && k.Curve == "Ed25519":
		key, err = k.ed25519()
	case k.KeyType == "RSA":
		key, err = k.rsa()
	default:
		return verificationKey{}, errors.New("kty or crv is not supported")
	}
	if err != nil {
		return verificationKey{}, err
	}
	// RFC 9864 gives EdDSA with Ed25519 its own name.
	if k.Algorithm != "" && k.Algorithm != key.alg && (k.Algorithm != "Ed25519" || key.alg != "EdDSA") {
		return verificationKey{}, errors.New("alg does not match the key type")
	}
	return key, nil
}

func (k *jwk) ecdsa() (verificationKey, error) {
	x, errX := decode(k.X)
	y, errY := decode(k.Y)
	if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
		return verificationKey{}, errors.New("x or y is invalid")
	}
	// ecdh checks whether the point is on the curve.
	if _, err := ecdh.P256().NewPublicKey(slices.Concat([]byte{4}, x, y)); err != nil {
		return verificationKey{}, errors.New("the point is not on the curve")
	}
	return verificationKey{"ES256", &ecdsa.PublicKey{
		Curve: elliptic.P256(),
		X:     new(big.Int).SetBytes(x),
		Y:     new(big.Int).SetBytes(y),
	}}, nil
}

func (k *jwk) ed25519() (verificationKey, error) {
	x, err := decode(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return verificationKey{}, errors.New("x is invalid")
	}
	return verificationKey{"EdDSA", ed25519.PublicKey(x)}, nil
}

func (k *jwk) rsa() (verificationKey, error) {
	n, errN := decode(k.N)
	e, errE := decode(k.E)
	if errN != nil || errE != nil || len(n) > maxRSA/8 || len(e) > 4 {
		return verificationKey{}, errors.New("n or e is invalid")
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e).Int64()
	if modulus.BitLen() < minRSA || modulus.Bit(0) == 0 {
		return verificationKey{}, errors.New("the modulus is even or too short")
	}
	if exponent < 3 || exponent%2 == 0 || exponent > 1<<31-1 {
		return verificationKey{}, errors.New("the exponent must be odd and between 3 and 2^31-1")
	}
	return verificationKey{"RS256", &rsa.PublicKey{N: modulus, E: int(exponent)}}, nil
}

func decode(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
