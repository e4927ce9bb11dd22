package bearertest_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

func TestToken(t *testing.T) {
	t.Parallel()
	yufu := bearertest.New(t)
	ctx := context.Background()
	t.Run("uses the given claims and fills in the others", func(t *testing.T) {
		t.Parallel()
		kid := yufu.RotateKey()
		issued := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
		want := bearer.Claims{
			Issuer: yufu.URL, Subject: bearertest.UUID(), Audience: []string{"shop"}, App: "wxa", IssuedAt: issued, ExpiresAt: issued.Add(time.Hour),
			ID: "id", Session: bearertest.UUID(), Ver: 7, Epoch: 8, Bound: true, Person: bearertest.UUID(), KeyID: kid,
		}
		got, err := yufu.Verifier("shop").Verify(ctx, yufu.Token(want))
		want.Audience = []string{yufu.URL, "shop"}
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("Verify() = %+v, %v, want %+v", got, err, want)
		}
		a, errA := yufu.Verifier().Verify(ctx, yufu.Token(bearer.Claims{}))
		b, errB := yufu.Verifier().Verify(ctx, yufu.Token(bearer.Claims{Bound: true}))
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.App != bearertest.App || a.Ver != 1 || a.Epoch != 1 || a.Bound || !b.Bound || b.Person == "" || a.Subject == b.Subject || a.Session == b.Session || a.ID == b.ID {
			t.Errorf("default claims = %+v and %+v", a, b)
		}
	})
	t.Run("expires at the given time", func(t *testing.T) {
		t.Parallel()
		for _, c := range []bearer.Claims{{ExpiresAt: time.Now()}, {IssuedAt: time.Now().Add(-10 * time.Minute)}} {
			if _, err := yufu.Verifier().Verify(ctx, yufu.Token(c)); !errors.Is(err, bearer.ErrExpired) {
				t.Errorf("Verify() of claims %+v: error = %v, want ErrExpired", c, err)
			}
		}
	})
}

// TestServer checks that changes at the double take effect at once for the verifiers that
// read its memory.
func TestServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do    func(s *bearertest.Server, c *bearer.Claims)
		want  error
		other error // for another user's token
	}{
		"RevokeSession": {func(s *bearertest.Server, c *bearer.Claims) { s.RevokeSession(c.Session) }, bearer.ErrRevoked, nil},
		"Revoke": {func(s *bearertest.Server, c *bearer.Claims) {
			s.Revoke(cutoff.Cutoff{Kind: cutoff.KindSession, Session: c.Session, Ver: c.Ver + 1})
		}, bearer.ErrRevoked, nil},
		"RevokeApp":   {func(s *bearertest.Server, c *bearer.Claims) { s.RevokeApp(c.App, c.Epoch+1) }, bearer.ErrRevoked, bearer.ErrRevoked},
		"RevokeKey":   {func(s *bearertest.Server, c *bearer.Claims) { s.RevokeKey(c.KeyID) }, bearer.ErrRevoked, bearer.ErrRevoked},
		"RotateKey":   {func(s *bearertest.Server, _ *bearer.Claims) { s.RotateKey() }, nil, nil},
		"WithdrawKey": {func(s *bearertest.Server, c *bearer.Claims) { s.WithdrawKey(c.KeyID) }, bearer.ErrInvalid, bearer.ErrInvalid},
		"SetAge":      {func(s *bearertest.Server, _ *bearer.Claims) { s.SetAge(time.Minute) }, bearer.ErrStale, bearer.ErrStale},
		"Disconnect":  {func(s *bearertest.Server, _ *bearer.Claims) { s.Disconnect() }, nil, nil},
		"Restore":     {func(s *bearertest.Server, _ *bearer.Claims) { s.Restore() }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			yufu := bearertest.New(t)
			v := yufu.Verifier()
			token, other := yufu.Token(bearer.Claims{}), yufu.Token(bearer.Claims{})
			claims, err := v.Verify(context.Background(), token)
			if err != nil {
				t.Fatal(err)
			}
			c.do(yufu, claims)
			if _, err := v.Verify(context.Background(), token); !errors.Is(err, c.want) {
				t.Errorf("Verify() of the token: error = %v, want %v", err, c.want)
			}
			if _, err := v.Verify(context.Background(), other); !errors.Is(err, c.other) {
				t.Errorf("Verify() of another token: error = %v, want %v", err, c.other)
			}
		})
	}
}
