package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/token"
)

// TestRememberIn uses a verifier that knows another key by the kid of the minter's key: it
// accepts a token only if it does not check the signature.
func TestRememberIn(t *testing.T) {
	t.Parallel()
	set := cutoff.NewSet()
	newVerifier := func() *token.Verifier {
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		v, err := token.NewVerifier(bearer.Local{
			Issuer: issuer, Cutoffs: set, Clock: func() time.Time { return now },
			Keys: func(string) (crypto.PublicKey, string, bool) { return other.Public(), "ES256", true },
		})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	mine, another := newVerifier(), newVerifier()
	m := minter(t, 10*time.Minute)
	s := boundSession()
	mint := func() string {
		signed, _, err := m.Mint(s, []string{"orders"}, "", now)
		if err != nil {
			t.Fatal(err)
		}
		return signed.Reveal()
	}
	before := mint()
	m.RememberIn(mine)
	minted := mint()
	t.Run("the verifier has not checked the signature of a minted token", func(t *testing.T) {
		c, err := mine.Verify(t.Context(), minted)
		if err != nil || c.Session != s.ID || c.Person == nil || *c.Person != s.Person.ID || c.ExternalID != s.Person.ExternalID {
			t.Errorf("Verify() = %+v, %v, want the claims of the session", c, err)
		}
	})
	t.Run("the signatures of other tokens are checked", func(t *testing.T) {
		for name, c := range map[string]struct {
			verifier *token.Verifier
			token    string
		}{
			"a token from before RememberIn":   {mine, before},
			"a minted token, another verifier": {another, minted},
		} {
			if _, err := c.verifier.Verify(t.Context(), c.token); auth.CodeOf(err) != auth.TokenInvalid {
				t.Errorf("%s: Verify() error = %v, want %v", name, err, auth.TokenInvalid)
			}
		}
		if _, err := mine.VerifyExpired(t.Context(), minted); auth.CodeOf(err) != auth.TokenInvalid {
			t.Errorf("VerifyExpired() error = %v, want %v", err, auth.TokenInvalid)
		}
	})
	t.Run("a cutoff hits a minted token", func(t *testing.T) {
		set.Add(cutoff.Cutoff{Kind: cutoff.KindSession, Session: s.ID.String()}, now)
		if _, err := mine.Verify(t.Context(), minted); auth.CodeOf(err) != auth.SessionRevoked {
			t.Errorf("Verify() error = %v, want %v", err, auth.SessionRevoked)
		}
	})
}
