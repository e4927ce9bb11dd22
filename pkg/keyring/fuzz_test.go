package keyring

import (
	"encoding/json"
	"testing"
)

// FuzzStoredKey checks for all rows: a signing key is installed only with its own public
// key and under its own thumbprint, and a MAC key only under eight digits and with its
// full length.
func FuzzStoredKey(f *testing.F) {
	jwk, private, err := generateSigningKey(algES256)
	if err != nil {
		f.Fatal(err)
	}
	public, err := json.Marshal(jwk)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(jwk.KID, algES256, private, public)
	f.Add("0000002a", "HS256", make([]byte, 32), []byte(nil))
	f.Fuzz(func(t *testing.T, kid, alg string, private, public []byte) {
		row := &StoredKey{KID: kid, Use: UseAccess, Alg: alg, Public: public}
		s := &snapshot{verify: map[string]verificationKey{}, macByID: map[uint32][]byte{}}
		switch published, err := s.addSigning(row, private); {
		case err != nil && len(s.verify) != 0:
			t.Fatalf("a key was installed in spite of the error %v", err)
		case err == nil:
			_, own, err := parseSigningKey(alg, private)
			if err != nil || own != published || own.KID != kid || alg != algES256 {
				t.Fatalf("%q is installed as %+v, want %+v, %v", kid, published, own, err)
			}
			if key, ok := s.verify[kid]; !ok || len(s.verify) != 1 || key.alg != alg {
				t.Fatalf("%q is not installed as the only key of algorithm %s", kid, alg)
			}
		}
		row.Use = UseRefresh
		switch err := s.addMAC(row, private); {
		case err != nil && len(s.macByID) != 0:
			t.Fatalf("a key was installed in spite of the error %v", err)
		case err == nil && (len(kid) != 8 || len(private) != macKeySize || len(s.macByID) != 1):
			t.Fatalf("a MAC key of %d bytes is installed as %q", len(private), kid)
		}
	})
}
