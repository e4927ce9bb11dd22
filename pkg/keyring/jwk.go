package keyring

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// JWK is a public key as published (RFC 7517, RFC 7518 §6.2). It has no
// private members to leak.
type JWK struct {
	KeyType string `json:"kty"`
	Curve   string `json:"crv"`
	X       string `json:"x"`
	Y       string `json:"y"`
	// KID is the key's RFC 7638 SHA-256 thumbprint.
	KID       string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

type jwkSet struct {
	Keys []JWK `json:"keys"`
}

const algES256 = "ES256"

// generateSigningKey returns a new key as its public JWK and its PKCS #8 form.
func generateSigningKey(alg string) (JWK, []byte, error) {
	if alg != algES256 {
		return JWK{}, nil, fmt.Errorf("keyring: unknown algorithm %q", alg)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return JWK{}, nil, fmt.Errorf("keyring: generate %s: %w", alg, err)
	}
	jwk, err := publicJWK(&key.PublicKey)
	if err != nil {
		return JWK{}, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return JWK{}, nil, fmt.Errorf("keyring: encode %s: %w", alg, err)
	}
	return jwk, private, nil
}

// parseSigningKey reads a PKCS #8 private key and derives its public JWK.
func parseSigningKey(alg string, private []byte) (crypto.Signer, JWK, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return nil, JWK{}, errors.New("not a PKCS #8 private key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || alg != algES256 || key.Curve != elliptic.P256() {
		return nil, JWK{}, fmt.Errorf("not a key for %s", alg)
	}
	jwk, err := publicJWK(&key.PublicKey)
	return key, jwk, err
}

func publicJWK(pub *ecdsa.PublicKey) (JWK, error) {
	point, err := pub.Bytes() // 0x04, X, Y
	if err != nil {
		return JWK{}, fmt.Errorf("keyring: encode public key: %w", err)
	}
	half := (len(point) - 1) / 2
	k := JWK{
		KeyType:   "EC",
		Curve:     "P-256",
		X:         base64.RawURLEncoding.EncodeToString(point[1 : 1+half]),
		Y:         base64.RawURLEncoding.EncodeToString(point[1+half:]),
		Use:       "sig",
		Algorithm: algES256,
	}
	k.KID, err = k.thumbprint()
	return k, err
}

// thumbprint returns the RFC 7638 thumbprint: the SHA-256 of the required
// members alone, in lexicographic order, without white space.
func (k *JWK) thumbprint() (string, error) {
	b, err := json.Marshal(struct {
		Curve   string `json:"crv"`
		KeyType string `json:"kty"`
		X       string `json:"x"`
		Y       string `json:"y"`
	}{k.Curve, k.KeyType, k.X, k.Y})
	if err != nil {
		return "", fmt.Errorf("keyring: thumbprint: %w", err)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// sort orders the keys by their first use, so that the current one is the last
// that is active.
func (s *snapshot) sort() {
	slices.SortStableFunc(s.signing, func(a, b signingKey) int {
		return cmp.Or(a.activeAt.Compare(b.activeAt), cmp.Compare(a.KID, b.KID))
	})
	slices.SortStableFunc(s.mac, func(a, b macKey) int {
		return cmp.Or(a.activeAt.Compare(b.activeAt), cmp.Compare(a.id, b.id))
	})
}
