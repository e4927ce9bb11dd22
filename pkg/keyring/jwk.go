package keyring

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// JWK is a public key as published (RFC 7517, RFC 7518 §6, RFC 8037 §2). It has
// no private members, so it cannot leak any.
type JWK struct {
	KeyType string `json:"kty"`
	// Curve, X and Y belong to elliptic curves; Ed25519 has no Y.
	Curve string `json:"crv,omitempty"`
	X     string `json:"x,omitempty"`
	Y     string `json:"y,omitempty"`
	// Modulus and Exponent belong to RSA.
	Modulus  string `json:"n,omitempty"`
	Exponent string `json:"e,omitempty"`
	// KID is the key's RFC 7638 SHA-256 thumbprint.
	KID       string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

type jwkSet struct {
	Keys []JWK `json:"keys"`
}

const (
	algES256 = "ES256"
	algEdDSA = "EdDSA"
	algRS256 = "RS256"
)

// rsaBits is the size of new RSA keys. NIST SP 800-57 accepts it until 2030, and each
// key is retired much earlier.
const rsaBits = 2048

// generateSigningKey returns a new key as its public JWK and its PKCS #8 form.
// Its kid does not begin with a hyphen, because a command line would take it for a flag.
func generateSigningKey(alg string) (JWK, []byte, error) {
	for {
		jwk, private, err := generateAnyKey(alg)
		if err != nil || jwk.KID[0] != '-' {
			return jwk, private, err
		}
	}
}

func generateAnyKey(alg string) (JWK, []byte, error) {
	var (
		key crypto.Signer
		err error
	)
	switch alg {
	case algES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case algEdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case algRS256:
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		return JWK{}, nil, fmt.Errorf("keyring: unknown algorithm %q", alg)
	}
	if err != nil {
		return JWK{}, nil, fmt.Errorf("keyring: generate %s: %w", alg, err)
	}
	jwk, err := publicJWK(key.Public())
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
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, JWK{}, fmt.Errorf("not a key for %s", alg)
	}
	jwk, err := publicJWK(key.Public())
	if err != nil || jwk.Algorithm != alg {
		return nil, JWK{}, fmt.Errorf("not a key for %s", alg)
	}
	return key, jwk, nil
}

// publicJWK returns the JWK of a public key, or an error if no algorithm of ours uses
// such keys.
func publicJWK(public crypto.PublicKey) (JWK, error) {
	k := JWK{Use: "sig"}
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return JWK{}, errors.New("keyring: the curve must be P-256")
		}
		point, err := key.Bytes() // 0x04, X, Y
		if err != nil {
			return JWK{}, fmt.Errorf("keyring: encode public key: %w", err)
		}
		half := (len(point) - 1) / 2
		k.KeyType, k.Curve, k.Algorithm = "EC", "P-256", algES256
		k.X, k.Y = base64url(point[1:1+half]), base64url(point[1+half:])
	case ed25519.PublicKey:
		k.KeyType, k.Curve, k.Algorithm = "OKP", "Ed25519", algEdDSA
		k.X = base64url(key)
	case *rsa.PublicKey:
		if key.N.BitLen() < rsaBits {
			return JWK{}, fmt.Errorf("keyring: the RSA key must have at least %d bits", rsaBits)
		}
		k.KeyType, k.Algorithm = "RSA", algRS256
		k.Modulus, k.Exponent = base64url(key.N.Bytes()), base64url(big.NewInt(int64(key.E)).Bytes())
	default:
		return JWK{}, errors.New("keyring: unsupported kind of key")
	}
	var err error
	k.KID, err = k.thumbprint()
	return k, err
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// thumbprint returns the RFC 7638 thumbprint: the SHA-256 of only the members that
// RFC 7638 §3.2 and RFC 8037 §2 require for the kind of key, in lexicographic order,
// without white space.
func (k *JWK) thumbprint() (string, error) {
	b, err := json.Marshal(struct {
		Curve    string `json:"crv,omitempty"`
		Exponent string `json:"e,omitempty"`
		KeyType  string `json:"kty"`
		Modulus  string `json:"n,omitempty"`
		X        string `json:"x,omitempty"`
		Y        string `json:"y,omitempty"`
	}{k.Curve, k.Exponent, k.KeyType, k.Modulus, k.X, k.Y})
	if err != nil {
		return "", fmt.Errorf("keyring: thumbprint: %w", err)
	}
	sum := sha256.Sum256(b)
	return base64url(sum[:]), nil
}

// sort orders the keys by ActiveAt, so that the current key is the last active one.
func (s *snapshot) sort() {
	slices.SortStableFunc(s.signing, func(a, b signingKey) int {
		return cmp.Or(a.activeAt.Compare(b.activeAt), cmp.Compare(a.KID, b.KID))
	})
	slices.SortStableFunc(s.mac, func(a, b macKey) int {
		return cmp.Or(a.activeAt.Compare(b.activeAt), cmp.Compare(a.id, b.id))
	})
}
