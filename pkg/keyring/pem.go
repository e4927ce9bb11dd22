package keyring

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// PEM returns the published keys as public keys in PEM (RFC 7468 §13), by kid.
func (r *Ring) PEM() (map[string][]byte, error) {
	keys := r.keys.Load().verify
	out := make(map[string][]byte, len(keys))
	for kid, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k.key)
		if err != nil {
			return nil, fmt.Errorf("keyring: key %s: %w", kid, err)
		}
		out[kid] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return out, nil
}
