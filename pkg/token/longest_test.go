package token_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/token"
)

// Verifiers accept the longest token that the service can mint, with any audiences of the
// app and any external_id.
func TestLongestToken(t *testing.T) {
	t.Parallel()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := keySet{strings.Repeat("k", 43): {KID: strings.Repeat("k", 43), Alg: "RS256", Key: private}}
	m, err := token.NewMinter(keys, issuer, auth.MaxAccessTokenTTL)
	if err != nil {
		t.Fatal(err)
	}
	var audiences []string
	for i := range auth.MaxAudiences {
		audiences = append(audiences, fmt.Sprintf("%0*d", auth.MaxAudienceLen, i))
	}
	if err := auth.CheckAudiences(audiences); err != nil {
		t.Fatal(err)
	}
	v, err := token.NewVerifier(bearer.Local{Issuer: issuer, Keys: keys.VerificationKey, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"<", "&", "\U0010fffd"} {
		s := boundSession()
		s.AppID = strings.Repeat("w", 64)
		s.Person.ExternalID = strings.Repeat(r, auth.MaxExternalIDLen)
		id, err := auth.CleanExternalID(s.Person.ExternalID)
		if err != nil || id != s.Person.ExternalID {
			t.Fatalf("CleanExternalID() with %q: error = %v", r, err)
		}
		minted, _, err := m.Mint(s, audiences, "RS256", now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := v.Verify(t.Context(), minted.Reveal())
		if err != nil || c.ExternalID != s.Person.ExternalID {
			t.Errorf("Verify() with an external_id of %q, %d bytes: error = %v", r, len(minted), err)
		}
	}
}
