package keyring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"testing"
)

func TestThumbprint(t *testing.T) {
	t.Parallel()
	const (
		x = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"
		y = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
		// Computed apart from this program, as RFC 7638 §3.1 says.
		want = "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
	)
	t.Run("that of the key of RFC 7517 A.1 is the known one", func(t *testing.T) {
		t.Parallel()
		point := []byte{4}
		for _, half := range []string{x, y} {
			b, err := base64.RawURLEncoding.DecodeString(half)
			if err != nil {
				t.Fatal(err)
			}
			point = append(point, b...)
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			t.Fatal(err)
		}
		got, err := publicJWK(pub)
		if err != nil {
			t.Fatal(err)
		}
		if got != (JWK{KeyType: "EC", Curve: "P-256", X: x, Y: y, KID: want, Use: "sig", Algorithm: "ES256"}) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("it does not depend on the members that are not required", func(t *testing.T) {
		t.Parallel()
		k := JWK{KeyType: "EC", Curve: "P-256", X: x, Y: y, KID: "another", Use: "enc", Algorithm: "ECDH-ES"}
		if got, err := k.thumbprint(); err != nil || got != want {
			t.Errorf("%q, %v", got, err)
		}
	})
}
