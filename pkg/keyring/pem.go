package keyring

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// PEM returns the published keys, in the order of the JWK set, as public keys in
// PEM (RFC 7468 §13). A line that begins with # precedes each key and names its kid and
// alg.
func (r *Ring) PEM() ([]byte, error) {
	s := r.keys.Load()
	var out bytes.Buffer
	for i := range s.rows {
		kid := s.rows[i].KID
		k, published := s.verify[kid]
		if !published {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(k.key)
		if err != nil {
			return nil, fmt.Errorf("keyring: key %s: %w", kid, err)
		}
		fmt.Fprintf(&out, "# kid %s, alg %s\n", kid, k.alg)
		_ = pem.Encode(&out, &pem.Block{Type: "PUBLIC KEY", Bytes: der}) // a buffer takes all
	}
	return out.Bytes(), nil
}
