package keyring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestThumbprint(t *testing.T) {
	t.Parallel()
	const (
		x = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"
		y = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
		// Computed with another program by RFC 7638 §3.1.
		want = "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
	)
	t.Run("the key of RFC 7517 A.1 has the known thumbprint", func(t *testing.T) {
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
			t.Errorf("publicJWK() = %+v", got)
		}
	})
	t.Run("members that are not required do not matter", func(t *testing.T) {
		t.Parallel()
		k := JWK{KeyType: "EC", Curve: "P-256", X: x, Y: y, KID: "another", Use: "enc", Algorithm: "ECDH-ES"}
		if got, err := k.thumbprint(); err != nil || got != want {
			t.Errorf("thumbprint() = %q, %v, want %q", got, err, want)
		}
	})
}

// The examples of RFC 7638 §3.1 and RFC 8037 A.3.
func TestThumbprintsOfTheRFCs(t *testing.T) {
	t.Parallel()
	for want, k := range map[string]JWK{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": {
			KeyType: "RSA", Exponent: "AQAB", Algorithm: "RS256", KID: "2011-04-29",
			Modulus: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
		},
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": {
			KeyType: "OKP", Curve: "Ed25519", X: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
		},
	} {
		if got, err := k.thumbprint(); err != nil || got != want {
			t.Errorf("thumbprint() = %q, %v, want %q", got, err, want)
		}
	}
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	for _, alg := range auth.SigningAlgs() {
		jwk, private, err := generateSigningKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		_, again, err := parseSigningKey(alg, private)
		if err != nil || again != jwk || jwk.Algorithm != alg || jwk.Use != "sig" {
			t.Errorf("%s: %+v is read as %+v, %v", alg, jwk, again, err)
		}
		for _, other := range auth.SigningAlgs() {
			if _, _, err := parseSigningKey(other, private); (err == nil) != (other == alg) {
				t.Errorf("a key for %s read as one for %s: %v", alg, other, err)
			}
		}
	}
	t.Run("keys of an unknown algorithm are refused", func(t *testing.T) {
		t.Parallel()
		for _, alg := range []string{"", "none", "HS256"} {
			if _, _, err := generateSigningKey(alg); err == nil {
				t.Errorf("generateSigningKey(%q) error = nil", alg)
			}
		}
	})
	t.Run("short RSA keys are refused", func(t *testing.T) {
		t.Parallel()
		short, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(short)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := parseSigningKey(algRS256, private); err == nil {
			t.Error("parseSigningKey() accepts an RSA key of 1024 bits")
		}
	})
}
